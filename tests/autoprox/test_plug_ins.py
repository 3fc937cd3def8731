"""Plug-ins: spaces, operations and proxies of an installed package, and packages that clash or fail."""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from own_spaces import NETWORK, SOUND

from autoprox.bench_cache.runtime import plug_ins
from autoprox.bench_cache.spaces.registry import ArchitectureError, get_space, pinned, recorded_space, space_record
from autoprox.cli.root import main
from autoprox.primitives import OPERATIONS, Operation, OperationError
from autoprox.proxy import ProxyError, resolve
from autoprox.vocabulary import vocabulary

OFFERED = """
import torch
from autoprox.primitives import Operation

def fourth(x):
    return torch.sigmoid(x)

ONE = Operation("zz_soft", "map", fourth, "{0}")
TWO = Operation("aa_soft", "map", fourth, "{0}")
BOTH = [ONE, TWO]
PROXY = "sum(l1(weight))"
"""
ENTRIES = """
[autoprox.spaces]
plugged = made_up_plugin.space:Tiny
mini-vit = made_up_plugin.space:Tiny
broken = made_up_plugin.broken:Tiny

[autoprox.operations]
plugged = made_up_plugin.offered:BOTH

[autoprox.proxies]
plugged = made_up_plugin.offered:PROXY
snip = made_up_plugin.offered:PROXY
wrong = made_up_plugin.offered:ONE
"""


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package, info = tmp_path / "made_up_plugin", tmp_path / "made_up-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "space.py").write_text(NETWORK + SOUND)
    (package / "offered.py").write_text(OFFERED)
    (package / "broken.py").write_text("raise OSError('no licence')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    plug_ins._found.cache_clear()
    yield
    plug_ins._found.cache_clear()
    for name in [name for name in sys.modules if name.startswith("made_up_plugin")]:
        del sys.modules[name]


def test_a_space_is_found_by_its_name() -> None:
    space = get_space("plugged")
    assert space.name == "plugged"
    assert space.key(space.sample(Random(0))).startswith("plugged:")
    record = space_record(pinned("plugged"))
    assert record["package"] == "made-up"
    assert recorded_space(record) == pinned("plugged")


def test_operations_are_sorted_and_used_only_where_named() -> None:
    assert "aa_soft" not in OPERATIONS
    assert list(vocabulary(["plugged"]))[-2:] == ["aa_soft", "zz_soft"]
    assert list(vocabulary(())) == list(OPERATIONS)


def test_a_proxy_is_found_by_its_name() -> None:
    assert resolve("plugged").text == "sum(l1(weight))"
    assert resolve("plugged").name == "plugged"


def test_proxies_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["proxies"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "plugged sum(l1(weight)) of the package made-up" in printed
    assert "wrong cannot be used: 'wrong' of the package made-up is a Operation" in printed


def test_a_clash_or_a_failure_is_one_line_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for call, error, told in (
        (lambda: get_space("mini-vit"), ArchitectureError, "the package made-up offers 'mini-vit' in autoprox.spaces"),
        (lambda: get_space("broken"), ArchitectureError, "'broken' of the package made-up cannot be loaded: loading"),
        (lambda: resolve("snip"), ProxyError, "the package made-up offers 'snip' in autoprox.proxies"),
        (lambda: resolve("wrong"), ProxyError, "is a Operation; it must be the text of a formula"),
        (lambda: vocabulary(["absent"]), OperationError, r"installed package offers \(plugged\)"),
    ):
        with pytest.raises(error, match=told) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    assert get_space("pit-vb101").name == "pit-vb101"
    assert main(["--help"]) == 0
    assert main(["search", "--help"]) == 0
    assert "mini-vit" in capsys.readouterr().out


def test_two_operations_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(OFFERED)
    with pytest.raises(OperationError, match=r"two operations are called 'zz_soft': of plugged and of .*ops.py"):
        vocabulary(["plugged", str(tmp_path / "ops.py")])
    assert isinstance(vocabulary([f"{tmp_path / 'ops.py'}:ONE"])["zz_soft"], Operation)
