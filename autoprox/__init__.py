"""autoprox: evolve zero-cost proxies for vision transformers, and search with them."""

import sys as _sys
from importlib import import_module as _import_module
from pathlib import Path as _Path
from types import ModuleType as _ModuleType
from typing import Any as _Any

__version__ = "0.1.0"

# In a source tree the sibling folders primitives/, evolve/ and bench_cache/ are subpackages of this one.
# setuptools' package-dir says so for installs; this says so for `python -m autoprox` from a bare checkout,
# and keeps a wheel working when the current directory happens to be the repository root.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and str(_root) not in __path__:
    __path__.append(str(_root))

# `autoprox.evolve` is a function of `autoprox.api` and a sub-package. Python has one attribute for both: it binds
# `autoprox.evolve` to the sub-package whenever that is imported, which any other import of ours may do. So the
# sub-package itself is made callable at that moment: `autoprox.evolve(...)`, `import autoprox.evolve.fitness` and
# `from autoprox.evolve import Judge` work in every order. With the function in its place, `autoprox.evolve.fitness`
# would not be found after its import. Packages cannot do it themselves, because evolve/ may not know of autoprox.api.
# Of the same kind are `autoprox.search`, `autoprox.rank` and `autoprox.train`.
_CALLABLE = ("evolve", "search", "rank", "train")


class _CallablePackage(_ModuleType):
    """A sub-package that is also the function of its name in `autoprox.api.front`."""

    @property
    def __wrapped__(self) -> _Any:
        """The function: `inspect.signature`, `help` of notebooks and `functools` find it here."""
        return getattr(_import_module("autoprox.api.front"), self.__name__.rpartition(".")[2])

    def __call__(self, *arguments: _Any, **options: _Any) -> _Any:
        return self.__wrapped__(*arguments, **options)


class _Package(_ModuleType):
    """This package, which makes some of its sub-packages callable when Python binds them."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _CALLABLE and type(value) is _ModuleType:
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


_sys.modules[__name__].__class__ = _Package

# What most people need, imported on first use: torch alone takes a second or two, and `--help` needs none of it.
_PUBLIC = {
    "Benchmark": "autoprox.bench_cache.benchmarks.table",
    "OPERATIONS": "autoprox.primitives",
    "Operation": "autoprox.primitives",
    "Proxy": "autoprox.proxy",
    "Readout": "autoprox.readout",
    "Vocabulary": "autoprox.primitives",
    "explain": "autoprox.api.front",
    "fill_zeros": "autoprox.initial_weights",
    "find_layers": "autoprox.primitives.find_blocks.describe",
    "get_space": "autoprox.bench_cache.spaces.registry",
    "load_benchmark": "autoprox.bench_cache.benchmarks.library",
    "parse": "autoprox.primitives",
    "resolve": "autoprox.proxy",
    "score": "autoprox.api.front",
    "validate": "autoprox.api.front",
}

__all__ = ["__version__", *_PUBLIC, *_CALLABLE]


def __getattr__(name: str) -> _Any:
    if name in _PUBLIC:
        return getattr(_import_module(_PUBLIC[name]), name)
    if name in _CALLABLE:
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'autoprox' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
