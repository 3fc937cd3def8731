"""The probe `stepsK`: what a network is after K steps of training, read without changing the network."""

import copy

import pytest
import torch
from snapshots import Snapshot
from tiny_vit import TinyVit, batch
from torch import nn

from autoprox.primitives import FormulaError, LayerError, Reading, evaluate, find_blocks, parse, read_statistics
from autoprox.primitives import probe as probe_module
from autoprox.primitives.few_steps import BATCH, RATE, trained
from autoprox.primitives.kinds import MOST_STEPS, steps_of
from autoprox.primitives.passes import Subject
from autoprox.primitives.sharing import sharing_results
from autoprox.primitives.words import parts_of

MATRICES = ("weight", "weight_grad", "act", "act_grad", "attn", "attn_logits", "weight_grad_batches")


class Normed(TinyVit):
    """With a batch norm and dropout, as models in training have them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.drop(self.norm(x)))


class Diverging(TinyVit):
    """Its loss is infinite once its classifier has moved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.head.weight.detach().clone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        moved = (self.head.weight - self.first).abs().max() > 0
        return super().forward(x) * torch.where(moved, torch.inf, 1.0)


def read(model: nn.Module, *names: str, steps: int = 3, seed: int = 5) -> Reading:
    return read_statistics(model, find_blocks(model), {(name, f"steps{steps}") for name in names}, *batch(), seed=seed)


def test_it_is_a_network_that_was_trained_as_anyone_would_train_it() -> None:
    """A copy is trained by torch on the images of a training of no steps, and read on the probe `data`."""
    model, inputs = TinyVit(), batch()[0]
    stream = [trained(model, torch.zeros(BATCH, 3, 8, 8), steps, 5, BATCH) for steps in range(3)]
    copied = copy.deepcopy(model)
    optimizer = torch.optim.Adam(copied.parameters(), lr=RATE)
    for drawn in stream:  # the images left by n steps are those of step n + 1, because all are drawn in one row
        loss = nn.functional.cross_entropy(copied(drawn.images), drawn.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = trained(model, inputs, 3, 5, BATCH)
    assert len(found.losses) == 3
    assert found.losses[-1] == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, parameter in copied.named_parameters():
        torch.testing.assert_close(found.parameters[name], parameter.detach(), rtol=1e-3, atol=1e-5)
    reading = read(model, *MATRICES)
    wanted = {(name, "" if name == "weight" else "data") for name in MATRICES}
    expected = read_statistics(copied, find_blocks(copied), wanted, found.images, found.targets)
    for (name, probe, slot), matrices in reading.matrices.items():
        if probe:
            of_copy = expected.matrices[name, "data" if name != "weight" else "", slot]
            for ours, theirs in zip(matrices, of_copy, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=1e-4)
    assert reading.samples["weight", "steps3"] == 1
    assert reading.samples["act", "steps3"] == len(inputs)


def test_the_model_is_left_as_it_was() -> None:
    model = Normed().train()
    model.blocks[0].eval()
    before = Snapshot(model)
    reading = read(model, *MATRICES)
    before.check(model)
    with torch.inference_mode():
        assert read(Normed(), *MATRICES).matrices.keys() == reading.matrices.keys()
    again = read(model, *MATRICES)
    for key, matrices in reading.matrices.items():
        assert all(torch.equal(a, b) for a, b in zip(matrices, again.matrices[key], strict=True))


def test_steps_and_seed_change_what_is_read() -> None:
    found = [float(read(TinyVit(), "weight", **given).matrices["weight", f"steps{given['steps']}", "fc1"][0].sum())
             for given in ({"steps": 1, "seed": 0}, {"steps": 2, "seed": 0}, {"steps": 1, "seed": 1})]  # fmt: skip
    assert len(set(found)) == 3


def test_a_training_that_diverges_ends_before_the_step_that_led_there() -> None:
    model = Diverging()
    found = trained(model, batch()[0], 9, 0, 4)
    assert len(found.losses) == 1
    assert torch.equal(found.parameters["head.weight"], model.head.weight)
    assert all(torch.isfinite(matrix).all() for matrix in read(model, "act_grad").matrices["act_grad", "steps3", "fc1"])


class Choosy(TinyVit):
    """It is not finite on images whose first number is above a limit."""

    limit = torch.inf

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * torch.where((x[:, 0, 0, 0] > self.limit).any(), torch.nan, 1.0)


def test_images_on_which_the_network_is_not_finite_are_drawn_anew() -> None:
    model, like = Choosy(), batch(2)[0]
    first = trained(model, like, 0, 0, 2).images
    model.limit = float(first[:, 0, 0, 0].max()) - 0.01
    found = trained(model, like, 0, 0, 2)
    assert float(found.images[:, 0, 0, 0].max()) <= model.limit
    assert torch.equal(trained(model, like, 0, 0, 2).images, found.images)
    model.limit = -torch.inf
    assert trained(model, like, 0, 0, 2).images.shape == like.shape


def test_one_training_serves_all_that_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(probe_module, "trained", lambda *given: calls.append(given[2]) or trained(*given))
    model, (inputs, targets) = TinyVit(), batch()
    with sharing_results(Subject(model, inputs, targets, 0)):
        for name in MATRICES:
            read_statistics(model, find_blocks(model), {(name, "steps2")}, inputs, targets)
        read_statistics(model, find_blocks(model), {("act", "steps2"), ("act", "steps4")}, inputs, targets)
    assert calls == [2, 4]


def test_what_is_no_image_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    for inputs in (torch.ones(2, 3), torch.ones(2, 3, 8, 8, dtype=torch.long)):
        with pytest.raises(LayerError, match="needs images, samples × channels × height × width"):
            trained(model, inputs, 1, 0, 2)


def test_the_language_names_the_steps() -> None:
    formula = parse("sum(fro(weight[steps20, msa] - weight[msa])) + sum(l1(act_grad[fc1, steps1]))")
    assert formula.text == "sum(fro(weight[msa, steps20] - weight[msa])) + sum(l1(act_grad[fc1, steps1]))"
    assert parse(formula.text) == formula
    words = [part.words for part in parts_of(formula)]
    assert any("after 20 training steps on such images (not zero-cost)" in each for each in words)
    assert any("after 1 training step on" in each for each in words)
    assert evaluate(parse("sum(fro(weight[steps3]))"), read(TinyVit(), "weight")) > 0
    assert (steps_of("steps20"), steps_of("data"), steps_of(f"steps{MOST_STEPS}")) == (20, 0, MOST_STEPS)


@pytest.mark.parametrize(
    "text",
    ["act[steps0]", "act[steps01]", "act[steps]", "act[steps10000]", "act[steps2, steps3]", "act[steps2, noise]",
     "weight[data]", "tokens[steps2]", "fan_in[steps2]", "params[steps2]"],
)  # fmt: skip
def test_other_steps_are_refused(text: str) -> None:
    with pytest.raises(FormulaError, match="takes"):
        parse(f"sum(sum({text}))")
