#!/bin/bash
# DINOv2's ViT-S/14 of timm and of transformers: one architecture, LayerScale 1e-5 in one and 1 in the other.
#
# One would guess that two libraries that load the same trained weights start the network alike, so that a proxy of
# gradients can compare their models. Seen with timm 1.0.31, transformers 5.24.0 and torch 2.14.1: LayerScale starts at
# 1e-5 in timm's vit_small_patch14_dinov2 and at 1.0 in Dinov2Config. SNIP, the sum of |weight · gradient| over the
# matrices of the blocks, on two images of 56 × 56 with ten classes: 0.23 in timm, 1539 in transformers.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31 transformers==5.24.0
"$work/venv/bin/python" - <<'PYTHON'
import timm
import torch
import transformers
from transformers import Dinov2Config, Dinov2ForImageClassification

images, classes = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1])
shape = dict(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=56, patch_size=14, num_labels=10)
torch.manual_seed(0)
models = {
    "timm": timm.create_model("vit_small_patch14_dinov2", num_classes=10, img_size=56),
    "transformers": Dinov2ForImageClassification(Dinov2Config(**shape)),
}
scales, snip = {}, {}
for library, model in models.items():
    output = model.eval()(images)
    torch.nn.functional.cross_entropy(getattr(output, "logits", output), classes).backward()
    inside = {name: p for name, p in model.named_parameters() if "blocks." in name or "layer." in name}
    scales[library] = {round(float(p.flatten()[0]), 8) for name, p in inside.items() if "gamma" in name or "lambda" in name}
    snip[library] = sum(float((p * p.grad).abs().sum()) for p in inside.values() if p.ndim == 2)
print(timm.__version__, transformers.__version__, torch.__version__, "LayerScale", scales, "SNIP", snip)
same = scales == {"timm": {1e-5}, "transformers": {1.0}} and snip["transformers"] > 1000 * snip["timm"]
raise SystemExit(not same)
PYTHON
