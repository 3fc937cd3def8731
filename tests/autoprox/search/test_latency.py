"""Latency: measured warm, told with its setup, kept in the journal, and a limit that spares the scoring."""

from collections.abc import Sequence

import pytest
import torch

from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.search.candidate import Candidate, SearchError, unscored
from autoprox.search.latency import FEWEST, RUNS, WARM_UP, Clock, LatencySetup, measured, timed_scorer
from autoprox.search.limits import Limits
from autoprox.search.loop import SearchResult, StoredScore
from autoprox.search.on_space import search
from autoprox.search.strategies import SearchSettings

SPEC = InputSpec(image_size=24, num_classes=10, patch_size=8)
PIT = get_space("pit-vb101")
SMALL = Limits(max_params=400_000)


class Counting(torch.nn.Module):
    """Counts its passes, and remembers what they were like."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes.append((tuple(images.shape), self.training, torch.is_grad_enabled(), torch.get_num_threads()))
        return images


def test_passes_are_warm_and_as_the_setup_says() -> None:
    model, threads = Counting(), torch.get_num_threads()
    seconds = measured(model, SPEC, LatencySetup(batch=3, threads=1))
    assert WARM_UP + FEWEST <= len(model.passes) <= WARM_UP + RUNS
    assert set(model.passes) == {((3, 3, 24, 24), False, False, 1)}
    assert 0 < seconds < 1
    assert torch.get_num_threads() == threads


def test_the_setup_is_said_in_words() -> None:
    setup = LatencySetup(batch=4, threads=2, machine="a processor")
    assert str(setup) == "the median of up to 20 warm forward passes on cpu (a processor), batch 4, 2 threads"
    assert LatencySetup().machine
    with pytest.raises(SearchError, match="latency_batch is 0"):
        LatencySetup(batch=0)
    with pytest.raises(SearchError, match="latency_threads is True"):
        LatencySetup(threads=True)


def test_another_machine_is_refused() -> None:
    clock = Clock(PIT, SPEC, LatencySetup(machine="a machine elsewhere"))
    with pytest.raises(SearchError, match="measured on a machine elsewhere, and this is"):
        clock(unscored(PIT, next(iter(PIT.architectures())), SPEC))  # type: ignore[attr-defined]


def test_what_is_too_slow_is_not_scored() -> None:
    """Of twenty candidates, every third is too slow; the order stays."""
    scored: list[str] = []

    def scorer(candidates: Sequence[Candidate]):
        for candidate in candidates:
            scored.append(candidate.key)
            yield candidate

    given = [Candidate(n, str(n), 0, 0, 0, 0, 0) for n in range(20)]
    timed = timed_scorer(scorer, lambda candidate: 0.0142 if candidate.arch % 3 == 0 else 0.01, 0.012)
    found = list(timed(given))
    assert [candidate.key for candidate in found] == [str(n) for n in range(20)]
    assert scored == [str(n) for n in range(20) if n % 3]
    assert {c.problem for c in found if c.arch % 3 == 0} == {"its latency of 14.2 ms is above max_latency 12 ms"}
    assert {candidate.latency for candidate in found} == {0.0142, 0.01}


def stored(result: SearchResult) -> list[StoredScore]:
    return [StoredScore(entry.key, entry.score, entry.problem, entry.latency) for entry in result.candidates]


@pytest.mark.slow
def test_a_search_goes_on_from_its_latencies() -> None:
    """Latencies that were measured are not measured again, so that the rest follows from them."""
    choices = SearchSettings("nsga2", 14, limits=SMALL, population=6, objectives=("score", "latency"))
    whole = search(PIT, "depth", choices, spec=SPEC)
    assert all(entry.latency for entry in whole.candidates)
    assert search(PIT, "depth", choices, spec=SPEC, stored=stored(whole)) == whole
    cut = search(PIT, "depth", choices, spec=SPEC, stored=stored(whole)[:9])
    assert cut.candidates[:9] == whole.candidates[:9]
    assert len(cut.candidates) == 14


def test_latency_is_measured_only_where_it_is_named() -> None:
    found = search(PIT, "depth", SearchSettings(budget=3, limits=SMALL), spec=SPEC)
    assert {entry.latency for entry in found.candidates} == {None}
    slow = Limits(max_params=400_000, max_latency=1e-9)
    with pytest.raises(SearchError, match=r"none of the first 8 .* above max_latency 1e-06 ms"):
        search(PIT, "depth", SearchSettings(budget=8, limits=slow), spec=SPEC)
    with pytest.raises(SearchError, match="max_latency is 0; it must be a positive number"):
        Limits(max_latency=0)
    assert str(Limits(max_latency=0.012)) == "latency ≤ 12 ms"
