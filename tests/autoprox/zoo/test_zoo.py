"""The zoo's registry: every entry is complete, finite on our spaces, repeatable, and leaves the model as it was."""

import copy
import dataclasses
import pickle
import random
from functools import cache

import pytest
import torch
from snapshots import Snapshot
from tiny_vit import TinyVit, batch
from torch import Tensor, nn

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives import parse
from autoprox.zoo import COSTS, ZOO, ZooError, ZooProxy, few_step, tvt

every_entry = pytest.mark.parametrize("proxy", ZOO.values(), ids=ZOO)
FUNCTIONS = [proxy for proxy in ZOO.values() if proxy.function is not None]
every_function = pytest.mark.parametrize("proxy", FUNCTIONS, ids=lambda proxy: proxy.name)
READING = [proxy for proxy in FUNCTIONS if proxy.cost != "structure"]
every_function_that_reads_weights = pytest.mark.parametrize("proxy", READING, ids=lambda proxy: proxy.name)

#: What must be there, by the names that users type.
PUBLISHED = """
params flops depth width depth-times-width l2-norm plain grad-norm snip synflow logsynflow fisher
dss auto-prox auto-prox-sum auto-prox-a auto-prox-a-normalised pruner-zero eznas swap swap-layers
nwot nwot-layers zico lswag-lambda lswag-psi lswag grasp jacov epe-nas te-nas-ntk zen meco croze
entropic az-expressivity az-trainability az-complexity gennas sigeo training-speed info-nas intrain ibfs w-pca
"""

#: What splits the batch into two mini-batches, first half and second half.
HALVED = {"zico", "zico-all", "lswag-lambda", "lswag-layers", "lswag"}

#: Two samples of each of two classes, as EPE-NAS needs them.
TARGETS = torch.tensor([3, 1, 1, 3])


@pytest.fixture(autouse=True)
def a_short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_step, "SPEED_STEPS", 4)


def paired() -> tuple[Tensor, Tensor]:
    return batch()[0], TARGETS


@cache
def network(space: str) -> tuple[nn.Module, Tensor]:
    """Return the smallest network of a space on small images, and four images."""
    spec = InputSpec(image_size=48, num_classes=10)
    found = get_space(space)
    rng = random.Random(0)
    arch = min((found.sample(rng) for _ in range(20)), key=lambda arch: found.params(arch, spec))
    return found.build(arch, spec), torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def test_the_issue_s_proxies_are_there() -> None:
    assert set(PUBLISHED.split()) <= set(ZOO)
    assert [name for name, proxy in ZOO.items() if not proxy.training_free] == ["gennas", "sigeo", "training-speed"]
    with pytest.raises(TypeError):
        ZOO["new"] = ZOO["snip"]  # type: ignore[index]


@every_entry
def test_records_are_complete(proxy: ZooProxy) -> None:
    assert ZOO[proxy.name] is proxy
    for text in (proxy.source, proxy.reads, proxy.note, proxy.latex):
        assert text.strip() == text != ""
        assert "\n" not in text
    assert proxy.latex.count("{") == proxy.latex.count("}")
    assert proxy.latex.count(r"\left") == proxy.latex.count(r"\right")
    assert proxy.cost in COSTS
    assert (proxy.cost == "few-step") is (not proxy.training_free)
    assert pickle.loads(pickle.dumps(proxy)).latex == proxy.latex  # goes to worker processes
    if proxy.formula:
        assert proxy.formula == parse(proxy.formula).text
        assert proxy.latex == parse(proxy.formula).latex


@every_function
def test_docstrings_cite_their_sources(proxy: ZooProxy) -> None:
    function = getattr(proxy.function, "func", proxy.function)
    assert any(word in function.__doc__ for word in ("arXiv", "CVPR", "IJCAI", "NeurIPS", "Eq. 1", "features.patterns"))


@pytest.mark.parametrize(
    "space",
    ["pit-vb101", *(pytest.param(name, marks=pytest.mark.slow) for name in ("autoformer-vb101", "autoformer-tiny"))],
)
@every_entry
def test_scores_are_finite_on_our_spaces(proxy: ZooProxy, space: str) -> None:
    model, images = network(space)
    assert isinstance(proxy.score(model, images, TARGETS), float)


@every_function
def test_the_seed_decides_the_score(proxy: ZooProxy) -> None:
    scores = [proxy.score(TinyVit(), *paired(), seed=seed) for seed in (1, 2, 1)]
    assert scores[0] == scores[2]
    drawn = {"eznas", "zen", "meco", "az-expressivity", "az-trainability", "gennas", "training-speed", "intrain"}
    assert (scores[0] != scores[1]) is (proxy.name in drawn)


@every_function
def test_the_global_generator_and_gradient_modes_do_not_matter(proxy: ZooProxy) -> None:
    expected = proxy.score(TinyVit(), *paired())
    torch.manual_seed(5)
    with torch.no_grad():
        assert proxy.score(TinyVit(), *paired()) == expected
    with torch.inference_mode():
        assert proxy.score(TinyVit(), *paired()) == expected


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the network ran")


@every_function
def test_the_model_is_left_as_it_was(proxy: ZooProxy) -> None:
    model = TinyVit()
    model.blocks[0].eval()
    model.head.requires_grad_(False)
    model.patch.weight.grad = torch.ones_like(model.patch.weight)
    before = Snapshot(model)
    proxy.score(model, *paired())
    before.check(model)
    model.blocks[1].mlp.act = Failing()
    before = Snapshot(model)
    if proxy.cost not in ("structure", "weights"):
        with pytest.raises(ZooError, match="ran"):
            proxy.score(model, *paired())
        before.check(model)


@every_function
def test_the_model_s_buffers_are_left_as_they_were(proxy: ZooProxy) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("runs", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            return x

    model = TinyVit()
    model.blocks[1].mlp.act = Counting()
    before = Snapshot(model)
    proxy.score(model, *paired())
    before.check(model)


@every_entry
def test_the_order_of_the_samples_does_not_matter(proxy: ZooProxy) -> None:
    inputs, targets = paired()
    expected = proxy.score(TinyVit(), inputs, targets)
    orders = [[1, 0, 3, 2]] if proxy.name in HALVED else [[1, 0, 3, 2], [2, 3, 1, 0]]
    for order in orders:
        assert proxy.score(TinyVit(), inputs[order], targets[order]) == pytest.approx(expected, rel=2e-3, abs=1e-6)


@every_entry
def test_float64_agrees(proxy: ZooProxy) -> None:
    inputs, targets = paired()
    model = TinyVit()
    exact = proxy.score(copy.deepcopy(model).double(), inputs.double(), targets)
    assert proxy.score(model, inputs, targets) == pytest.approx(exact, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "samples", "says"),
    [
        ("zico", 1, "even number of samples"),
        ("zico-all", 1, "at least 2 samples, not 1"),
        ("jacov", 1, "at least 2 samples, not 1"),
        ("te-nas-ntk", 1, "at least 2 samples, not 1"),
        ("gradsign", 1, "at least 2 samples, not 1"),
        ("nwot", 1, "at least 2 samples, not 1"),
        ("swap", 1, "at least 2 samples, not 1"),
        ("epe-nas", 1, "two samples in each of at least 1 classes"),
        ("sigeo", 0, "at least one sample"),
    ],
)
def test_too_few_samples_are_one_line(name: str, samples: int, says: str) -> None:
    inputs, targets = paired()
    with pytest.raises(ZooError, match=says) as caught:
        ZOO[name].score(TinyVit(), inputs[:samples], targets[:samples])
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)


@every_function_that_reads_weights
def test_weights_that_are_not_finite_give_no_score(proxy: ZooProxy) -> None:
    model = TinyVit()
    model.blocks[0].mlp.fc1.weight.data[0, 0] = torch.nan
    with pytest.raises(ZooError) as caught:
        proxy.score(model, *paired())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["jacov", "az-expressivity", "meco", "snip", "gennas"])
def test_a_model_without_blocks_or_layers_is_one_line(name: str) -> None:
    with pytest.raises(ZooError) as caught:
        ZOO[name].score(nn.Flatten(), *paired())
    assert "\n" not in str(caught.value)


def test_targets_that_do_not_fit_are_one_line() -> None:
    inputs, _ = paired()
    for targets in (torch.tensor([0, 1]), torch.tensor([0.0, 1, 2, 3]), torch.tensor([0, 1, 2, 5])):
        with pytest.raises(ZooError, match="targets"):
            ZOO["snip-all"].score(TinyVit(), inputs, targets)


@pytest.mark.parametrize(
    "change",
    [
        {"formula": ""},
        {"function": max},
        {"cost": "cheap"},
        {"direction": 0},
        {"note": ""},
        {"source": ""},
    ],
)
def test_incomplete_records_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ZooError, match="'snip'"):
        dataclasses.replace(ZOO["snip"], **change)


class Teacher(nn.Module):
    """Gives the last feature of a student as a map, its channels mixed by an orthogonal matrix of sign changes."""

    def __init__(self, student: TinyVit, signs: float) -> None:
        super().__init__()
        self.student, self.signs = copy.deepcopy(student), signs

    def forward(self, x: Tensor) -> Tensor:
        x = self.student.patch(x).flatten(2).transpose(1, 2)
        for block in self.student.blocks:
            x = block(x)
        return (self.signs * x).transpose(1, 2).unflatten(2, (2, 2))


def test_tvt_takes_a_teacher() -> None:
    """A teacher with the student's own map, whatever its sign and scale, leaves the norms of the weights."""
    model = TinyVit()
    norms = ZOO["l2-norm"].score(model, *paired())
    assert tvt(Teacher(model, -3.0)).score(model, *paired()) == pytest.approx(norms, rel=1e-5)
    other = Teacher(TinyVit(seed=1), 1.0)
    before = Snapshot(other)
    assert tvt(other).score(model, *paired()) < norms - 1e-3
    before.check(other)
    with pytest.raises(ZooError, match=r"tvt: .* feature map"):
        tvt(TinyVit()).score(model, *paired())
