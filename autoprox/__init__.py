"""autoprox: evolve zero-cost proxies for vision transformers, and search with them."""

from importlib import import_module as _import_module
from pathlib import Path as _Path

__version__ = "0.1.0"

# In a source tree the sibling folders primitives/, evolve/ and bench_cache/ are subpackages of this one.
# setuptools' package-dir says so for installs; this says so for `python -m autoprox` from a bare checkout,
# and keeps a wheel working when the current directory happens to be the repository root.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and str(_root) not in __path__:
    __path__.append(str(_root))

# What most people need, imported on first use: torch alone takes a second or two, and `--help` needs none of it.
_PUBLIC = {
    "Benchmark": "autoprox.bench_cache.benchmarks.table",
    "OPERATIONS": "autoprox.primitives",
    "Operation": "autoprox.primitives",
    "Proxy": "autoprox.proxy",
    "Readout": "autoprox.readout",
    "Vocabulary": "autoprox.primitives",
    "find_layers": "autoprox.primitives.find_blocks.describe",
    "get_space": "autoprox.bench_cache.spaces.registry",
    "load_benchmark": "autoprox.bench_cache.benchmarks.library",
    "parse": "autoprox.primitives",
    "resolve": "autoprox.proxy",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(_import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'autoprox' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
