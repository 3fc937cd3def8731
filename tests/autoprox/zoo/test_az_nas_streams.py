"""AZ-NAS on residual streams of other shapes: channels first, tuples, changes of width and of tokens."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoprox.zoo import az_nas
from autoprox.zoo.az_nas import az_expressivity, az_trainability
from autoprox.zoo.tools import ZooError

WIDTH, SIDE = 6, 4


class Scale(nn.Module):
    """A norm that only has a weight for each channel, which stand on a given axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.weight = axis, nn.Parameter(torch.linspace(0.5, 1.5, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return (x.movedim(self.axis, -1) * self.weight).movedim(-1, self.axis)


class Block(nn.Module):
    """x + mix(x), then x + mlp(norm2(x)), with the channels on an axis."""

    def __init__(self, axis: int, end: Callable[[Tensor], object] = lambda x: x) -> None:
        super().__init__()
        self.axis, self.end = axis, end
        self.norm2, self.mix, self.mlp = Scale(axis), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def _along(self, linear: nn.Linear, x: Tensor) -> Tensor:
        return linear(x.movedim(self.axis, -1)).movedim(-1, self.axis)

    def forward(self, x: Tensor) -> object:
        x = x + self._along(self.mix, x)
        return self.end(x + self._along(self.mlp, self.norm2(x)).tanh())


class Network(nn.Module):
    """Two blocks on SIDE × SIDE tokens, channels first or last, with the same weights for the same seed."""

    def __init__(self, axis: int, end: Callable[[Tensor], object] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.axis = axis
        self.blocks = nn.ModuleList([Block(axis), Block(axis, end)])

    def forward(self, images: Tensor) -> Tensor:
        x: object = images.movedim(1, self.axis)
        for block in self.blocks:
            x = block(x)
        return (x[0] if isinstance(x, tuple) else x).flatten(1)  # type: ignore[union-attr, index]


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are given: how they are found is tested elsewhere."""
    monkeypatch.setattr(az_nas, "network_blocks", lambda *_: ())
    monkeypatch.setattr(az_nas, "block_paths", lambda _: ["blocks.0", "blocks.1"])


IMAGES, TARGETS = torch.randn(2, WIDTH, SIDE, SIDE, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1])


def test_channels_first_and_last_are_one_network() -> None:
    first, last = (az_expressivity(Network(axis), IMAGES, TARGETS, 0) for axis in (1, -1))
    assert first == pytest.approx(last, rel=1e-5)
    assert az_trainability(Network(1), IMAGES, TARGETS, 0) < 0


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda x: (x, 3), "the residual stream of 'blocks.1' is no tensor of tokens"),
        (lambda x: x[:, :3], "has not the 6 channels of its norm2: it changes its width"),
    ],
)
def test_other_streams_are_refused(end: Callable, message: str) -> None:
    for score in (az_expressivity, az_trainability):
        with pytest.raises(ZooError, match=message):
            score(Network(1, end), IMAGES, TARGETS, 0)


def test_trainability_needs_the_same_tokens_on_both_sides() -> None:
    with pytest.raises(ZooError, match="a block changes the number of tokens"):
        az_trainability(Network(1, lambda x: x[..., 1:]), IMAGES, TARGETS, 0)
