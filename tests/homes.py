"""Folders for AUTOPROX_HOME: each with benchmarks of its own, all with the statistics that a process's tests share.

A network's statistics are built once for all these tests. Tests of building, of what is on the disk and of what is
damaged there take an empty folder instead.
"""

import os
from pathlib import Path

#: The environment variable with the folder of the shared statistics; conftest.py sets it.
SHARED = "AUTOPROX_STATISTICS_OF_THE_SUITE"


def made(folder: Path) -> Path:
    """Make the folder, if it is not there, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "statistics").exists():
        (folder / "statistics").symlink_to(os.environ[SHARED], target_is_directory=True)
    return folder
