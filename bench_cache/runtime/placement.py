"""Placement: which tasks prefer a machine, or a process, that already has what they read.

It is our own because the executors of the standard library give a task to whichever process is free, and Dask's
scheduler knows where its own results are, not where files and maps of memory are.
"""


class Placed:
    """A task that prefers the machine that last ran this `home`, because its disk holds the statistics.

    Any other machine only takes longer, and without a home all are alike. `load` says how much work the task is beside
    that of other homes.
    """

    home: str
    load: float


class Homed(Placed):
    """A task that always goes to the process that last ran this `home`, because its memory holds what is read."""
