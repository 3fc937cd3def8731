"""`autoprox train`: rows of a search's result are trained, resumed, compared; its weights fit the file that builds."""

import json
import math
import shlex
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from own_spaces import write

from autoprox.bench_cache.spaces.registry import get_space
from autoprox.bench_cache.training.by_reference import load_dataset
from autoprox.bench_cache.training.trainer import Recipe, train
from autoprox.cli.root import INTERRUPTED, main
from autoprox.display.search import DIGITS
from autoprox.train import run as running
from autoprox.train.comparison import compared
from autoprox.train.found import Network, TrainError, rivals

SEARCH = ("--image-size", "8", "--channels", "1", "--classes", "10", "--patch-size", "2", "--workers", "1")
SHORT = ("--dataset", "digits", "--epochs", "3", "--train-images", "100", "--test-images", "100", "--device", "cpu")
RECIPE = Recipe(epochs=3)


def run(*arguments: object, code: int = 0) -> None:
    assert main([str(argument) for argument in arguments]) == code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search of mini-vit, `found`, and the training of its first row, `alone`."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(folder / "home"))
        space = ("--space", "mini-vit", "--proxy", "0 - params", "--budget", "30", "--seed", "1")
        run("search", *space, *SEARCH, "--out", folder / "found")
        run("train", folder / "found", "--row", "2", *SHORT, "--out", folder / "alone")
    return folder


def test_a_row_is_trained_as_the_benchmarks_are(folder: Path) -> None:
    space, data = get_space("mini-vit"), load_dataset("digits").limited(100, 100)
    row = json.loads((folder / "found" / "architectures.json").read_text())["architectures"][1]
    result = json.loads((folder / "alone" / "result.json").read_text())["networks"]
    assert [each["name"] for each in result] == ["row 2"]
    assert result[0]["genes"] == row["arch"]
    assert result[0]["accuracies"] == train(space, space.from_json(row["arch"]), data.spec, data, RECIPE, [0])
    lines = (folder / "alone" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines[1:]] == [1, 2, 3]
    assert json.loads(lines[-1])["test_accuracy"] == result[0]["accuracies"]


def test_the_weights_fit_the_file_that_builds_the_network(folder: Path) -> None:
    spec = spec_from_file_location("trained_row", folder / "alone" / "row_2.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(__import__("sys").modules, "trained_row", module)
        spec.loader.exec_module(module)
    network = module.build()
    network.load_state_dict(torch.load(folder / "alone" / "row_2_seed_0.pt", weights_only=True))
    data = load_dataset("digits").limited(100, 100)
    with torch.no_grad():
        right = network.eval()(data.test_images).argmax(1) == data.test_labels
    result = json.loads((folder / "alone" / "result.json").read_text())["networks"][0]
    assert 100 * float(right.double().mean()) == pytest.approx(result["accuracy"])


@pytest.mark.parametrize("killed", [1, 2, 4, 6])
def test_a_killed_training_ends_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, monkeypatch, capsys, killed
) -> None:
    command = ("train", folder / "found", "--rows", "1-2", *SHORT, "--seeds", "2", "--out")
    whole, steps = tmp_path / "whole", tmp_path / "steps"
    run(*command, whole)
    monkeypatch.setattr(running, "CHECKPOINT_EVERY", -1.0)
    ended = running.Training.run_epoch
    count = [0]

    def interrupted(self):
        count[0] += 1
        if count[0] == killed:
            raise KeyboardInterrupt
        return ended(self)

    monkeypatch.setattr(running.Training, "run_epoch", interrupted)
    run(*command, steps, code=INTERRUPTED)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "Go on with: " in line]
    monkeypatch.setattr(running.Training, "run_epoch", ended)
    run(*shlex.split(line.partition("Go on with: autoprox ")[2]))
    for name in ("journal.jsonl", "result.json", "row_1.py"):
        assert (steps / name).read_bytes() == (whole / name).read_bytes()
    weights, expected = (torch.load(each / "row_2_seed_1.pt", weights_only=True) for each in (steps, whole))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert not (steps / "checkpoint.pt").exists()


def test_rows_against_random_ones_of_their_size(folder: Path, tmp_path: Path, capsys) -> None:
    command = ("train", folder / "found", "--rows", "1,3", "--against", "random", "--seeds", "2", "--band", "20")
    run(*command, *SHORT, "--out", tmp_path / "compared")
    shown = capsys.readouterr().out
    record = json.loads((tmp_path / "compared" / "result.json").read_text())
    names = [each["name"] for each in record["networks"]]
    assert names == ["row 1", "row 3", "random for row 1", "random for row 3"]
    params = [each["params"] for each in record["networks"]]
    assert all(abs(params[k + 2] / params[k] - 1) <= 0.2 for k in (0, 1))
    accuracy = np.array([each["accuracies"] for each in record["networks"]])
    assert record["comparison"]["difference"] == pytest.approx(float((accuracy[:2] - accuracy[2:]).mean()))
    assert "parameters within 20 %" in shown
    assert not list((tmp_path / "compared").glob("random*"))
    run("report", tmp_path / "compared")
    assert record["words"][0] in (tmp_path / "compared" / "report.html").read_text()


def test_the_commands_that_come_next_run_as_printed(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    run("search", "--space", "mini-vit", "--proxy", "0 - params", "--budget", "5", *SEARCH)
    commands = []
    for _ in range(3):
        line = capsys.readouterr().out.splitlines()[-1]
        assert line.startswith("Next: autoprox ")
        commands.append(shlex.split(line.removeprefix("Next: autoprox ")))
        short = SHORT[2:] if commands[-1][0] == "train" else ()
        run(*commands[-1], *short)
    assert [command[0] for command in commands] == ["search", "train", "report"]
    assert "Saved trained/001/report.html" in capsys.readouterr().out


@pytest.mark.slow
def test_a_users_space_is_trained_where_it_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    write(tmp_path)
    run("search", "--space", "own.py:Tiny", "--proxy", "params", "--budget", "3", *SEARCH, "--out", "found")
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == "Next: autoprox train found --row 1 --dataset digits --space own.py:Tiny"
    run(*shlex.split(line.removeprefix("Next: autoprox ")), *SHORT[2:], "--epochs", "1")
    run("train", "found", "--dataset", "digits", code=2)
    assert "add --space own.py:Tiny" in capsys.readouterr().err


def test_an_image_folder_is_scaled_to_what_the_search_was_for(folder: Path, tmp_path: Path, capsys) -> None:
    image = pytest.importorskip("PIL.Image")
    for kind in ("a", "b"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(4):
            image.new("L", (16, 16), 60 * number).save(tmp_path / "images" / kind / f"{number}.png")
    command = ("train", folder / "found", "--dataset", tmp_path / "images", "--epochs", 1, "--batch", 2)
    run(*command, "--device", "cpu", "--out", tmp_path / "out")
    assert "8 px, 3 channels, 2 classes, patches of 2\nThe search was for 8 px, 1 channel" in capsys.readouterr().err


def test_what_the_search_says_of_digits_is_so() -> None:
    assert load_dataset("digits").spec == DIGITS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--dataset", "digits"], "nowhere holds no result of a search (no architectures.json)"),
        (["found", "--dataset", "digit"], "there is no data set 'digit' (did you mean digits?)"),
        (["found"], "train on what? Name a --dataset: digits"),
        (["--dataset", "digits"], "train what? Name RESULT"),
        (["found", "--row", "31", "--dataset", "digits"], "row 31 is not in the result, which has rows 1 to 10"),
        (["found", "--row", "x", "--dataset", "digits"], "'x' are no rows; write 1, 1-5 or 1,3,7-9"),
        (["found", "--row", "5-1", "--dataset", "digits"], "'5-1' has no rows"),
        (["found", "--dataset", "digits", "--epochs", "0"], "epochs is 0; it must be a whole number from 1"),
        (["found", "--dataset", "digits", "--seeds", "0"], "seeds is 0; it must be a whole number from 1"),
        (["found", "--dataset", "digits", "--device", "tpu"], "'tpu' is no device; --device is auto, cpu"),
        (
            ["found", "--dataset", "digits", "--against", "random", "--band", "100"],
            "band is 100 %; it must be from 0",
        ),
        (["found", "--dataset", "digits", "--out", "alone"], "alone already holds a run; go on with --resume"),
        (["--resume"], "--resume goes on with the training in --out DIR; name it"),
        (["--resume", "--out", "alone", "--epochs", "9"], "alone has its own settings; resume it without --epochs"),
        (["--resume", "--out", "found"], "found/journal.jsonl: line 1 is not the beginning of a training's journal"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    folder: Path, monkeypatch, capsys, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    run("train", *arguments, code=2)
    told = capsys.readouterr().err
    assert message in told
    assert len(told.replace("\nSee 'autoprox train --help'.", "").splitlines()) == 1


def test_a_checkpoint_is_data(folder: Path, tmp_path: Path, capsys) -> None:
    """What a pickle would run is not run, and a damaged file is told."""
    (tmp_path / "out").mkdir()
    lines = (folder / "alone" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out" / "journal.jsonl").write_bytes(b"".join(lines[:2]))
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path).encode() + b"/ran'\ntR.")
    run("train", "--resume", "--out", tmp_path / "out", code=2)
    assert "checkpoint.pt is damaged" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_random_ones_are_of_the_size_and_new() -> None:
    space = get_space("mini-vit")
    row = Network("row 1", space.from_json({"embed_dim": 24, "num_heads": [1, 2], "mlp_ratio": [1.0, 2.0]}))
    found = rivals("mini-vit", DIGITS, [row] * 3, 0.1, 0)
    assert found == rivals("mini-vit", DIGITS, [row] * 3, 0.1, 0) != rivals("mini-vit", DIGITS, [row] * 3, 0.1, 1)
    assert len({space.key(each.arch) for each in (row, *found)}) == 4
    params = space.params(row.arch, DIGITS)
    assert all(abs(space.params(each.arch, DIGITS) - params) <= 0.1 * params for each in found)
    smallest = Network("row 1", space.from_json({"embed_dim": 16, "num_heads": [1], "mlp_ratio": [0.5]}))
    with pytest.raises(TrainError, match="no further architecture of mini-vit is found within 0%"):
        rivals("mini-vit", DIGITS, [smallest] * 4, 0.0, 0)


def test_the_verdict_follows_from_both_intervals() -> None:
    """Student's intervals by hand: mean ± t₂ · s / √3, t₂ = 4.3027."""
    rows = np.array([[71.0, 72.0, 74.0], [70.0, 72.0, 73.0]])
    better = compared(rows, np.full((2, 3), 60.0), 0.05)
    means = np.array([10.5, 12.0, 13.5])
    assert better.difference == pytest.approx(12)
    assert better.over_seeds.low == pytest.approx(12 - 4.302653 * means.std(ddof=1) / math.sqrt(3))
    assert better.over_pairs.high == pytest.approx(12 + 12.7062 * np.std([37 / 3, 35 / 3], ddof=1) / math.sqrt(2), 1e-5)
    assert better.verdict == "helped"
    assert compared(np.full((2, 3), 60.0), rows, 0.05).verdict == "harmed"
    assert compared(rows, rows[::-1], 0.05).verdict == "open"
    one = compared(rows[:1, :1], np.zeros((1, 1)), 0.05)
    assert one.verdict == "open"
    assert [line for line in one.words() if "says nothing of other random" in line or "shows no spread" in line]
    # much better for every seed, but by one pair alone of three
    lucky = compared(np.array([[90.0, 91.0, 90.5], [60, 60, 60], [60, 60, 60]]), np.full((3, 3), 60.0), 0.05)
    assert lucky.over_seeds.low > 0 > lucky.over_pairs.low
    assert lucky.verdict == "open"
