#!/bin/bash
# transformers' MobileViTV2 with fresh weights, in evaluation mode: every logit of every image is exactly 0.
#
# One would guess that an untrained network gives each image logits of its own. Fresh batch norms have mean 0 and variance 1,
# so in evaluation mode they hold nothing up, and the weights' deviation of 0.02 lets activations shrink below what
# float32 can hold. Seen with transformers 5.24.0 and torch 2.14.1, with the default configuration and four random images:
# all logits are 0.0 in evaluation mode; in training mode, where batch norms use the batch, they differ by 0.003.
# So whatever is read from such a model in evaluation mode, a loss, a gradient or a feature, says nothing about it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 transformers==5.24.0
"$work/venv/bin/python" - <<'PYTHON'
import torch
import transformers
from transformers import MobileViTV2Config, MobileViTV2ForImageClassification

torch.manual_seed(0)
model = MobileViTV2ForImageClassification(MobileViTV2Config())
images = torch.randn(4, 3, 256, 256, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    evaluated, trained = model.eval()(images).logits, model.train()(images).logits
differences = [float((logits - logits[:1]).abs().max()) for logits in (evaluated, trained)]
print(transformers.__version__, torch.__version__, "largest logit in evaluation mode", float(evaluated.abs().max()))
print("largest difference between images, in evaluation and in training mode", differences)
raise SystemExit(not (not evaluated.any() and differences[0] == 0 and differences[1] > 0))
PYTHON
