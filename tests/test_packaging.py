"""Packaging: a wheel holds all four folders under one name; it works outside the tree and inside; so does the tree."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from places import ROOT

FOLDERS = ("autoprox", "primitives", "bench_cache", "evolve")
SITE = sysconfig.get_paths()["purelib"]

#: Touches every folder, scores a network, and says where it was all found.
USE = """
import json, sys
import torch
import autoprox.bench_cache.spaces.registry, autoprox.evolve, autoprox.primitives
from autoprox.bench_cache.spaces.autoformer import AutoFormerArch
from autoprox.bench_cache.spaces.registry import InputSpec
torch.set_num_threads(1)
space = autoprox.get_space("autoformer-vb101")
model = space.build(AutoFormerArch(192, (3,) * 12, (3.5,) * 12), InputSpec(image_size=32))
proxy = autoprox.Proxy.from_formula("sum(l1(weight * weight_grad[noise])) / params")
print(json.dumps({
    "score": proxy.score(model, torch.zeros(2, 3, 32, 32)),
    "files": [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "autoprox"],
    "foreign": sorted({"primitives", "bench_cache", "evolve"} & set(sys.modules)),
}))
"""


@dataclass(frozen=True)
class Wheel:
    """A wheel, the copy of the tree that it was built from, and where it is installed."""

    path: Path
    tree: Path
    installed: Path


def files_of(tree: Path, folder: str) -> set[str]:
    """Return the files of a package as they must be called in the wheel."""
    inside = "autoprox" if folder == "autoprox" else f"autoprox/{folder}"
    files = (path for path in (tree / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{inside}/{path.relative_to(tree / folder).as_posix()}" for path in files}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    """Build the wheel from a copy, so that the tree stays clean, and install it beside nothing else."""
    work = tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, work / "tree" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / "tree" / name)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(work), str(work / "tree"), cwd=work)
    (path,) = work.glob("*.whl")
    installed = work / "site"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed), str(path), cwd=work)
    return Wheel(path, work / "tree", installed)


def run(*arguments: str, cwd: Path, path: tuple[str | Path, ...] | None = None) -> str:
    """Run Python; with `path`, without site-packages' own set-up, so that an editable install is not seen."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
        arguments = ("-S", *arguments)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def used(cwd: Path, *path: str | Path) -> dict:
    return json.loads(run("-c", USE, cwd=cwd, path=path).splitlines()[-1])


def helps(cwd: Path, *path: str | Path) -> list[str]:
    """Return the helps that are read from the files of commands."""
    return [run("-m", "autoprox", *group, "--help", cwd=cwd, path=path or None) for group in ([], ["bench"])]


def test_wheel_holds_the_four_folders_and_nothing_else(wheel: Wheel) -> None:
    with zipfile.ZipFile(wheel.path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    ours = {name for name in names if not name.startswith(f"{info}/")}
    assert ours == set().union(*(files_of(wheel.tree, folder) for folder in FOLDERS))
    assert "autoprox = autoprox.cli:main" in entry_points
    assert f"{info}/licenses/LICENSE" in names
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert required
    assert [line for line in required if ">=" not in line and not line.startswith("autoprox[")] == []


def test_wheel_works_outside_the_tree(wheel: Wheel, tmp_path: Path) -> None:
    """Also where the user has modules called like our folders."""
    for name in ("primitives", "evolve", "bench_cache"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    seen = used(tmp_path, wheel.installed, SITE)
    assert seen["score"] > 0
    assert all(Path(file).is_relative_to(wheel.installed) for file in seen["files"])
    assert seen["foreign"] == []
    assert run("-m", "autoprox", "--version", cwd=tmp_path, path=(wheel.installed, SITE)).startswith("autoprox ")
    assert helps(tmp_path, wheel.installed, SITE) == helps(ROOT)


@pytest.mark.slow
def test_wheel_works_in_the_tree(wheel: Wheel) -> None:
    """With the repository's root as the current directory, its autoprox/ comes first: it must find its siblings."""
    seen = used(ROOT, wheel.installed, SITE)
    assert seen["score"] > 0
    assert all(Path(file).is_relative_to(ROOT) for file in seen["files"])


@pytest.mark.slow
def test_tree_works_uninstalled(wheel: Wheel, tmp_path: Path) -> None:
    """`python -m autoprox` and imports from a bare checkout, where nothing of ours is installed."""
    seen = used(wheel.tree, SITE)
    assert all(Path(file).is_relative_to(wheel.tree) for file in seen["files"])
    assert seen["foreign"] == []
    assert run("-m", "autoprox", "--version", cwd=wheel.tree, path=(SITE,)).startswith("autoprox ")
    assert helps(wheel.tree, SITE) == helps(ROOT)
    nowhere = subprocess.run(
        [sys.executable, "-S", "-c", "import autoprox"], cwd=tmp_path, env={"PYTHONPATH": SITE}, capture_output=True
    )
    assert b"No module named 'autoprox'" in nowhere.stderr  # so the tests above do not see another installation
