"""Fixtures of the statistics' tests."""

import pytest

from autoprox.bench_cache.statistics.subject import Subject
from autoprox.primitives import Reading


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[set[tuple[str, str]]]:
    """What networks were built for, in order."""
    calls: list[set[tuple[str, str]]] = []
    plain = Subject.probe

    def counted(subject: Subject, wanted: set[tuple[str, str]]) -> Reading:
        calls.append(set(wanted))
        return plain(subject, wanted)

    monkeypatch.setattr(Subject, "probe", counted)
    return calls
