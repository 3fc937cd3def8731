"""Evolutions on a device: statistics are built there, generations are evaluated there, and a run goes on there."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import synthetic
from evolution_runs import begin
from stand_in_gpu import stand_in_gpu

import autoprox
from autoprox.bench_cache.runtime.devices import DeviceError
from autoprox.cli.root import FAILED, main
from autoprox.evolution import JOURNAL, read_settings
from autoprox.evolve import SettingsError

CHOICES: dict[str, Any] = {"tasks": "small", "generations": 1, "population": 4, "founders": 1, "progress": False}


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPROX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_statistics_are_built_and_generations_evaluated_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = synthetic.mini(24)
    expected = autoprox.evolve(made, out="here", **CHOICES)
    with monkeypatch.context() as there:
        gpu = stand_in_gpu(there)
        found = autoprox.evolve(made, out="there", device="auto", **CHOICES)
    assert gpu.devices == {"cuda"}
    assert len(gpu.networks) >= 24
    assert any(len(shape) == 3 for _, shape in gpu.tensors)  # matrices of a shard
    assert found.formula == expected.formula
    assert (found.settings.device, expected.settings.device) == ("cuda", "cpu")
    assert found.proxy.provenance["device"] == "cuda"

    with pytest.raises(DeviceError, match=r"no device 'cuda' here, on .* with a run that began on such a device where"):
        autoprox.evolve(out="there", resume=True, generations=2, progress=False)
    with pytest.raises(SettingsError, match=r"has .*device cuda; resume it without"):
        autoprox.evolve(out="there", resume=True, generations=2, device="cpu", progress=False)
    stand_in_gpu(monkeypatch)
    assert autoprox.evolve(out="there", resume=True, generations=2, device="auto", progress=False).generations == 2


def test_a_journal_from_before_devices_is_of_a_cpu() -> None:
    begin(Path("run"), device="cuda")
    assert read_settings(Path("run")).device == "cuda"
    stored = orjson.loads(Path("run", JOURNAL).read_bytes())
    del stored["settings"]["device"]
    Path("run", JOURNAL).write_bytes(orjson.dumps(stored) + b"\n")
    assert read_settings(Path("run")).device == "cpu"


def test_the_workers_of_an_executor_look_for_it_themselves() -> None:
    with ThreadPoolExecutor(1) as elsewhere, pytest.raises(DeviceError, match="no device 'cuda:77' here, on"):
        autoprox.evolve(synthetic.mini(24), out="run", device="cuda:77", executor=elsewhere, **CHOICES)


@pytest.mark.parametrize(
    "command",
    [
        ("evolve",),
        ("rank", "--bench", "mini-vit"),
        ("libra", "--bench", "mini-vit"),
        ("validate", "snip", "--bench", "mini-vit"),
        ("search", "--space", "mini-vit", "--proxy", "snip"),
    ],
)
def test_every_command_refuses_what_is_not_there_in_one_line(command: tuple[str, ...], capsys) -> None:
    for name, reason in (("cuda:77", "there is no device 'cuda:77' here"), ("tpu", "'tpu' is no device; --device is")):
        assert main([*command, "--device", name, "--out", "run"]) == FAILED
        told = capsys.readouterr().err.splitlines()
        assert told[-1].startswith(f"error: {reason}")
        assert len([line for line in told if line.startswith("error")]) == 1
    assert not Path("run").exists()


def test_a_table_has_no_networks_that_could_run_there(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_gpu(monkeypatch)
    with pytest.raises(SettingsError, match=r"grammar tabular runs no networks; leave out .*device"):
        autoprox.evolve(synthetic.mini(24), out="run", grammar="tabular", device="cuda", **CHOICES)
