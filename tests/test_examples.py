"""The examples run as they are, in any folder, and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

EXAMPLES = ROOT / "examples"


def printed_by(name: str, folder: Path) -> str:
    """What an example prints, run from an empty folder that it leaves empty."""
    environment = os.environ | {"AUTOPROX_HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=230,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), f"{name}: {ran.stderr}"
    assert not list(folder.iterdir())
    return ran.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_tested(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    assert f'printed_by("{path.stem}", ' in Path(__file__).read_text(encoding="utf-8")


def test_quickstart_ranks_and_exports(tmp_path: Path) -> None:
    printed = printed_by("quickstart", tmp_path)
    scores = [float(score) for score in re.findall(r"^ +([\d.]+) +[\d,]+  \d+\|", printed, re.MULTILINE)]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert r"in LaTeX: \sum \left\|{W}^{\mathrm{mlp}}" in printed
    assert f"my_proxy.py scores the best {scores[0]}, as autoprox does" in printed


@pytest.mark.slow
def test_custom_operation_is_used_and_a_careless_one_refused(tmp_path: Path) -> None:
    printed = printed_by("custom_operation", tmp_path)
    assert "refused: operation 'logs'" in printed
    assert "mean(hoyer(weight_grad[mlp]) - hoyer(act[mlp]))" in printed
    scores = re.findall(r"^ *(-?[\d.]+)  autoformer-tiny:", printed, re.MULTILINE)
    assert len(set(scores)) == 3
    assert re.search(r"^evolved: \S.*\ntried: .*hoyer\(", printed, re.MULTILINE)


@pytest.mark.slow
def test_plug_in_search_finds_better_and_better(tmp_path: Path) -> None:
    printed = printed_by("plug_in_search", tmp_path)
    found = re.findall(r"^trial +\d+: +(-?[\d.]+)  (.*)$", printed, re.MULTILINE)
    scores = [float(score) for score, _ in found]
    assert len(scores) > 1
    assert scores == sorted(scores)
    assert f"train this one: {found[-1][1]}" in printed


@pytest.mark.slow
def test_own_space_is_trained_evolved_on_and_searched(tmp_path: Path) -> None:
    printed = printed_by("own_space", tmp_path)
    assert "trained 32 architectures of MySpace\n" in printed
    assert re.search(r"^evolved: \S", printed, re.MULTILINE)
    assert re.search(r"^train this one: width \d\d, depth \d, heads \[[24, ]+\], ratio \[[12, ]+\]$", printed, re.M)
