"""Placement: which tasks prefer a machine, or a process, that already has what they read.

This is our own. The executors of the standard library give a task to whichever process is free. Dask's scheduler knows
where its own results are, but not which files a machine has, or what a process keeps in memory.
"""


class Placed:
    """A task that prefers the machine that last ran this `home`, because its disk holds the statistics.

    Any other machine finds the same result, and only takes longer. A task with an empty `home` prefers none. `load` is
    the work of the task's home, relative to that of other homes.
    """

    home: str
    load: float


class Homed(Placed):
    """A task that always goes to the process that last ran this `home`, because its memory holds what is read."""
