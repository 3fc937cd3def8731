"""Where things are: the repository, the tests, and the reference data that is not part of the repository."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
#: Absent for most people: tests that need it skip.
DATA = ROOT.parent / "shared" / "data"
