"""Settings for the whole suite: one thread, and property tests that draw the same examples every time.

`pytest --hypothesis-profile=thorough` draws more of them, as `make test-all` does, and `explore` new ones.
"""

import os
import signal

import torch
from hypothesis import HealthCheck, settings

os.environ["COLUMNS"] = "120"  # else tables are as wide as where the suite runs: pytest-xdist's workers say 80

# What a script starts in the background ignores SIGINT, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # the suite runs one process on each core

EVERYWHERE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", EVERYWHERE, derandomize=True, max_examples=25)
settings.register_profile("thorough", EVERYWHERE, derandomize=True)
settings.register_profile("explore", EVERYWHERE)
settings.load_profile("repeatable")
