"""The benchmark type and its file: nothing lost, nothing bad let in, the same splits everywhere."""

import json
import os
import pickle
import re
from pathlib import Path
from random import Random

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.record import Record
from autoprox.bench_cache.benchmarks.table import SPLITS, STRUCTURE, Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.bench_cache.runtime.checks import MAX_BYTES, BenchmarkError, read_bounded
from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.bench_cache.spaces.autoformer import AutoFormerArch
from autoprox.bench_cache.spaces.registry import SPACES, InputSpec, get_space

SPEC = InputSpec(image_size=224, num_classes=100)
ACCURACIES = st.one_of(st.none(), st.floats(0, 100), st.integers(0, 100))
NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))


@st.composite
def benchmarks(draw: st.DrawFn) -> Benchmark:
    """Benchmarks of every space, and tabular ones, with missing accuracies and columns."""
    space = draw(st.sampled_from([None, *SPACES]))
    count = draw(st.integers(1, 6))
    rng = Random(draw(st.integers(0, 2**32)))
    if space is None:
        archs: dict[str, dict] = {
            str(i): {"layer_num": i, "embed_dim": [rng.randrange(9)] * i, "ratio": i / 3, "act": "gelu", "cls": True}
            for i in range(1, count + 1)
        }
    else:
        drawn = [get_space(space).sample(rng) for _ in range(count)]
        archs = {get_space(space).key(arch): get_space(space).to_json(arch) for arch in drawn}
    tasks, columns = draw(st.sampled_from([("a",), ("b", "a", "c.d-e_1")])), draw(st.sampled_from([(), ("flops", "x")]))
    records = [
        Record(arch, {t: draw(ACCURACIES) for t in tasks}, {c: draw(NUMBERS) for c in columns})
        for arch in archs.values()
    ]
    return Benchmark.from_records("some-name", space, SPEC if space else None, "tests: é “quoted”", tasks, records)


def tiny(records: int = 3) -> dict:
    """A file's content: distinct AutoFormers with one accuracy each."""
    space, rng = get_space("autoformer-tiny"), Random(0)
    rows = [
        {"arch": space.to_json(space.sample(rng)), "accuracy": {"pets": 50.0 + i % 50}, "columns": {}}
        for i in range(records)
    ]
    spec = {"image_size": 224, "in_channels": 3, "num_classes": 10, "patch_size": 16}
    head = {"format": "autoprox-benchmark", "version": 1, "name": "tiny", "space": "autoformer-tiny"}
    return head | {"spec": spec, "source": "tests", "tasks": ["pets"], "records": rows}


def load(content: object) -> Benchmark:
    """Read the content as a file."""
    return Benchmark.from_bytes(json.dumps(content).encode())


@settings(max_examples=60)
@given(benchmarks())
def test_a_file_keeps_everything_to_the_last_bit(benchmark: Benchmark) -> None:
    again = Benchmark.from_bytes(benchmark.to_bytes())
    assert (again.name, again.space, again.spec, again.source) == (
        benchmark.name,
        benchmark.space,
        benchmark.spec,
        benchmark.source,
    )
    assert again.architectures == benchmark.architectures
    for before, after in ((benchmark.tasks, again.tasks), (benchmark.columns, again.columns)):
        assert list(before) == list(after)
        for name in before:
            assert before[name].tobytes() == after[name].tobytes()
    assert again.to_bytes() == benchmark.to_bytes()


@settings(max_examples=15)
@given(benchmarks(), st.data())
def test_a_file_that_is_cut_off_is_refused(benchmark: Benchmark, data: st.DataObject) -> None:
    whole = benchmark.to_bytes().rstrip()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(BenchmarkError, match="not JSON, or cut off"):
        Benchmark.from_bytes(whole[:cut])


@settings(max_examples=15)
@given(benchmarks())
def test_a_benchmark_travels_to_other_processes(benchmark: Benchmark) -> None:
    assert pickle.loads(pickle.dumps(benchmark)).to_bytes() == benchmark.to_bytes()


def test_missing_is_not_a_number_and_written_as_null() -> None:
    content = tiny()
    content["records"][0]["accuracy"]["pets"] = None
    content["records"][1]["accuracy"] = {}
    benchmark = load(content)
    assert np.isnan(benchmark.tasks["pets"]).tolist() == [True, True, False]
    assert [row["accuracy"]["pets"] for row in orjson.loads(benchmark.to_bytes())["records"]] == [None, None, 52.0]


def test_the_example_of_the_documentation_is_a_benchmark() -> None:
    page = ROOT / "docs" / "benchmark-format.md"
    example = re.search(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    benchmark = Benchmark.from_bytes(example[1].encode())
    assert len(benchmark) == 1
    assert np.isnan(benchmark.tasks["cars"][0])


def record(number: int, **changes: object) -> dict:
    """Three records of which one is changed."""
    rows = tiny()["records"]
    rows[number] |= changes
    return {"records": rows}


def arch(**changes: object) -> dict:
    """The genes of the third architecture, some of them changed."""
    return tiny()["records"][2]["arch"] | changes


REFUSED = {
    "other format": ({"format": "csv"}, "not a benchmark of autoprox"),
    "later version": ({"version": 2}, "version 2; this autoprox reads version 1"),
    "unknown field": ({"licence": "MIT"}, "unknown field 'licence'"),
    "unknown space": ({"space": "autoformer-tyni"}, "did you mean autoformer-tiny"),
    "space but no spec": ({"spec": None}, "a space and a spec"),
    "spec but no space": ({"space": None}, "a space and a spec"),
    "spec too small": ({"spec": tiny()["spec"] | {"image_size": 8}}, "spec: input: patch_size 16 is larger"),
    "spec of patches that do not fit": ({"spec": tiny()["spec"] | {"image_size": 220}}, "not a multiple of patch_size"),
    "spec without classes": ({"spec": {"image_size": 224}}, "spec: field in_channels is missing"),
    "a path for a name": ({"name": "../../etc/passwd"}, "cannot be the name of a benchmark"),
    "a path for a task": ({"tasks": ["a/b"]}, "cannot be the name of a task"),
    "a task twice": ({"tasks": ["pets", "pets"]}, "named twice"),
    "source with escapes": ({"source": "\x1b[2J"}, "not one line of text"),
    "no records": ({"records": []}, "at least one record"),
    "no tasks": ({"tasks": []}, "record 0: unknown field 'pets'"),
    "records not an array": ({"records": {}}, "tasks and records are arrays"),
    "a record that is no object": ({"records": [[1]]}, r"record 0: expected an object"),
    "unknown field in a record": (record(1, weight=3), "record 1: unknown field 'weight'"),
    "unknown task": (record(1, accuracy={"pests": 3}), "record 1: unknown field 'pests'"),
    "unknown column": (record(1, columns={"snip": 3}), "record 1: unknown field 'snip'"),
    "accuracy above 100": (record(1, accuracy={"pets": 100.1}), "record 1: pets is 100.1, not in"),
    "accuracy below 0": (record(2, accuracy={"pets": -0.1}), "record 2: pets is -0.1, not in"),
    "accuracy in words": (record(1, accuracy={"pets": "71"}), "record 1: pets is '71', not a number"),
    "accuracy that is true": (record(1, accuracy={"pets": True}), "record 1: pets is True, not a number"),
    "accuracy in a list": (record(1, accuracy={"pets": [71]}), r"record 1: pets is \[71\], not a number"),
    "duplicate": (record(2, arch=tiny()["records"][0]["arch"]), "record 2: the same architecture as record 0"),
    "gene outside": (record(2, arch=arch(embed_dim=200)), "record 2: autoformer-tiny: embed_dim 200 is not one of 192"),
    "gene missing": (record(2, arch={"embed_dim": 192}), "record 2: autoformer-tiny: field num_heads is missing"),
    "gene unknown": (record(2, arch=arch(depth=12)), "record 2: autoformer-tiny: unknown field 'depth'"),
    "gene nested": (record(2, arch=arch(num_heads=[[3]])), "record 2: num_heads of arch is"),
    "layers without end": (record(2, arch=arch(num_heads=[3] * 2000)), "record 2: num_heads of arch is"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_file_is_refused_whole_with_the_record_and_the_reason(changes: dict, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        load(tiny() | changes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("field", [field for field in tiny() if field not in ("format", "version")])
def test_every_field_is_required(field: str) -> None:
    content = tiny()
    del content[field]
    with pytest.raises(BenchmarkError, match=f"field {field} is missing"):
        load(content)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_json_that_is_not_json_is_refused(number: str) -> None:
    data = json.dumps(tiny()).replace("50.0", number).encode()
    with pytest.raises(BenchmarkError, match=r"not JSON|record 0"):
        Benchmark.from_bytes(data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"format":' * 100_000, b"\xff\xfe", b"null", b"[]", b"3"])
def test_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(BenchmarkError):
        Benchmark.from_bytes(data)


def test_arrays_are_checked_too() -> None:
    good = load(tiny())

    def build(values: list[float], archs: tuple = good.architectures) -> Benchmark:
        return Benchmark("x", good.space, good.spec, "tests", archs, {"pets": np.array(values)})

    assert np.isnan(build([1, np.nan, 3]).tasks["pets"][1])
    with pytest.raises(BenchmarkError, match="record 1: pets is inf"):
        build([1, np.inf, 3])
    with pytest.raises(BenchmarkError, match="record 2: pets is 300"):
        build([1, 2, 300])
    with pytest.raises(BenchmarkError, match=r"shape \(2,\) for 3"):
        build([1, 2])
    with pytest.raises(BenchmarkError, match="record 2: the same architecture as record 0"):
        build([1, 2, 3], (*good.architectures[:2], good.architectures[0]))
    with pytest.raises(BenchmarkError, match="record 1: autoformer-tiny: expected AutoFormerArch"):
        build([1, 2, 3], (good.architectures[0], TabularArchitecture(()), good.architectures[1]))


def test_nothing_of_a_benchmark_can_be_changed() -> None:
    values = np.array([1.0, 2.0, 3.0])
    good = load(tiny())
    benchmark = Benchmark("x", good.space, good.spec, "tests", good.architectures, {"pets": values})
    values[0] = 99
    assert benchmark.tasks["pets"][0] == 1
    with pytest.raises(ValueError, match="read-only"):
        benchmark.tasks["pets"][0] = 5
    with pytest.raises(TypeError):
        benchmark.tasks["cars"] = values  # type: ignore[index]
    with pytest.raises(AttributeError):
        benchmark.name = "y"  # type: ignore[misc]


def test_splits_follow_from_the_architecture_alone() -> None:
    content = tiny(300)
    whole = load(content)
    split = {whole.key(whole.architectures[i]): name for name, rows in whole.splits().items() for i in rows}
    assert len(split) == 300
    assert sorted(np.concatenate(list(whole.splits().values()))) == list(range(300))
    assert [len(whole.splits()[name]) / 300 for name in SPLITS] == pytest.approx([0.5, 0.2, 0.3], abs=0.08)

    content["records"] = content["records"][::-7]
    other = load(content | {"name": "other", "tasks": ["pets", "cars"]})
    for name, rows in other.splits().items():
        assert {split[other.key(other.architectures[i])] for i in rows} <= {name}


def test_splits_never_move() -> None:
    # Every published held-out figure rests on these; whatever changes them makes figures incomparable.
    archs = tuple(AutoFormerArch(192, (3,) * i + (4,) * (12 - i), (4.0,) * 12) for i in range(12))
    benchmark = Benchmark("x", "autoformer-tiny", SPEC, "tests", archs, {"a": np.zeros(12)})
    assert benchmark.key(archs[2]) == "autoformer-tiny:192|3,3,4,4,4,4,4,4,4,4,4,4|4,4,4,4,4,4,4,4,4,4,4,4"
    assert {name: rows.tolist() for name, rows in benchmark.splits().items()} == {
        "evolve": [0, 2, 6, 8, 9],
        "validation": [10],
        "test": [1, 3, 4, 5, 7, 11],
    }
    table = tabular([{"depth": depth, "ratio": [3.5, 4]} for depth in range(6)], {})
    assert table.key(table.architectures[3]) == 'tabular:{"depth":3,"ratio":[3.5,4]}'
    assert {name: rows.tolist() for name, rows in table.splits().items()} == {
        "evolve": [0, 1, 3],
        "validation": [2, 4, 5],
        "test": [],
    }


@pytest.mark.parametrize("name", SPACES)
def test_structure_is_the_closed_form_of_the_space(name: str) -> None:
    space, rng = get_space(name), Random(1)
    archs = tuple({space.key(arch): arch for arch in (space.sample(rng) for _ in range(5))}.values())
    structure = Benchmark("x", name, SPEC, "tests", archs, {"a": np.zeros(len(archs))}).structure()
    known = [fact for fact in STRUCTURE if fact != "width" or name != "nas-bench-201"]  # convolutions have no width
    assert list(structure) == known
    for row, arch in enumerate(archs):
        sizes = space.params(arch, SPEC), space.flops(arch, SPEC), space.activations(arch, SPEC)
        expected = (*sizes, space.depth(arch), space.width(arch))[: len(known)]
        assert tuple(structure[fact][row] for fact in known) == expected


def tabular(archs: list[dict], columns: dict[str, list]) -> Benchmark:
    """A tabular benchmark of the given settings and columns."""
    records = [
        Record(settings, {"oa": 50.0}, {name: values[row] for name, values in columns.items()})
        for row, settings in enumerate(archs)
    ]
    return Benchmark.from_records("t", None, None, "tests", ["oa"], records)


def test_structure_of_a_table_is_what_the_table_says() -> None:
    archs = [{"layer_num": 2, "embed_dim": [10, 20]}, {"layer_num": 4, "embed_dim": [32] * 4}]
    structure = tabular(archs, {"m_size": [100, 200], "snip": [1, 2]}).structure()
    assert {fact: values.tolist() for fact, values in structure.items()} == {
        "params": [100, 200],
        "depth": [2, 4],
        "width": [15, 32],
    }
    assert dict(tabular([{"kind": "vit"}], {}).structure()) == {}
    assert tabular([{"kind": "vit"}], {"activations": [5]}).structure()["activations"].tolist() == [5]


def test_settings_are_the_same_in_any_order_and_as_whole_floats() -> None:
    one, other = {"depth": 4, "ratio": [4, 3.5]}, {"ratio": [4.0, 3.5], "depth": 4.0}
    assert tabular([one], {}).splits().keys() == set(SPLITS)
    with pytest.raises(BenchmarkError, match="record 1: the same architecture as record 0"):
        tabular([one, other], {})
    assert len(tabular([one, {**other, "depth": 5}], {})) == 2


def test_saving_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "b.json"
    benchmark = load(tiny())
    benchmark.save(path)
    assert Benchmark.load(path).to_bytes() == path.read_bytes() == benchmark.to_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, b"half")
    assert path.read_bytes() == benchmark.to_bytes()
    assert list(path.parent.iterdir()) == [path]


def test_reading_is_bounded_and_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(b"")
    with pytest.raises(BenchmarkError, match=r"b\.json: the file is empty"):
        Benchmark.load(path)
    with pytest.raises(BenchmarkError, match="more than 32 MiB"):
        read_bounded("/dev/zero", MAX_BYTES)
    with pytest.raises(FileNotFoundError):
        Benchmark.load(tmp_path / "none.json")


def test_a_file_without_inputs_seeds_and_card_has_none_of_their_fields() -> None:
    content = tiny()
    assert not {"inputs", "card"} & set(json.loads(load(content).to_bytes()))
    assert not load(content).inputs
    assert not load(content).seeds
    assert "seeds" not in json.loads(load(content).to_bytes())["records"][0]


def test_a_part_is_a_benchmark_and_keeps_its_splits() -> None:
    whole = load_benchmark("mini-vit")
    part = whole.of_architectures(range(10, 40))
    assert repr(part) == "Benchmark('mini-vit', architectures=30, tasks=['digits', 'fashion', 'pines'])"
    assert part.architectures == whole.architectures[10:40]
    assert part.seeds["pines"].tolist() == whole.seeds["pines"][10:40].tolist()
    assert part.inputs.keys() == whole.inputs.keys()
    for split, rows in part.splits().items():
        assert [part.architectures[i] for i in rows] == [
            whole.architectures[i] for i in whole.splits()[split] if 10 <= i < 40
        ]
    with pytest.raises(BenchmarkError, match="the same architecture as record 0"):
        whole.of_architectures([3, 3])
