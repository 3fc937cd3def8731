"""Own spaces: all that follows from choices and a build, what is measured, how they are found again, and refusals."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from own_spaces import SOUND, write

from autoprox.bench_cache.spaces.genes import Choices, read_choices
from autoprox.bench_cache.spaces.registry import (
    ArchitectureError,
    InputSpec,
    Space,
    get_space,
    pinned,
    recorded_space,
    space_record,
)
from autoprox.bench_cache.statistics.version import is_current, statistics_version

SPEC = InputSpec(8, 1, 10, 4)
VALUES = st.one_of(st.integers(1, 9), st.floats(-9, 9), st.booleans(), st.sampled_from(["relu", "gelu"]))


@pytest.fixture
def tiny(tmp_path: Path) -> Space:
    return get_space(write(tmp_path))


def one_line(error: BaseException) -> str:
    assert len(str(error).splitlines()) == 1
    return str(error)


# --- choices ---


@st.composite
def choices(draw: st.DrawFn) -> Choices:
    written: dict[str, list] = {"first": [1, 2], "count": draw(st.lists(st.integers(1, 5), min_size=1, unique=True))}
    for number in range(draw(st.integers(0, 3))):
        name = f"gene{number}{draw(st.sampled_from(['', '[count]', '[2]']))}"
        written[name] = draw(st.lists(VALUES, min_size=1, max_size=4, unique_by=lambda v: (isinstance(v, bool), v)))
    return read_choices("made", written)


@given(choices(), st.integers(0, 2**32))
def test_what_is_drawn_and_varied_is_in_the_space(made: Choices, seed: int) -> None:
    rng = Random(seed)
    a, b = made.sample(rng), made.sample(rng)
    mutant, child = made.mutate(a, rng), made.crossover(a, b, rng)
    for arch in (a, b, mutant, child):
        assert made.read(dict(arch)) == arch
        assert pickle.loads(pickle.dumps(arch)) == arch
    assert mutant != a
    changed = [gene for gene in made.genes if mutant[gene.name] != a[gene.name]]
    assert len([gene for gene in changed if gene.count != "count"]) == 1 or len(changed) == 1
    for gene in made.genes:
        if gene.count is None:
            assert child[gene.name] in (a[gene.name], b[gene.name])
    assert (made.key(a) == made.key(b)) == (a == b)
    assert made.sample(Random(seed)) == made.sample(Random(seed))


WRONG_CHOICES = {
    "choices is []; it must be a dict": [],
    "choices is {}; it must be a dict": {},
    "'2' cannot be a gene": {"2": [1, 2]},
    "the choices of width are 3; they must be a list": {"width": 3},
    "the choices of width are []": {"width": []},
    "heads[dept] needs a gene dept (did you mean depth?)": {"depth": [1, 2], "heads[dept]": [2, 4]},
    "so depth must be one whole number": {"depth": [0, 2], "heads[depth]": [2, 4]},
    "width has the choice 2 twice": {"width": [2, 2]},
    "cannot be a choice": {"width": [object(), 2]},
    "no gene has more than one value": {"width": [2]},
    "two genes are called width": {"width": [2, 3], "width[2]": [2, 3]},
}


@pytest.mark.parametrize("told", WRONG_CHOICES)
def test_choices_that_cannot_be_read(told: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        read_choices("made", WRONG_CHOICES[told])
    assert told in one_line(caught.value)


# --- the space ---


def test_size_is_that_of_the_built_network(tiny: Space) -> None:
    for seed in range(4):
        arch = tiny.sample(Random(seed))
        params, flops, _, depth, width = tiny.structure(arch, SPEC)
        network = tiny.build(arch, SPEC)
        assert params == sum(parameter.numel() for parameter in network.parameters())
        assert (depth, width) == (arch.depth, arch.width) == (tiny.depth(arch), tiny.width(arch))
        assert flops > 0
        assert network.training


def test_weights_follow_from_seed_and_architecture(tiny: Space) -> None:
    arch = tiny.sample(Random(0))
    state = torch.get_rng_state()
    a, again, other = (tiny.build(arch, SPEC, seed).head.weight for seed in (0, 0, 1))
    assert torch.equal(a, again)
    assert not torch.equal(a, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_genes_as_text_and_back(tiny: Space) -> None:
    arch = tiny.from_json({"width": 8, "depth": 2, "heads": [2, 4]})
    assert tiny.from_json(tiny.to_json(arch)) == arch
    assert tiny.key(arch) == 'Tiny:{"depth":2,"heads":[2,4],"width":8}'
    for genes, told in (
        ({"width": 8, "depth": 2}, "gene heads is missing"),
        ({"width": 8, "depth": 2, "heads": [2, 4], "wdith": 3}, "unknown gene 'wdith' (did you mean width?)"),
        ({"width": 9, "depth": 2, "heads": [2, 4]}, "width 9 is not one of 8, 12, 16"),
        ({"width": 8, "depth": 2, "heads": [2]}, "heads [2] has not one value for each of depth: 2"),
        ({"width": 8, "depth": 2, "heads": [2, True]}, "heads[1] True is not one of 2, 4"),
    ):
        with pytest.raises(ArchitectureError) as caught:
            tiny.from_json(genes)
        assert told in one_line(caught.value)


def test_a_dict_is_a_space_and_validate_narrows_it(tmp_path: Path) -> None:
    body = (
        "def refuse(arch):\n    assert arch.width * arch.depth <= 24, 'too large'\n"
        "Tiny = {'name': 'dict', 'choices': {'width': [8, 12, 16], 'depth': [1, 2, 3]},\n"
        "        'build': lambda arch, spec: Net(arch.width, [2] * arch.depth, spec.num_classes), 'validate': refuse}\n"
    )
    space, rng = get_space(write(tmp_path, body)), Random(0)
    arch = space.sample(rng)
    for _ in range(30):
        arch = space.crossover(space.mutate(arch, rng), space.sample(rng), rng)
        assert arch.width * arch.depth <= 24
    assert space.build(arch, InputSpec(8, 1, 7, 4)).head.out_features == 7
    with pytest.raises(ArchitectureError, match=r"^dict: width 16, depth 3 is not valid: too large$"):
        space.from_json({"width": 16, "depth": 3})


def test_what_is_overridden_is_used(tmp_path: Path) -> None:
    body = SOUND + (
        "    def sample(self, rng):\n        return {'width': 8, 'depth': 1, 'heads': [4]}\n"
        "    def width(self, arch):\n        return 99\n"
        "    def layers(self, arch, model):\n"
        "        return [{'fc1': f'blocks.{n}.linear1', 'fc2': f'blocks.{n}.linear2'} for n in range(arch.depth)]\n"
    )
    space = get_space(write(tmp_path, body))
    arch = space.sample(Random(0))
    assert arch == space.from_json({"width": 8, "depth": 1, "heads": [4]})
    assert space.structure(arch, SPEC)[-1] == 99
    assert [set(block.linears) for block in space.find_blocks(arch, SPEC, space.build(arch, SPEC))] == [{"fc1", "fc2"}]


WRONG = {
    "own.py has no 'Tiny'": "class Other: ...\n",
    "Tiny has no 'choices'": "class Tiny:\n    def build(self, arch): ...\n",
    "Tiny has no 'build'": "class Tiny:\n    choices = {'width': [8, 16]}\n",
    "Tiny() fails with OSError: no": "class Tiny:\n    def __init__(self):\n        raise OSError('no')\n",
    "loading it fails with ZeroDivisionError": "1 / 0\n",
    "loading it fails with SyntaxError": "class Tiny\n",
    "unknown entry 'chioces' (did you mean choices?)": "Tiny = {'chioces': {}}\n",
    "is the name of a built-in space": SOUND + "    name = 'mini-vit'\n",
    "'my space' cannot be the name of a space": SOUND + "    name = 'my space'\n",
    "'layers' is no function": SOUND + "    layers = 3\n",
}


@pytest.mark.parametrize("told", WRONG)
def test_a_space_that_cannot_be_loaded(told: str, tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError) as caught:
        get_space(write(tmp_path, WRONG[told]))
    assert told in one_line(caught.value)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        ("return 3", "build returns a int; a torch.nn.Module is needed"),
        ("return Net(arch.wdith, arch.heads)", "build of width 8, depth 1, heads [2] fails with UnknownGeneError: "
         "unknown gene 'wdith' (did you mean width?)"),
        ("return Net(7, arch.heads)", "fails with AssertionError: embed_dim must be divisible by num_heads"),
        ("return Net(8, arch.heads, 3)", "has the shape 1 × 3; needed are scores of 10 classes"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))", "found no transformer block"),
        ("return nn.Conv2d(3, 8, 2)", "on an image of 1 × 8 × 8, the forward pass"),
    ],
)  # fmt: skip
def test_a_network_that_will_not_do(build: str, told: str, tmp_path: Path) -> None:
    space = get_space(write(tmp_path, SOUND.rpartition("return")[0] + build))
    with pytest.raises(ArchitectureError) as caught:
        space.structure(space.from_json({"width": 8, "depth": 1, "heads": [2]}), SPEC)
    assert told in one_line(caught.value)


# --- finding it again ---


def test_an_edited_file_is_another_space(tmp_path: Path) -> None:
    reference = write(tmp_path)
    before = pinned(reference)
    write(tmp_path, SOUND.replace("16", "20"))
    after = pinned(reference)
    assert before != after
    assert get_space(after).from_json({"width": 20, "depth": 1, "heads": [2]})
    assert statistics_version(after) not in {"", before}
    assert is_current(statistics_version(after))
    record = {"name": "Tiny", "file": "own.py:Tiny", "digest": before.rpartition("@")[2]}
    assert recorded_space(record, [reference], changed=True) == after
    with pytest.raises(ArchitectureError, match=r"^the space Tiny \(own.py:Tiny\) has changed: its source had the "):
        recorded_space(record, [reference])


def test_a_file_beside_it_counts(tmp_path: Path) -> None:
    (tmp_path / "beside_own.py").write_text("WIDTHS = [8, 12, 16]\n")
    reference = write(tmp_path, "from beside_own import WIDTHS\n" + SOUND.replace("[8, 12, 16]", "WIDTHS"))
    before = pinned(reference)
    assert get_space(before).from_json({"width": 12, "depth": 1, "heads": [2]})
    (tmp_path / "beside_own.py").write_text("WIDTHS = [8, 24]\n")
    assert pinned(reference) != before
    assert get_space(reference).from_json({"width": 24, "depth": 1, "heads": [2]})


def test_data_runs_no_code_that_is_not_named(tmp_path: Path) -> None:
    record = space_record(pinned(write(tmp_path)))
    assert record["file"] == "own.py:Tiny"
    for data, named, told in (
        (record, [], "the space 'Tiny' is in a user's file: add --space own.py:Tiny, with the path of it"),
        (record, ["mini-vit"], "it is of the space 'Tiny', and not of mini-vit"),
        (f"{tmp_path / 'own.py'}:Tiny", [], "unknown space"),
        (3, [], "neither a name nor a record"),
    ):
        with pytest.raises(ArchitectureError) as caught:
            recorded_space(data, named)
        assert told in one_line(caught.value)


@pytest.mark.slow
def test_another_process_finds_it(tmp_path: Path) -> None:
    reference = pinned(write(tmp_path))
    space = get_space(reference)
    assert pickle.loads(pickle.dumps(space)) is space
    arch = space.sample(Random(0))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(space.key, arch).result() == space.key(arch)
