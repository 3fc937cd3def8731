"""autoprox: evolve zero-cost proxies for vision transformers, and search with them."""

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a source tree the sibling folders primitives/, evolve/ and bench_cache/ are subpackages of this one.
# setuptools' package-dir says so for installs; this says so for `python -m autoprox` from a bare checkout,
# and keeps a wheel working when the current directory happens to be the repository root.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and str(_root) not in __path__:
    __path__.append(str(_root))
