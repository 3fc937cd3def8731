"""Extending: one thing of each kind is added in a scratch copy, each in the one file that CONTRIBUTING names, and used.

Everything is used the way a user does: on the command line, from another folder.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from places import ROOT

from autoprox.bench_cache.spaces.registry import get_space

FOLDERS = ("autoprox", "primitives", "bench_cache", "evolve")


@dataclass(frozen=True)
class Addition:
    """What a contributor writes into one file.

    Attributes:
        what: the row of CONTRIBUTING's table.
        file: the one file that is touched; it is new if there are no `edits` but one of an empty anchor.
        edits: pairs of an anchor, which stands once in the file, and the text that goes right before it.
    """

    what: str
    file: str
    edits: tuple[tuple[str, str], ...]


OPERATION = Addition(
    "an operation",
    "primitives/operations/maps.py",
    (
        (
            "#: The records",
            'def softsign(x: Tensor) -> Tensor:\n    """x / (1 + |x|)"""\n    return x / (1 + x.abs())\n\n\n',
        ),
        (
            '    Operation("identity"',
            '    Operation("softsign", "map", softsign, r"\\sigma_1\\left({0}\\right)", increasing=True),\n',
        ),
    ),
)
STATISTIC = Addition(
    "a statistic",
    "primitives/statistics.py",
    (
        (
            "_ALL = (",
            "def _aspect(place: Place) -> float:\n"
            "    return place.weights[0].shape[1] / place.weights[0].shape[0]\n\n\n",
        ),
        (
            '    Statistic("tokens"',
            '    Statistic("aspect", "layer", r"a", "input over output features", at_layer=_aspect),\n',
        ),
    ),
)
ZOO_PROXY = Addition(
    "a proxy of the zoo",
    "autoprox/zoo/formulas.py",
    (
        (
            '    ZooProxy(\n        name="params"',
            '    ZooProxy(name="slenderness", source="here", cost="structure", reads="sizes", note="for a test",\n'
            '             formula="depth / width"),\n',
        ),
    ),
)
EVOLUTION_STRATEGY = Addition(
    "a strategy of evolution",
    "evolve/strategies.py",
    (
        (
            "#: The strategies by name",
            "def one_round(\n    population: list[Individual], breeder: Breeder, retries: int, rng: random.Random\n"
            ") -> list[Individual]:\n"
            '    """Make a generation of the best of the population and one mutant of each."""\n'
            "    children = [breeder.mutant(parent, rng) for parent in population]\n"
            "    breeder.evaluate(children)\n"
            "    return best_distinct([*population, *children], len(population))\n\n\n",
        ),
        (
            '    "elitist": Strategy',
            '    "one-round": Strategy(one_round, "one mutant of each formula, and no second try"),\n',
        ),
    ),
)
SEARCH_STRATEGY = Addition(
    "a strategy of search",
    "autoprox/search/strategies.py",
    (
        (
            "#: The strategies by name",
            "def one_by_one(\n    history: Sequence[Candidate], region: Region, settings: SearchSettings\n"
            ") -> list[Candidate]:\n"
            '    """Propose one random architecture at a time."""\n'
            "    return random_draws(history, region, settings)[:1]\n\n\n",
        ),
        (
            '        "random": Strategy',
            '        "one-by-one": Strategy(one_by_one, "one random architecture at a time"),\n',
        ),
    ),
)
COMMAND = Addition(
    "a command",
    "autoprox/cli/commands/greet.py",
    (
        (
            "",
            '"""Greet whoever is named."""\n\nimport click\n\n\n'
            '@click.command("greet")\n@click.argument("name")\n'
            'def command(name: str) -> None:\n    """Greet NAME."""\n    click.echo(f"Hello, {name}.")\n',
        ),
    ),
)
JOINT_FITNESS = Addition(
    "a joint fitness",
    "evolve/joint.py",
    (
        (
            "#: The ways by name",
            "def capped(taus: Sequence[float], weights: Sequence[float]) -> float:\n"
            '    """Return max τ, up to 0.125."""\n'
            "    return float(min(max(taus), 0.125))\n\n\n",
        ),
        (
            '    "mean": Combination',
            '    "capped": Combination(capped, "the best task up to an eighth", weighted=False),\n',
        ),
    ),
)
EXPORT_FORMAT = Addition(
    "an export format",
    "autoprox/export/__init__.py",
    (
        (
            "#: The forms by name.",
            'def to_size(proxy: Proxy) -> str:\n    """Return the number of nodes of the formula."""\n'
            '    return f"{len(list(proxy.formula.nodes()))} nodes\\n"\n\n\n',
        ),
        ('        "text": Format(to_text', '        "size": Format(to_size, (".size",)),\n'),
    ),
)
READER = Addition(
    "a benchmark reader",
    "bench_cache/benchmarks/readers/lines.py",
    (
        (
            "",
            '"""Reader of lines: a space, then in each line the genes as JSON and two accuracies."""\n\n'
            "import json\n\n"
            "from autoprox.bench_cache.benchmarks.readers.record import Content, Reader\n"
            "from autoprox.bench_cache.benchmarks.record import Record\n"
            "from autoprox.bench_cache.benchmarks.table import Benchmark\n"
            "from autoprox.bench_cache.spaces.registry import InputSpec\n\n\n"
            "def _read(content: Content) -> Benchmark:\n"
            "    first, *lines = content.data.decode().splitlines()\n"
            "    space = first.removeprefix('lines of ')\n"
            "    rows = [line.split('\\t') for line in lines]\n"
            "    records = [\n"
            "        Record(json.loads(genes), {'pets': float(a), 'cars': float(b)})\n"
            "        for genes, a, b in rows\n"
            "    ]\n"
            "    spec = InputSpec(image_size=8, in_channels=1, num_classes=10, patch_size=2)\n"
            "    return Benchmark.from_records('lines', space, spec, 'a test', ('pets', 'cars'), records)\n\n\n"
            "READER = Reader('lines of text', lambda content: content.data.startswith(b'lines of '), _read)\n",
        ),
    ),
)
SPACE = Addition(
    "a space",
    "bench_cache/spaces/narrow.py",
    (
        (
            "",
            '"""The mini-vits of the smallest width."""\n\n'
            "from dataclasses import replace\n\n"
            "from autoprox.bench_cache.spaces.autoformer_spaces import SPACES as AUTOFORMERS\n\n"
            "SPACES = tuple(replace(space, name='narrow', embed_dims=(16,)) for space in AUTOFORMERS[-1:])\n",
        ),
    ),
)
ADDITIONS = (
    OPERATION,
    STATISTIC,
    SPACE,
    ZOO_PROXY,
    EVOLUTION_STRATEGY,
    JOINT_FITNESS,
    EXPORT_FORMAT,
    READER,
    SEARCH_STRATEGY,
    COMMAND,
)


def add(tree: Path, addition: Addition) -> None:
    """Make one addition in a copy of the repository."""
    file = tree / addition.file
    text = file.read_text() if addition.edits[0][0] else ""
    assert bool(text) == file.exists()
    for anchor, addendum in addition.edits:
        assert text.count(anchor) == (1 if anchor else len(text) + 1), f"{addition.file}: {anchor}"
        text = text.replace(anchor, addendum + anchor)
    file.write_text(text)


@dataclass(frozen=True)
class Scratch:
    """A copy of the repository with all additions in it, and a folder to work in."""

    tree: Path
    work: Path

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run autoprox and return what it prints to both streams."""
        environment = {
            **os.environ, "PYTHONPATH": str(self.tree), "AUTOPROX_HOME": str(self.work / "home"), "COLUMNS": "200"
        }  # fmt: skip
        command = [sys.executable, "-m", "autoprox", *arguments]
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    tree, work = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("work")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)  # it marks a source tree, whose folders are one package
    for addition in ADDITIONS:
        add(tree, addition)
    return Scratch(tree, work)


@pytest.fixture(scope="module")
def run_directory(scratch: Scratch) -> Path:
    """Evolve with the reader's benchmark, the strategy and the joint fitness."""
    space, rng = get_space("mini-vit"), Random(0)
    archs = {space.key(arch): arch for arch in (space.sample(rng) for _ in range(40))}
    lines = [f"{json.dumps(space.to_json(arch))}\t{10 + n}\t{90 - n % 13}" for n, arch in enumerate(archs.values())]
    (scratch.work / "table.txt").write_text("\n".join(["lines of mini-vit", *lines]) + "\n")
    scratch.run("bench", "import", "table.txt")
    scratch.run(
        "evolve", "--bench", "lines", "--generations", "2", "--population", "6", "--workers", "1", "--out", "run",
        "--strategy", "one-round", "--joint", "capped", "--no-costly", "--batch", "2", "--refine", "none",
    )  # fmt: skip
    return scratch.work / "run"


def test_the_table_of_contributing_names_the_files() -> None:
    rows = dict(
        line.strip("| ").split(" | ")[:2]
        for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines()
        if line.startswith("| a")
    )
    for addition in ADDITIONS:
        named = rows[addition.what]
        assert addition.file in named or f"{Path(addition.file).parent}/" in named


@pytest.mark.slow
def test_reader(scratch: Scratch, run_directory: Path) -> None:
    assert "pets" in scratch.run("bench", "show", "lines")
    assert "lines of text" in scratch.run("bench", "import", __file__, code=2)


@pytest.mark.slow
def test_evolved_with_strategy_joint_fitness_operation_and_statistic(scratch: Scratch, run_directory: Path) -> None:
    settings, *records = map(json.loads, (run_directory / "journal.jsonl").read_text().splitlines())
    assert (settings["settings"]["strategy"], settings["settings"]["joint"]) == ("one-round", "capped")
    assert [record["best"]["joint"] for record in records] == [0.125] * 3
    evolved = json.dumps(records)
    assert "softsign: " in evolved
    assert '"aspect"' in evolved
    help_text = scratch.run("evolve", "--help")
    assert "one-round:onemutantofeachformula,andnosecondtry;" in "".join(help_text.split())
    assert "the best task up to an eighth" in " ".join(help_text.split())


@pytest.mark.slow
def test_operation_and_statistic_in_a_formula(scratch: Scratch, run_directory: Path) -> None:
    formula = "sum(mean(softsign(weight)) * aspect)"
    assert "sigma_1" in scratch.run("export", formula, "--to", "latex")
    assert "softsign" in scratch.run("export", formula, "--to", "svg")
    assert "def softsign" in scratch.run("export", "sum(mean(softsign(weight)))", "--to", "python")
    assert "'aspect'" in scratch.run("export", formula, "--to", "python", code=2)
    scored = scratch.run("search", "--space", "mini-vit", "--proxy", formula, "--budget", "3", "--image-size", "8",
                         "--patch-size", "2", "--workers", "1", "--strategy", "one-by-one")  # fmt: skip
    assert "The best 3 of 3" in scored


@pytest.mark.slow
def test_space(scratch: Scratch) -> None:
    found = scratch.run("search", "--space", "narrow", "--proxy", "width", "--budget", "3", "--image-size", "8",
                        "--patch-size", "2", "--out", "narrow.json")  # fmt: skip
    assert "The best 3 of 3" in found
    assert "narrow" in scratch.run("search", "--help")


@pytest.mark.slow
def test_zoo_proxy(scratch: Scratch, run_directory: Path) -> None:
    assert "slenderness" in scratch.run("proxies")
    assert "slenderness" in scratch.run("rank", "--bench", "lines", "--proxies", "slenderness")


@pytest.mark.slow
def test_export_format(scratch: Scratch, run_directory: Path) -> None:
    assert "nodes" in scratch.run("export", str(run_directory), "--to", "size")
    assert "size" in scratch.run("export", "--help")


def test_command(scratch: Scratch) -> None:
    listed = next(line for line in scratch.run("--help").splitlines() if line.split()[:1] == ["greet"])
    assert "Greet whoever is named." in listed
    assert scratch.run("greet", "Ada") == "Hello, Ada.\n"
