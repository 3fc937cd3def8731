"""Settings for the whole suite: one thread, and property tests that draw the same examples every time.

`pytest --hypothesis-profile=thorough` draws more of them, as `make test-all` does, and `explore` new ones.
"""

import os

import torch
from hypothesis import HealthCheck, settings

os.environ["COLUMNS"] = "120"  # else tables are as wide as where the suite runs: pytest-xdist's workers say 80

torch.set_num_threads(1)  # the suite runs one process on each core

EVERYWHERE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", EVERYWHERE, derandomize=True, max_examples=25)
settings.register_profile("thorough", EVERYWHERE, derandomize=True)
settings.register_profile("explore", EVERYWHERE)
settings.load_profile("repeatable")
