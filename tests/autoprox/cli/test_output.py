"""What every command prints: results on stdout, JSON with --json, nothing else with --quiet, progress on stderr."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.benchmarks.tabular import TabularArchitecture
from autoprox.cli.folder import FolderGroup, as_typed
from autoprox.cli.options import tasks_option
from autoprox.cli.root import main, root

ONE = ("--workers", "1")
#: Small enough to score in milliseconds: 8 px, and proxies that are sizes.
SPACE = ("--space", "mini-vit", "--image-size", "8", "--channels", "1", "--classes", "10", "--patch-size", "2")
MODEL = ("space:mini-vit:one.json", "--image-size", "8", "--channels", "1")
#: Command → arguments that run it quickly in the folder of the tests. A `*` makes a new folder or file.
RUNS = {
    "evolve": ("--bench", "table", "--grammar", "tabular", "--generations", "1", "--population", "4", "--out", "*"),
    "search": (*SPACE, "--proxy", "params", "--budget", "4", "--population", "2", "--tournament", "2", "--out", "*"),
    "train": ("found", "--dataset", "digits", "--epochs", "1", "--train-images", "40", "--test-images", "40",
              "--device", "cpu", "--out", "*"),
    "report": ("found", "--out", "*"),
    "rank": ("--bench", "table", "--proxies", "good,bad", *ONE, "--out", "*"),
    "libra": ("--bench", "table", "--proxies", "good,bad,ugly", *ONE, "--out", "*"),
    "validate": ("good", "--bench", "table", *ONE, "--out", "*"),
    "score": ("params", *MODEL, "--device", "cpu"),
    "layers": MODEL,
    "explain": ("column[good] / column[bad]", "--bench", "table", *ONE),
    "export": ("snip", "--to", "latex"),
    "completion": ("bash", "--print"),
    "proxies": (),
    "bench clean": (),
    "bench images": ("own.json", "images.npz", "--out", "*"),
    "bench import": ("table.json", "--out", "*"),
    "bench list": (),
    "bench show": ("table",),
    "bench train": ("--space", "mini-vit", "--dataset", "labelled.npz", "--archs", "2", "--epochs", "1", "--seeds", "1",
                    *ONE, "--out", "*"),
}  # fmt: skip
#: Commands that need a network.
OTHERS = {"bench download"}


def commands(group: FolderGroup = root, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.modules():
        command = group.get_command(click.Context(group), name)
        if isinstance(command, FolderGroup):
            yield from commands(command, f"{prefix}{name} ")
        elif command is not None:
            yield prefix + name, command


def table() -> Benchmark:
    rng = np.random.default_rng(0)
    y = rng.normal(size=60)
    architectures = tuple(TabularArchitecture((("layer_num", n % 7), ("m_size", float(n)))) for n in range(60))
    columns = {name: y + rng.normal(0, noise, 60) for name, noise in (("good", 0.1), ("bad", 1.0), ("ugly", 3.0))}
    return Benchmark("table", None, None, "made up", architectures, {"oa": 50 + y}, columns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the commands read; they run in it."""
    made = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    images, targets = rng.normal(size=(60, 1, 8, 8)).astype(np.float32), np.arange(60) % 10
    np.savez(made / "images.npz", images=images, targets=targets)
    np.savez(made / "labelled.npz", images=images, labels=targets)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(made / "home"))
        patched.setenv("MPLCONFIGDIR", str(made / "matplotlib"))
        patched.chdir(made)
        table().save(made / "table.json")
        table().save(made / "home" / "benchmarks" / "table.json")
        assert main(["search", *RUNS["search"][:-1], "found", "--quiet"]) == 0
        found = json.loads((made / "found" / "architectures.json").read_bytes())
        (made / "one.json").write_text(json.dumps(found["architectures"][0]["arch"]))
        assert main(["bench", "train", *RUNS["bench train"][:-1], "own.json", "--quiet"]) == 0
        yield made


def arguments(name: str, *more: str) -> list[str]:
    given = [Path("new").absolute().as_posix() if word == "*" else word for word in RUNS[name]]
    return [*name.split(), *given, *more]


@pytest.fixture(autouse=True)
def _nothing_is_there(folder: Path) -> Iterator[None]:
    yield
    for path in folder.glob("new*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_every_command_is_tried() -> None:
    assert {name for name, _ in commands()} == RUNS.keys() | OTHERS


@pytest.mark.parametrize(("name", "command"), [pytest.param(n, c, id=n) for n, c in commands() if n in RUNS])
def test_every_command_has_json_and_quiet(name: str, command: click.Command) -> None:
    assert {"--json", "--quiet"} <= {option for parameter in command.params for option in parameter.opts}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", RUNS)
def test_json_is_all_of_stdout_and_quiet_is_silent(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(name, "--json", "--quiet")) == 0
    out, err = capfd.readouterr()
    assert isinstance(json.loads(out), dict)
    assert err == ""


#: What each long command says on stderr before it works.
HEADINGS = {
    "evolve": "autoprox evolve → ",
    "search": "autoprox search → ",
    "train": "autoprox train → ",
    "report": "autoprox report: drawing",
    "rank": "autoprox rank → ",
    "libra": "autoprox libra → ",
    "score": "autoprox score: 1 model by 1 proxy",
    "explain": "autoprox explain on table",
    "bench train": "2 architectures of mini-vit on labelled",
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", [name for name in HEADINGS if name not in ("train", "bench train")])
def test_progress_is_on_stderr(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(name)) == 0
    out, err = capfd.readouterr()
    assert HEADINGS[name] in err
    assert HEADINGS[name] not in out
    assert out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["evolve", "search", "rank", "explain", "libra", "validate"])
@pytest.mark.parametrize("tasks", ["", ","])
def test_a_list_of_tasks_without_any_is_refused(name: str, tasks: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(name, "--tasks", tasks)) == 2
    assert f"--tasks '{tasks}' names no task; leave it out for all of them" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("max_params is below the smallest", "--max-params is below the smallest"),
        ("use a larger max_params", "use a larger --max-params"),
        ("sample is 2; it must be more", "--sample is 2; it must be more"),
        ("seed is 'x'", "--seed is 'x'"),
        ("the sample is drawn", "the sample is drawn"),
        ("out_max_params is 3, --max_params 2", "out_max_params is 3, --max_params 2"),
    ],
)
def test_errors_name_options_as_they_are_typed(message: str, typed: str) -> None:
    options = [click.Option([f"--{name}"]) for name in ("max-params", "sample", "seed")]
    assert as_typed(message, options) == typed


def test_an_error_names_the_option(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert (
        main(["bench", "train", "--dataset", "digits", "--sample-seed", "-1", "--out", str(tmp_path / "a.json")]) == 2
    )
    assert "--sample-seed is -1; it must be at least 0" in capfd.readouterr().err


def test_tasks_without_the_option_are_all() -> None:
    command = click.command()(tasks_option(lambda tasks: tasks))
    assert command.main([], standalone_mode=False) == ""
