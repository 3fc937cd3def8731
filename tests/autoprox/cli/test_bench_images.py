"""`autoprox bench images`: a benchmark's tasks get the user's images, which every command then reads and names."""

import json
import re
from pathlib import Path

import homes
import numpy as np
import pytest
import synthetic
from PIL import Image

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import MAX_BYTES
from autoprox.cli.root import FAILED, main
from autoprox.display.evolution import networks_read
from autoprox.evolve import EvolutionSettings
from autoprox.evolve.assembly import probe_of
from autoprox.rank.plan import make_plan, network_setups

BENCHMARK = synthetic.benchmark(16)


@pytest.fixture(autouse=True)
def _in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(homes.made(tmp_path / "home")))
    monkeypatch.chdir(tmp_path)
    BENCHMARK.save(tmp_path / "home" / "benchmarks" / "small.json")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of images in two classes."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for place in range(3):
            (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{place}.png")
    return tmp_path / "pets"


def images(*arguments: object) -> int:
    return main(["bench", "images", *map(str, arguments)])


def test_images_become_a_part_of_the_benchmark(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert images("small", pets, "--task", "rare", "--count", 4) == 0
    found = load_benchmark("small")
    given = found.inputs["rare"]
    assert list(found.inputs) == ["rare"]
    assert (given.images.shape, given.targets.tolist()) == ((4, 3, 24, 24), [0, 1, 0, 1])
    assert given.spec == BENCHMARK.spec
    printed = capsys.readouterr().out
    assert f"small: 4 images of 3 × 24 × 24 for rare (SHA-256 {given.digest})" in printed
    assert "from pets: cut to 24 × 24, normalised by ImageNet's mean; with their classes" in printed
    assert main(["bench", "show", "small"]) == 0
    row = re.search(r"rare +4 +3 × 24 × 24 +10 +(\w+) +pets: cut", capsys.readouterr().out)
    assert row is not None
    assert given.digest.startswith(row[1])


@pytest.mark.slow
def test_evolution_and_ranking_run_on_the_images_and_say_so(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert images("small", pets, "--task", "*_kd") == 0
    digest = load_benchmark("small").inputs["size_kd"].short_digest
    capsys.readouterr()
    choices = ("--workers", "1", "--generations", "1", "--population", "4", "--seed", "1")
    assert main(["evolve", "--bench", "small", "--tasks", "*_kd", *choices, "--out", "run"]) == 0
    line = (
        "On size_kd, shape_kd the probe `data` read the first 2 images that the benchmark has of the task, with their "
        f"classes (SHA-256 of its images: {digest})."
    )
    assert line in capsys.readouterr().err.splitlines()
    assert main(["evolve", "--resume", "--out", "run", "--generations", "2", "--workers", "1"]) == 0
    assert line in capsys.readouterr().err.splitlines()
    ranked = ("rank", "--bench", "small", "--tasks", "size_kd", "--proxies", "snip", "--workers", "1", "--sample", "6")
    assert main([*ranked, "--out", "ranked"]) == 0
    assert f"(SHA-256 of its images: {digest})" in capsys.readouterr().out


def test_images_of_some_tasks_alone_are_said_not_to_be_read(pets: Path) -> None:
    assert images("small", pets, "--task", "size_kd") == 0
    settings = EvolutionSettings((("small", ""),), ("small:size_kd", "small:shape_kd"))
    noise, unread = networks_read(settings, [load_benchmark("small")])
    assert noise.startswith("The probe `noise` read Gaussian input of the batch's shape")
    assert unread.startswith("The images of size_kd are not read, because other tasks have none")


def test_a_task_with_images_is_evolved_on_alone_with_the_probe_data(pets: Path) -> None:
    assert images("small", pets, "--task", "rare") == 0
    found = load_benchmark("small")
    settings = EvolutionSettings((("small", ""),), ("small:rare",))
    assert probe_of(settings, [found]) == "data"
    assert probe_of(EvolutionSettings((("small", ""),), ("small:rare", "small:size_kd")), [found]) == "noise"


def test_tasks_with_the_same_images_share_networks_and_the_images_stand_once(pets: Path) -> None:
    assert images("small", pets, "--task", "*") == 0
    found = load_benchmark("small")
    (network,) = found.networks()
    assert network.tasks == tuple(BENCHMARK.tasks)
    stored = json.loads(found.to_bytes())["inputs"]
    assert stored["shape_kd"] == stored["rare"] == "size_kd"
    assert Benchmark.from_bytes(found.to_bytes()).to_bytes() == found.to_bytes()


@pytest.mark.slow
def test_other_images_have_other_scores_and_are_not_mixed_up(pets: Path, tmp_path: Path) -> None:
    def setup() -> tuple[bytes, bytes]:
        (found,) = network_setups(make_plan(load_benchmark("small"), tasks=["rare"], proxies=["snip"]))
        return found.inputs.tobytes(), found.targets.tobytes()

    def score() -> str:
        main(["rank", "--bench", "small", "--tasks", "rare", "--proxies", "snip", "--workers", "1", "--sample", "5"])
        return max((tmp_path / "ranks").iterdir()).joinpath("scores.jsonl").read_text().split("\n", 1)[1]

    assert images("small", pets, "--task", "rare") == 0
    first, scored = setup(), score()
    for place, file in enumerate(sorted(pets.rglob("*.png"))):
        Image.new("RGB", (24, 24), (place, 99, 255 - place)).save(file)
    assert images("small", pets, "--task", "rare") == 0
    assert setup() != first
    assert score() != scored


def test_images_without_classes_get_random_ones_which_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("raw.npz", x=np.random.default_rng(1).normal(size=(5, 3, 24, 24)))
    for name in ("one", "two"):
        assert images("small", "raw.npz", "--task", "rare", "--name", name) == 0
    one, two = (load_benchmark(name).inputs["rare"] for name in ("one", "two"))
    assert one.digest == two.digest
    assert one.random_targets
    assert "read as they are; classes drawn at random" in one.source
    capsys.readouterr()
    assert main(["rank", "--bench", "one", "--tasks", "rare", "--proxies", "snip", "--workers", "1"]) == 0
    assert "that the benchmark has of the task, with random classes (SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("small", "pets"), "several tasks; name those that the images are of with --task, such as --task size_kd"),
        (("small", "pets", "--task", "nope"), "no task is called 'nope'"),
        (("small", "nowhere", "--task", "rare"), "nowhere: there is no such folder of images"),
        (("small", "grey.npz", "--task", "rare"), "images are 1 × 24 × 24, and the networks of small read 3 × 24 × 24"),
        (("small", "many.npz", "--task", "rare"), "of class 12, and the networks of small have the classes 0 to 9"),
        (("small", "pets", "--task", "rare", "--count", "0"), "ask for at least 1"),
        (("small", "pets", "--task", "rare", "--classes", "0"), "num_classes 0 is not a positive integer"),
        (("mini-vit", "pets", "--task", "digits"), "read 1 × 8 × 8"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    arguments: tuple[str, ...], message: str, pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("home/benchmarks/small.json").read_bytes()
    np.savez("grey.npz", images=np.zeros((2, 24, 24), np.float32))
    np.savez("many.npz", images=np.zeros((2, 3, 24, 24), np.float32), targets=[0, 12])
    assert images(*arguments) == FAILED
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert Path("home/benchmarks/small.json").read_bytes() == before


def test_more_classes_can_be_said(pets: Path) -> None:
    np.savez("many.npz", images=np.zeros((2, 3, 24, 24), np.float32), targets=[0, 12])
    assert images("small", "many.npz", "--task", "rare", "--classes", "13") == 0
    found = load_benchmark("small")
    assert [network.spec.num_classes for network in found.networks() if network.spec] == [10, 13]


def test_large_images_fit_into_the_file() -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 3, 224, 224)) / 255
    given = synthetic.mini(2).inputs["large"]
    spec = type(given.spec)(224, 3, 4, 16)
    found = type(given)(spec, images, np.zeros(16, int), "tests")
    written = found.to_json()
    assert len(json.dumps(written)) < MAX_BYTES / 3
