"""The tests of export forget the modules that they load."""

import linecache
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _forget_exported_modules() -> Iterator[None]:
    yield
    sys.modules.pop("exported_proxy", None)
    linecache.cache.pop("<cell>", None)
