"""Placement: which tasks prefer a machine, or a process, that already has what they read."""


class Placed:
    """A task that prefers the machine that last ran this `home`, because its disk holds the statistics.

    Any other machine only takes longer, and without a home all are alike. `load` says how much work the task is beside
    that of other homes.
    """

    home: str
    load: float


class Homed(Placed):
    """A task that always goes to the process that last ran this `home`, because its memory holds what is read."""
