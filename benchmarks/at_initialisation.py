"""At initialisation: measures what docs/models.md says of timm's and transformers' untrained networks.

    python benchmarks/at_initialisation.py [scales] [logits]

Needs timm and transformers, which autoprox itself does not.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent))

from coverage_models import makers

#: Models whose branches have a scale → the size of the images.
SCALED = {
    "deit3_small_patch16_224": 64,
    "beit_base_patch16_224": 64,
    "vit_small_patch14_dinov2": 56,
    "naflexvit_base_patch16_gap": 0,
    "vit_small_patch16_dinov3": 64,
    "cait_xxs24_224": 64,
}

#: What timm calls the scale of a branch.
SCALES = ("gamma", "gamma1", "gamma2", "gamma_1", "gamma_2", "gamma3")

#: Families with fresh batch norms, and one without.
NORMED = (
    *("timm:levit", "timm:mobilevit", "timm:mobilevitv2", "timm:mobilenetv4"),
    *("transformers:levit", "transformers:mobilevit", "transformers:mobilevitv2", "timm:vision_transformer"),
)


def main(wanted: list[str]) -> None:
    """Print the tables that are wanted, or both."""
    warnings.filterwarnings("ignore")
    if not wanted or "scales" in wanted:
        print("mean gradient of the blocks' weights over that of the classifier's: as built, with scales of 1, factor")
        for name, size in SCALED.items():
            built, plain = (share_of_the_blocks(name, size, ones) for ones in (False, True))
            print(f"{name:28} {built:10.2g} {plain:10.2g} {plain / built:10.2g}", flush=True)
    if not wanted or "logits" in wanted:
        print("deviation of logits between four images, and between classes")
        for key in NORMED:
            between_images, between_classes = deviations(key)
            print(f"{key:28} {between_images:10.2g} {between_classes:10.2g}", flush=True)


def share_of_the_blocks(name: str, size: int, ones: bool) -> float:
    """Return the mean norm of the gradients of the blocks' matrices over that of the classifier's."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **({"img_size": size} if size else {})).eval()
    if ones:
        for path, parameter in model.named_parameters():
            if path.rpartition(".")[2] in SCALES:
                nn.init.ones_(parameter)
    inputs = torch.randn(2, 3, size or 224, size or 224)
    functional.cross_entropy(model(inputs), torch.tensor([0, 1])).backward()
    found = [p.grad.norm() for path, p in model.named_parameters() if path.startswith("blocks.") and p.ndim == 2]
    return float(torch.stack(found).mean() / model.get_classifier().weight.grad.norm())


def deviations(key: str) -> tuple[float, float]:
    """Return the deviation of a family's logits between images, mean over the classes, and the other way round."""
    make = next(make for library, family, _, make in makers() if f"{library}:{family}" == key)
    torch.manual_seed(0)
    with contextlib.redirect_stderr(None):
        model, sample = make()
    inputs = torch.randn(4, *sample.shape[1:])
    with torch.no_grad():
        output = model.eval()(inputs)
    logits: Tensor = getattr(output, "logits", output)
    return float(logits.std(0).mean()), float(logits.std(1).mean())


if __name__ == "__main__":
    main(sys.argv[1:])
