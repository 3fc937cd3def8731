"""`autoprox search --images`: a folder or a file, read as `score` reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from printed import everything

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.spaces.registry import get_space
from autoprox.cli.root import FAILED, main
from autoprox.proxy import Proxy

SPACE = ("search", "--space", "pit-vb101", "--image-size", "24", "--classes", "10", "--patch-size", "8")
SEARCH = (*SPACE, "--max-params", "300K", "--workers", "1", "--proxy", "snip", "--budget", "2")


@pytest.fixture(autouse=True)
def _with_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("photos/cat/a.png", "photos/cat/b.png", "photos/dog/a.png", "flat/a.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 255, (30, 24, 3), dtype=np.uint8)).save(name)
    pixels = rng.integers(0, 255, (2, 24, 24, 3), dtype=np.uint8)
    np.savez("bytes.npz", x=pixels, y=np.array([3, 9]))


@pytest.mark.parametrize("images", ["photos", "bytes.npz"])
def test_a_search_and_score_read_the_same(images: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "--images", images, "--out", "run"]) == 0
    assert "on 2 images of 3 × 24 × 24 with their classes" in everything(capsys)
    best = json.loads(Path("run/architectures.json").read_bytes())["architectures"][0]
    model = ("space:pit-vb101:run/architectures.json", "--set", "num_classes=10", "--set", "patch_size=8")
    size = ("--image-size", "24") if images == "photos" else ()
    score = ("score", *model, "--proxy", "snip", "--images", images, *size, "--device", "cpu", "--json")
    assert main(list(score)) == 0
    (row,) = json.loads(capsys.readouterr().out)["proxies"][0]["ranking"]
    assert row["score"] == pytest.approx(best["score"], rel=1e-6)


def test_a_search_goes_on_with_the_images_that_it_was_started_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "--images", "photos", "--batch", "3", "--out", "run"]) == 0
    resume = ("search", "--resume", "--out", "run", "--workers", "1", "--budget", "3")
    assert main([*resume, "--images", "bytes.npz"]) == FAILED
    assert "was started with another --images; resume it without --images" in capsys.readouterr().err
    assert main([*resume, "--images", "photos"]) == 0
    assert main([*resume, "--budget", "4"]) == 0


def test_a_benchmark_says_what_its_networks_read(capsys: pytest.CaptureFixture[str]) -> None:
    bench = ("search", "--bench", "mini-vit", "--tasks", "fashion", "--proxy", "snip", "--budget", "2")
    assert main([*bench, "--images", "photos"]) == FAILED
    assert "the images are 3 × 28 × 28, but the networks read 1 × 28 × 28" in capsys.readouterr().err
    rng = np.random.default_rng(0)
    np.savez("own.npz", images=rng.normal(size=(2, 28, 28)).astype(np.float32), targets=np.array([0, 9]))
    assert main([*bench, "--images", "own.npz", "--workers", "1"]) == 0
    assert "on 2 images of 1 × 28 × 28 with their classes" in everything(capsys)


def test_images_without_classes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "--images", "flat"]) == FAILED
    assert "flat: these images have no classes" in capsys.readouterr().err
    assert main([*SEARCH, "--images", "bytes.npz", "--batch", "1"]) == FAILED
    assert "bytes.npz has its own number: leave it out" in capsys.readouterr().err


def test_a_formula_that_reads_images_searches_without_any(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(list(SEARCH)) == 0
    told = "on 2 Gaussian samples with random classes, because it reads images and has none"
    assert told in everything(capsys)


def test_images_are_those_of_the_benchmark_of_the_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    provenance = {"benchmarks": ["mini-vit"], "tasks": ["mini-vit:digits"]}
    Proxy.from_formula("sum(l1(weight_grad))", "own", provenance).save("own.json")
    space = ("search", "--space", "mini-vit", "--proxy", "own.json", "--budget", "2", "--workers", "1")
    assert main([*space, "--out", "run"]) == 0
    told = everything(capsys)
    assert "on 2 images of 1 × 8 × 8 with their classes" in told
    given = load_benchmark("mini-vit").inputs["digits"]
    best = json.loads(Path("run/architectures.json").read_bytes())["architectures"][0]
    network = get_space("mini-vit").build(get_space("mini-vit").from_json(best["arch"]), given.spec)
    batch = torch.from_numpy(given.images[:2].copy()), torch.from_numpy(given.targets[:2].copy())
    assert best["score"] == pytest.approx(Proxy.load("own.json").score(network, *batch), rel=1e-6)
    assert main(["search", "--resume", "--out", "run", "--budget", "3", "--workers", "1"]) == 0
    capsys.readouterr()
    assert main([*space, "--image-size", "8", "--patch-size", "2"]) == 0
    assert "2 Gaussian samples" in everything(capsys)
