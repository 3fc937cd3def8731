"""Readout: the part of a model's output that stands for class scores, and what is refused."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from autoprox import Readout, resolve
from autoprox.primitives import LayerError
from tests.tiny_vit import TinyVit, batch


@dataclass
class Output:
    """What transformers' models return: attributes, some of them None."""

    pooled: Tensor
    maps: Tensor
    states: tuple[Tensor, ...]
    hidden: None = None


class Returning(nn.Module):
    """A network that returns its class scores inside something."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TinyVit()

    def forward(self, x: Tensor) -> Output:
        scores = self.net(x)
        return Output(
            scores, scores[:, :, None, None].expand(-1, -1, 2, 2), (scores[:, None].expand(-1, 3, -1), scores)
        )


@pytest.mark.parametrize("name", ["pooled", "maps", "states.0", "states.1"])
@pytest.mark.parametrize("proxy", ["snip", "synflow", "grad-norm-all", "sum(fro(act))"])
def test_a_readout_scores_as_the_model_that_returns_it(name: str, proxy: str) -> None:
    expected = resolve(proxy).score(TinyVit(), *batch())
    assert resolve(proxy).score(Readout(Returning(), name), *batch()) == pytest.approx(expected, rel=1e-5)


def test_without_a_name_the_output_is_read() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(Readout(nn.Identity())(x), x.mean(1))
    assert torch.equal(Readout(nn.Identity())(x[0]), x[0])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "scores",
            r"the readout 'scores' leads nowhere: there is no 'scores'; Output has 'pooled' \(4 × 5\), 'maps' \(4",
        ),
        ("states.7", "there is no '7'; tuple has '0'"),
        ("hidden", "there is no 'hidden'"),
        ("states", "the readout 'states' is tuple; samples × features"),
        ("", "the readout '' is Output"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_there_is(name: str, said: str) -> None:
    with pytest.raises(LayerError, match=said):
        resolve("snip").score(Readout(Returning(), name), *batch())


def test_class_scores_in_a_mapping_are_found() -> None:
    class Mapped(TinyVit):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": x.mean(), "logits": super().forward(x)}

    assert resolve("snip").score(Mapped(), *batch()) == resolve("snip").score(TinyVit(), *batch())
