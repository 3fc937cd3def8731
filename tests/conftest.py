"""Settings for the whole suite: one thread, and property tests that draw the same examples every time.

`pytest --hypothesis-profile=explore` draws new ones instead.
"""

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # the suite runs one process on each core

settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")
