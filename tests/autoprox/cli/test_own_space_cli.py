"""A space and operations of a user's own on the command line: training, evolution, ranking, search, and refusals."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from own_spaces import SOUND, write

from autoprox.cli.root import main

OPERATIONS = '''
import torch
from autoprox.primitives import Operation


def softsign(x):
    """x / (1 + |x|)"""
    return x / (1 + x.abs())


SOFT = Operation("soft", "map", softsign, r"s({0})", increasing=True)
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, operations, a data set, and a benchmark that `bench train` made of them."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 10
    images = rng.normal(size=(240, 8, 8)).astype(np.float32) + labels[:, None, None] / 3
    np.savez(folder / "set.npz", images=images, labels=labels)
    (folder / "ops.py").write_text(OPERATIONS)
    write(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("AUTOPROX_HOME", str(folder / "home"))
        train = "bench train --dataset set.npz --archs 30 --epochs 2 --batch 20 --seeds 1 --workers 1 --patch-size 4"
        assert main([*train.split(), "--space", "own.py:Tiny", "--out", "own.json"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _there(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("AUTOPROX_HOME", str(made / "home"))


def run(command: str) -> int:
    return main(command.split())


def test_files_record_the_space_by_name_and_digest(made: Path) -> None:
    space = orjson.loads(Path("own.json").read_bytes())["space"]
    assert space.keys() == {"name", "file", "digest"}
    assert (space["name"], space["file"]) == ("Tiny", "own.py:Tiny")
    head = orjson.loads(Path("own.json.journal").read_bytes().splitlines()[0])
    assert head["settings"]["space"] == space
    assert str(made) not in Path("own.json").read_text() + Path("own.json.journal").read_text()


@pytest.mark.slow
def test_it_evolves_with_own_operations_and_searches(capsys: pytest.CaptureFixture[str]) -> None:
    evolve = "evolve --bench own.json --population 8 --seed 1 --operations ops.py --space own.py:Tiny"
    assert run(f"{evolve} --generations 1 --workers 1 --out one") == 0
    assert run(f"{evolve} --generations 1 --workers 2 --out two") == 0
    assert Path("one/journal.jsonl").read_bytes() == Path("two/journal.jsonl").read_bytes()
    resume = "evolve --resume --out one --generations 2 --workers 1"
    assert run(f"{resume} --operations ops.py --space own.py:Tiny") == 0
    assert "Next: autoprox export one --to python --out proxy.py --operations ops.py\n" in capsys.readouterr().out
    assert run(f"{resume} --space own.py:Tiny") == 2
    assert "add the same --operations" in capsys.readouterr().err
    assert run(f"{resume} --operations ops.py") == 2
    assert "the space 'Tiny' is in a user's file: add --space own.py:Tiny" in capsys.readouterr().err
    shape = "--image-size 8 --channels 1 --classes 10 --patch-size 4"
    proxy = "sum(soft(l1(weight)))"
    search = f"search --space own.py:Tiny --proxy {proxy} --operations ops.py {shape} --budget 6 --workers 1"
    assert run(f"{search} --population 4 --tournament 2 --out found") == 0
    assert orjson.loads(Path("found/architectures.json").read_bytes())["space"]["file"] == "own.py:Tiny"
    assert run("search --resume --out found --budget 7 --space own.py:Tiny --operations ops.py --workers 1") == 0
    assert run("search --resume --out found --budget 8 --operations ops.py --workers 1") == 2
    assert "add --space own.py:Tiny" in capsys.readouterr().err
    assert run("export sum(soft(l1(weight))) --operations ops.py --to python --out proxy.py") == 0


def test_the_command_that_training_tells_runs(capsys: pytest.CaptureFixture[str]) -> None:
    train = (
        "bench train --space own.py:Tiny --dataset set.npz --archs 5 --epochs 1 --seeds 1 --workers 1 --patch-size 4"
    )
    assert run(f"{train} --out five.json") == 0
    *_, few, told = capsys.readouterr().out.splitlines()
    assert few.endswith("there are 5 architectures; train more: a larger --archs, and another --out")
    assert told == "Next: autoprox bench show five.json --space own.py:Tiny"
    assert run(told.removeprefix("Next: autoprox ")) == 0


def test_a_small_image_is_one_patch_where_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    search = (
        "search --space own.py:Tiny --proxy snip --images set8.npz --channels 1 --classes 10 --workers 1 --budget 2"
    )
    np.savez("set8.npz", images=np.ones((2, 8, 8), np.float32), targets=np.array([0, 1]))
    assert run(f"{search} --population 2 --tournament 2 --image-size 8") == 0
    assert run(f"{search} --image-size 8 --patch-size 16") == 2
    assert "larger than" in capsys.readouterr().err


@pytest.mark.slow
def test_it_is_ranked_and_searched_as_a_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    own = "--bench own.json --space own.py:Tiny --workers 1"
    assert run(f"rank {own} --proxies snip,grasp --sample 5 --out ranked") == 0
    assert run(f"search {own} --proxy snip --budget 5") == 0
    soft = "rank --bench own.json --space own.py:Tiny --proxies sum(soft(l1(weight))),l2-norm --workers 1 --out soft"
    assert run(soft) == 2
    assert "soft" in capsys.readouterr().err
    assert run(f"{soft} --operations ops.py") == 0
    merge = "libra --bench own.json --space own.py:Tiny --scores soft"
    assert run(f"{merge} --operations ops.py") == 0
    assert "sum(soft(l1(weight)))" in capsys.readouterr().out
    assert run(merge) == 2
    assert "add the --operations that it was run with" in capsys.readouterr().err
    assert run("bench show own.json --space own.py:Tiny") == 0
    assert "space Tiny, built for 8 px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("rank --bench own.json", "own.json: the space 'Tiny' is in a user's file: add --space own.py:Tiny"),
        ("evolve --bench mini-vit --space own.py:Tiny", "no benchmark is of the space Tiny: mini-vit is of mini-vit"),
        ("rank --bench own.json --space absent.py:Tiny", "there is no file absent.py"),
        ("rank --bench own.json --space own.py:Tny", "own.py has no 'Tny' (did you mean Tiny?)"),
        ("search --space own.py:Tiny --proxy l2-norm", "on an image of 3 × 224 × 224"),
        ("evolve --operations own.py", "own.py has no operation: write Operation("),
        ("evolve --operations soft", "'soft' names no operations; write FILE.py"),
        ("evolve --operations absent.py", "absent.py: there is no file absent.py"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(command: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{command} --out nowhere") == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert not Path("nowhere").exists()


def test_an_edited_space_is_refused_until_the_benchmark_is_imported_again(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "edited").mkdir(exist_ok=True)
    write(made / "edited", SOUND + "# a remark\n")
    assert run("bench show own.json --space edited/own.py:Tiny") == 2
    assert "the space Tiny (own.py:Tiny) has changed" in capsys.readouterr().err
    assert run("bench import own.json --space edited/own.py:Tiny --out again.json") == 0
    assert run("bench show again.json --space edited/own.py:Tiny") == 0
    assert run("bench import own.json --space mini-vit --out again.json") == 2
    assert "it is of the space 'Tiny', and not of mini-vit" in capsys.readouterr().err
    write(made / "edited", SOUND.replace("16", "20"))
    assert run("bench import own.json --space edited/own.py:Tiny --out again.json") == 2
    assert "width 16 is not one of 8, 12, 20" in capsys.readouterr().err
