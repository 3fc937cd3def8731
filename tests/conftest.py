"""Settings for the whole suite: one thread, and property tests that draw the same examples every time.

`pytest --hypothesis-profile=thorough` draws more of them, as `make test-all` does, and `explore` new ones.
"""

import os
import signal
from collections.abc import Iterator

import homes
import pytest
import torch
from hypothesis import HealthCheck, settings

import autoprox.pictures
import autoprox.report.figures  # which draws for pages: it has the function before that is replaced below

os.environ["COLUMNS"] = "120"  # else tables are as wide as where the suite runs: pytest-xdist's workers say 80

# What a script starts in the background ignores SIGINT, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # the suite runs one process on each core

DRAWN = autoprox.pictures.drawn

EVERYWHERE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", EVERYWHERE, derandomize=True, max_examples=25)
settings.register_profile("thorough", EVERYWHERE, derandomize=True)
settings.register_profile("explore", EVERYWHERE)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _home_of_the_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep statistics apart from the user's: what runs before the suite left there changes no test."""
    home = tmp_path_factory.mktemp("home")
    (home / "statistics").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUTOPROX_HOME", str(home))
        patched.setenv(homes.SHARED, str(home / "statistics"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _blank_pictures() -> Iterator[None]:
    """Save blank pictures in this process: each takes half a second to draw, and most tests do not look at them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(autoprox.pictures, "drawn", lambda figure, ending, **options: b"")
        yield


@pytest.fixture(scope="module")
def pictures() -> Iterator[None]:
    """Draw what is saved, for tests that look at it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(autoprox.pictures, "drawn", DRAWN)
        yield
