"""fill_zeros: layers whose weight starts at 0 get other weights, in a copy, and proxies of gradients have a score."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import autoprox
from autoprox import fill_zeros, resolve
from autoprox.cli.root import FAILED, main
from autoprox.initial_weights import DEVIATION, zero_weights
from autoprox.scoring import ProxyError
from tests.tiny_vit import TinyVit, batch


def zeroed(*names: str) -> TinyVit:
    model = TinyVit()
    for name in names:
        nn.init.zeros_(model.get_submodule(name).weight)
    return model


def test_norms_become_1_and_layers_small_in_a_copy() -> None:
    model = zeroed("head", "blocks.0.norm1", "blocks.1.mlp.fc2", "patch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    filled = fill_zeros(model)
    assert zero_weights(model) == ["patch.weight", "blocks.0.norm1.weight", "blocks.1.mlp.fc2.weight", "head.weight"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert filled.blocks[0].norm1.weight.tolist() == [1.0] * 6
    for layer in (filled.head, filled.patch, filled.blocks[1].mlp.fc2):
        assert DEVIATION / 2 < float(layer.weight.detach().std()) < DEVIATION * 2
    others = before.keys() - set(zero_weights(model))
    assert all(torch.equal(filled.state_dict()[name], before[name]) for name in others)
    assert not zero_weights(filled)
    again, other = fill_zeros(model), fill_zeros(model, seed=1)
    assert torch.equal(again.head.weight, filled.head.weight)
    assert not torch.equal(other.head.weight, filled.head.weight)


class Scaled(nn.Module):
    """What is no weight of a layer or a norm: tables, positions, scales, biases."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(3, 4), nn.Linear(4, 4)
        self.positions, self.scale = nn.Parameter(torch.zeros(2, 4)), nn.Parameter(torch.zeros(4))
        nn.init.zeros_(self.table.weight)
        nn.init.zeros_(self.layer.bias)


def test_only_weights_of_layers_and_norms_are_filled() -> None:
    model = Scaled()
    assert zero_weights(model) == []
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fill_zeros(model).parameters(), strict=True))


def test_shared_layers_stay_shared() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model.append(model[0])
    nn.init.zeros_(model[0].weight)
    filled = fill_zeros(model)
    assert filled[0] is filled[2]
    assert bool(filled[0].weight.any())


def test_the_score_is_that_of_the_weights_that_were_put_in() -> None:
    model = zeroed("head")
    by_hand = zeroed("head")
    drawn = torch.empty_like(by_hand.head.weight)
    nn.init.trunc_normal_(drawn, std=0.02, generator=torch.Generator().manual_seed(0))
    by_hand.head.weight.data = drawn
    for name in ("snip", "synflow", "grasp"):
        with pytest.raises(ProxyError, match=r"these start at 0: head.weight; .* as autoprox.fill_zeros does"):
            resolve(name).score(model, *batch())
        assert resolve(name).score(fill_zeros(model), *batch()) == resolve(name).score(by_hand, *batch()) != 0


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = zeroed("head")
    model.cached = model.head.weight * 1  # a tensor that is computed from another
    with pytest.raises(ValueError, match=r"TinyVit cannot be copied: .*; fill its zeros by hand"):
        fill_zeros(model)


def test_score_reads_a_copy_where_nothing_passes_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "from tests.tiny_vit import TinyVit\n\ndef silent():\n"
        "    model = TinyVit()\n    model.head.weight.data.zero_()\n    return model\n"
    )
    command = ("score", "own.py:silent", "--image-size", "8", "--device", "cpu", "--proxy", "snip")
    assert main([*command, "--as-built"]) == FAILED
    assert "as autoprox.fill_zeros does" in capsys.readouterr().err
    assert main([*command, "--proxy", "sum(std(act))"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("own.py:silent *") == 1
    assert shown.count("* own.py:silent as it is has no score, because these start at 0: head.weight. The score") == 1
    assert main([*command, "--proxy", "sum(std(act))", "--json"]) == 0
    snip, act = (entry["ranking"][0] for entry in json.loads(capsys.readouterr().out)["proxies"])
    assert snip["filled"] == ["head.weight"]
    assert snip["score"] > 0
    assert "filled" not in act


def test_a_module_is_scored_as_its_copy_and_left_as_it_was() -> None:
    model = zeroed("head")
    result = autoprox.score(["snip", "sum(std(act))"], {"mine": model}, image_size=8, progress=False)
    (found,) = result.models
    assert not bool(model.head.weight.any())
    assert (found.filled, found.filled_for) == (("head.weight",), (0,))
    by_hand = autoprox.score("snip", {"mine": fill_zeros(model)}, image_size=8, progress=False)
    assert found.scores[0].value == by_hand.models[0].scores[0].value
    assert by_hand.models[0].filled_for == ()
    assert [record["filled"] for record in result.records()] == [True, False]


class Vanishing(TinyVit):
    """Fresh batch norms do not hold up what small weights let vanish, as in transformers' MobileViTV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*(m for _ in range(30) for m in (nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))))
        for convolution in self.stem[::2]:
            nn.init.normal_(convolution.weight, std=1e-3)
        for parameter in self.blocks.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.stem(x))


def test_fresh_batch_norms_are_named_where_activations_vanish() -> None:
    model = Vanishing()
    for block in model.blocks:  # no norm in the way either
        block.norm1 = block.norm2 = nn.Identity()
    nn.init.zeros_(model.patch.bias)
    with pytest.raises(ProxyError, match=r"its batch norms have no running statistics yet, so that activations vanish"):
        resolve("snip").score(model, *batch())
