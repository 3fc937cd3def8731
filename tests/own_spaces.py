"""Spaces of a user's own, as files: a sound one, and what can be wrong with one."""

from pathlib import Path

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, heads, classes=10):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        layers = [nn.TransformerEncoderLayer(width, count, width, 0.0, batch_first=True) for count in heads]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.blocks(self.patches(images).flatten(2).transpose(1, 2)).mean(1))

"""
SOUND = """
class Tiny:
    choices = {"width": [8, 12, 16], "depth": [1, 2, 3], "heads[depth]": [2, 4]}

    def build(self, arch):
        return Net(arch.width, arch["heads"])
"""


def write(folder: Path, body: str = SOUND, name: str = "own.py") -> str:
    """Write the file of a space, and return how --space names it."""
    (folder / name).write_text(NETWORK + body)
    return f"{folder / name}:Tiny"
