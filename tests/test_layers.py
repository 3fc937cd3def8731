"""The arrows between the folders, read from the imports: who may know of whom."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

import pytest
from places import ROOT

#: folder → the folders it may import from, besides itself (design: "Folders").
ARROWS = {
    "primitives": set(),
    "bench_cache": {"primitives"},
    "evolve": {"primitives", "bench_cache"},
    "autoprox": {"primitives", "bench_cache", "evolve"},
}

#: folder → its rooms, each with the rooms of the same folder that it may import from (design: "Rooms"). A room is a
#: folder of modules, or a module that stands beside them.
ROOMS: dict[str, dict[str, set[str]]] = {
    "primitives": {
        "kinds": set(),
        "errors": set(),
        "untouched": {"batch_norms", "errors"},
        "batch": {"errors"},
        "batch_norms": {"errors"},
        "stand_ins": {"find_blocks"},
        "capture": {"errors", "find_blocks", "stand_ins", "untouched"},
        "find_blocks": {"errors", "untouched"},
        "operations": {"kinds"},
        "statistics": {"find_blocks", "kinds"},
        "formula": {"kinds", "operations", "statistics"},
        "text": {"formula", "kinds", "operations", "statistics"},
        "canonical": {"formula", "kinds", "operations"},
        "words": {"formula", "kinds", "operations", "statistics"},
        "few_steps": {"batch", "capture", "errors", "untouched"},
        "passes": {"batch", "batch_norms", "capture", "errors", "few_steps", "find_blocks", "untouched"},
        "sharing": {"passes", "untouched"},
        "flops": set(),
        "probe": {
            "batch",
            "batch_norms",
            "capture",
            "errors",
            "few_steps",
            "find_blocks",
            "flops",
            "kinds",
            "passes",
            "sharing",
            "statistics",
            "untouched",
        },
        "sampling": {"formula", "kinds", "operations"},
        "reduce": {"errors", "formula", "operations", "probe", "sampling", "statistics"},
        "evaluate": {"errors", "formula", "kinds", "operations", "probe", "reduce", "statistics"},
    },
    "bench_cache": {
        "runtime": set(),
        "spaces": {"runtime"},
        "rank_correlation": set(),
        "benchmarks": {"rank_correlation", "runtime", "spaces"},
        "statistics": {"runtime", "spaces", "benchmarks"},
        "training": {"runtime", "spaces", "benchmarks"},
    },
    "evolve": {
        "joint": set(),
        "looks": set(),
        "fitness": {"joint"},
        "grammar": set(),
        "variation": {"grammar"},
        "front": set(),
        "pieces": {"fitness"},
        "breeder": {"fitness", "front", "grammar", "pieces", "variation"},
        "strategies": {"breeder", "variation"},
        "sums": {"breeder", "grammar", "pieces"},
        "refinements": {"breeder", "sums", "variation"},
        "settings": {"grammar", "joint", "refinements", "strategies"},
        "assembly": {"fitness", "grammar", "joint", "refinements", "settings"},
        "report": {"fitness"},
        "verdict": {"report"},
        "predictions": {"fitness", "report"},
        "trimming": {"breeder", "fitness"},
        "choosing": {"breeder", "fitness", "front", "report", "trimming"},
        "loop": {"breeder", "fitness", "front", "refinements", "settings", "strategies", "variation"},
    },
    "autoprox": {
        "pictures": set(),
        "scoring": set(),
        "models": set(),
        "own_layers": set(),
        "readout": set(),
        "initial_weights": set(),
        "vocabulary": set(),
        "zoo": {"scoring"},
        "collection": set(),
        "proxy": {"scoring", "zoo", "collection"},
        "evolution": {"scoring", "zoo", "proxy"},
        "export": {"scoring", "zoo", "proxy", "pictures"},
        "rank": {"scoring", "zoo", "collection", "proxy", "pictures"},
        "search": {"scoring", "zoo", "proxy", "pictures", "export"},
        "validation": {"zoo", "proxy", "evolution", "rank"},
        "explanation": {"scoring", "proxy", "rank"},
        "train": {"export", "proxy", "scoring", "search", "zoo"},
        "report": {"scoring", "zoo", "proxy", "evolution", "export", "rank", "search", "train", "pictures"},
        "display": {
            "collection",
            "evolution",
            "explanation",
            "pictures",
            "proxy",
            "rank",
            "scoring",
            "search",
            "train",
            "validation",
            "vocabulary",
            "zoo",
        },
        "api": {
            "display",
            "evolution",
            "explanation",
            "initial_weights",
            "models",
            "own_layers",
            "pictures",
            "proxy",
            "rank",
            "readout",
            "report",
            "scoring",
            "search",
            "validation",
            "train",
            "vocabulary",
            "zoo",
        },
        "cli": {
            "api",
            "collection",
            "display",
            "scoring",
            "models",
            "own_layers",
            "readout",
            "vocabulary",
            "zoo",
            "proxy",
            "evolution",
            "export",
            "rank",
            "search",
            "report",
            "validation",
            "pictures",
            "train",
        },
        "__main__": {"cli"},
    },
}

#: An exported proxy carries the source of these, and must run where there is only torch.
CARRIED = (
    "primitives/operations/binary.py",
    "primitives/operations/depth.py",
    "primitives/operations/derived.py",
    "primitives/operations/maps.py",
    "primitives/operations/record.py",
    "primitives/operations/reductions.py",
    "primitives/operations/spectra.py",
    "primitives/operations/total.py",
)

MODULES = sorted(path.relative_to(ROOT).as_posix() for folder in ARROWS for path in (ROOT / folder).rglob("*.py"))


@dataclass(frozen=True)
class Imported:
    """A module that a file imports, wherever in the file the import stands."""

    line: int
    name: str
    level: int = 0

    @property
    def root(self) -> str:
        return self.name.partition(".")[0]


def imports(source: str) -> Iterator[Imported]:
    """Find the imported modules; `from autoprox import x` may import a module x."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Imported(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield Imported(node.lineno, node.module or "", node.level)
        elif isinstance(node, ast.ImportFrom):
            yield from (Imported(node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "?"
            yield Imported(node.lineno, str(name))


def folder_of(imported: Imported) -> str:
    """Return the folder of a module of ours: autoprox.evolve.loop → evolve, autoprox.cli.root → autoprox."""
    second = imported.name.removeprefix("autoprox.").partition(".")[0]
    return second if second in ARROWS else "autoprox"


def violations(folder: str, source: str) -> list[str]:
    """Return what is wrong with the imports of a file in a folder, one line each."""
    wrong = []
    for imported in imports(source):
        if imported.level:
            wrong.append(f"line {imported.line}: relative import; write autoprox.…")
        elif imported.name == "?" and folder != "autoprox":  # the top may import anything, so it may do so lazily
            wrong.append(f"line {imported.line}: an import whose name is computed")
        elif imported.root in ARROWS and imported.root != "autoprox":
            wrong.append(f"line {imported.line}: import autoprox.{imported.name} instead of {imported.name}")
        elif imported.root == "autoprox" and folder_of(imported) not in {folder, *ARROWS[folder]}:
            wrong.append(f"line {imported.line}: {folder} may not know of {imported.name}")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    folder = module.partition("/")[0]
    assert violations(folder, (ROOT / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", CARRIED)
def test_what_an_exported_proxy_carries_needs_only_torch(module: str) -> None:
    for imported in imports((ROOT / module).read_text(encoding="utf-8")):
        ours = any(imported.name.startswith(f"{dotted(other)}.") for other in CARRIED)
        assert imported.root in {"torch", *sys.stdlib_module_names} or ours, f"line {imported.line}: {imported.name}"


def test_arrows_have_no_circle_between_modules() -> None:
    """Modules of ours import each other in one direction too, so that any of them can be imported first."""
    needs: dict[str, set[str]] = {}
    for module in MODULES:
        name = dotted(module)
        needs[name] = {
            target
            for imported in imports((ROOT / module).read_text(encoding="utf-8"))
            if imported.root == "autoprox"
            for target in (imported.name, imported.name.rpartition(".")[0])
            if any(dotted(other) == target for other in MODULES) and target not in ("autoprox", name)
        }
    done: set[str] = set()
    while len(done) < len(needs):
        ready = {name for name in needs if name not in done and needs[name] <= done}
        assert ready, f"in a circle: {sorted(set(needs) - done)}"
        done |= ready


def dotted(module: str) -> str:
    parts = module.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(parts if parts[0] == "autoprox" else ["autoprox", *parts])


def room_of(name: str) -> tuple[str, str]:
    """Return folder and room of a dotted name: autoprox.rank.plan → (autoprox, rank); no room: the folder itself."""
    parts = name.removeprefix("autoprox").strip(".").split(".")
    folder = parts.pop(0) if parts[0] in ROOMS and parts[0] != "autoprox" else "autoprox"
    return folder, parts[0] if parts and parts[0] in ROOMS[folder] else ""


def between_rooms(module: str, source: str) -> list[str]:
    """Return the imports of a file that go against the arrows between rooms, one line each."""
    folder, room = room_of(dotted(module))
    wrong = []
    for imported in imports(source):
        if imported.root != "autoprox":
            continue
        other_folder, other = room_of(imported.name)
        if room and other and other_folder == folder and other not in {room, *ROOMS[folder][room]}:
            wrong.append(f"line {imported.line}: {folder}/{room} may not know of {imported.name}")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows_between_rooms(module: str) -> None:
    assert between_rooms(module, (ROOT / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("folder", ROOMS)
def test_every_room_has_its_arrows(folder: str) -> None:
    there = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert there == set(ROOMS[folder])


def test_arrows_between_rooms_have_no_circle() -> None:
    for rooms in ROOMS.values():
        list(TopologicalSorter(rooms).static_order())  # raises CycleError


def test_every_package_is_listed() -> None:
    """A package that is not listed works in the source tree and vanishes from the wheel."""
    packages = {dotted(module) for module in MODULES if module.endswith("/__init__.py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages)
    modules = {dotted(module).rpartition(".")[0] for module in MODULES if not module.endswith("/__init__.py")}
    assert modules <= packages  # a folder without __init__.py is no package


WRONG = {
    (
        "primitives",
        "from autoprox.bench_cache.spaces.registry import SPACES",
    ): "primitives may not know of autoprox.bench_cache",
    ("primitives", "from autoprox import evolve"): "primitives may not know of autoprox.evolve",
    ("primitives", "from autoprox import __version__"): "primitives may not know of autoprox.__version__",
    ("primitives", "import autoprox.cli.root"): "primitives may not know of autoprox.cli.root",
    ("bench_cache", "def f():\n    from autoprox.evolve import loop"): "line 2: bench_cache may not know of",
    ("evolve", "import autoprox.proxy as p"): "evolve may not know of autoprox.proxy",
    ("evolve", "from . import loop"): "relative import",
    ("autoprox", "from .proxy import Proxy"): "relative import",
    ("autoprox", "from primitives import parse"): "import autoprox.primitives.parse instead of primitives.parse",
    (
        "evolve",
        "import importlib\nimportlib.import_module('autoprox.cli.root')",
    ): "evolve may not know of autoprox.cli.root",
    ("evolve", "__import__(name)"): "whose name is computed",
}


@pytest.mark.parametrize(("folder", "source"), WRONG)
def test_wrong_imports_are_noticed(folder: str, source: str) -> None:
    assert WRONG[folder, source] in violations(folder, source)[0]


def test_right_imports_are_not() -> None:
    source = "import torch\nfrom autoprox.primitives import parse\nimport autoprox.bench_cache.spaces.registry\n"
    assert violations("evolve", source) == []


WRONG_ROOMS = {
    (
        "bench_cache/spaces/pit.py",
        "from autoprox.bench_cache.benchmarks.table import Benchmark",
    ): "spaces may not know of",
    ("bench_cache/runtime/journal.py", "from autoprox.bench_cache import spaces"): "runtime may not know of",
    ("bench_cache/training/run.py", "import autoprox.bench_cache.statistics.store"): "training may not know of",
    ("autoprox/zoo/tools.py", "from autoprox.proxy import Proxy"): "zoo may not know of autoprox.proxy",
    ("autoprox/scoring.py", "from autoprox import zoo"): "scoring may not know of autoprox.zoo",
    ("evolve/fitness.py", "from autoprox.evolve.loop import evolve"): "fitness may not know of",
}


@pytest.mark.parametrize(("module", "source"), WRONG_ROOMS)
def test_wrong_imports_between_rooms_are_noticed(module: str, source: str) -> None:
    assert WRONG_ROOMS[module, source] in between_rooms(module, source)[0]
