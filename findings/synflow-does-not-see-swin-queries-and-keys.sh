#!/bin/bash
# SynFlow on timm's Swin: gradients of queries and keys are rounding noise, so the proxy reads a third of the attention.
#
# SynFlow takes absolute weights, an image of ones and the sum of the outputs, and is said to score every weight. One would
# guess that queries and keys are scored as values are. But with an image of ones all tokens are equal, Swin adds no
# positions to them, and so all keys agree: probabilities depend on the table of relative positions alone, whatever the
# queries and keys. Their gradients are 0 but for rounding. Seen with timm 1.0.31 and torch 2.14.1 on
# swin_tiny_patch4_window7_224: largest gradient of blocks 0 and 1 of stage 0: query 3e-11, key 3e-11, value 0.11. The sum of
# |weight · gradient| over queries and keys is less than a millionth of that over values, in every block.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31
"$work/venv/bin/python" - <<'PYTHON'
import timm
import torch

torch.manual_seed(0)
model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=10).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.abs_()
model(torch.ones(1, 3, 224, 224)).sum().backward()
shares = []
for name, parameter in model.named_parameters():
    if name.endswith("attn.qkv.weight"):
        query, key, value = (float(part.sum()) for part in (parameter * parameter.grad).abs().chunk(3))
        shares.append((query + key) / value)
        print(f"{name}: queries {query:.2g}, keys {key:.2g}, values {value:.2g}")
print(timm.__version__, torch.__version__, "largest share of queries and keys", max(shares))
raise SystemExit(not (len(shares) == 12 and max(shares) < 1e-6))
PYTHON
