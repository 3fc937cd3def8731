"""Home folder: where downloaded and imported benchmarks and cached statistics are kept."""

import os
from pathlib import Path

import platformdirs


def data_home() -> Path:
    """Return autoprox's folder for benchmarks and statistics: $AUTOPROX_HOME, or the platform's cache folder."""
    chosen = os.environ.get("AUTOPROX_HOME")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("autoprox")


def statistics_home() -> Path:
    """Return the folder of the cached statistics; `bench_cache/statistics/store.py` decides what is below it."""
    return data_home() / "statistics"
