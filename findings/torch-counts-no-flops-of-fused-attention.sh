#!/bin/bash
# torch.utils.flop_counter.FlopCounterMode on a CPU: fused attention has no FLOPs, and torch's own encoder layer has none.
#
# One would guess that the counter gives the two products of attention whichever way they are computed. Seen with torch
# 2.14.1 on a CPU, for 1 sample, 4 heads, 100 tokens of 16 features, by hand 2 · 2 · 4 · 100 · 100 · 16 = 2560000:
#   written out 2560000, scaled_dot_product_attention 0, with a fixed mask 0, with a mask that requires a gradient 2560000.
# nn.TransformerEncoderLayer of width 64 in evaluation mode without gradients, 6553600 in its linear layers alone: 0. With
# torch.backends.mha.set_fastpath_enabled(False): 6553600, still without attention.
# So FLOPs of two networks that compute the same differ by how attention is called, and a proxy of FLOPs ranks that.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1
"$work/venv/bin/python" - <<'PYTHON'
import torch
from torch.nn.functional import scaled_dot_product_attention as fused
from torch.utils.flop_counter import FlopCounterMode


def count(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


query, key, value = torch.randn(3, 1, 4, 100, 16).unbind(0)
fixed = torch.zeros(100, 100)
learned = fixed.clone().requires_grad_()
layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
tokens = torch.randn(1, 100, 64)
found = {
    "written out": count(lambda: (query @ key.mT / 4).softmax(-1) @ value),
    "fused": count(lambda: fused(query, key, value)),
    "fused, fixed mask": count(lambda: fused(query, key, value, fixed)),
    "fused, learned mask": count(lambda: fused(query, key, value, learned)),
}
with torch.no_grad():
    found["encoder layer"] = count(lambda: layer(tokens))
    torch.backends.mha.set_fastpath_enabled(False)
    found["encoder layer, no fast path"] = count(lambda: layer(tokens))
print(torch.__version__, found)
raise SystemExit(list(found.values()) != [2560000, 0, 0, 2560000, 0, 6553600])
PYTHON
