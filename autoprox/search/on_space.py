"""Search on a space: the architectures that a proxy scores highest, under limits on their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from random import Random

from autoprox.bench_cache.runtime.devices import CPU
from autoprox.bench_cache.runtime.local_pool import Workers
from autoprox.bench_cache.spaces.registry import InputSpec, Space, get_space
from autoprox.search.batch import Batch
from autoprox.search.candidate import Candidate
from autoprox.search.latency import Clock, LatencySetup, timed_scorer
from autoprox.search.loop import SearchProgress, SearchResult, StoredScore, score_proposals
from autoprox.search.proxies import ProxyLike, as_proxies
from autoprox.search.region import Region
from autoprox.search.scorer import network_scorer
from autoprox.search.strategies import STRATEGIES, SearchSettings
from autoprox.search.votes import voting_scorer


def search(
    space: Space | str,
    proxy: ProxyLike | Sequence[ProxyLike],
    settings: SearchSettings | None = None,
    *,
    spec: InputSpec | None = None,
    batch: Batch | None = None,
    workers: Workers = 1,
    device: str = CPU,
    latency: LatencySetup | None = None,
    stored: Sequence[StoredScore] = (),
    on_scored: Callable[[Candidate], None] = lambda candidate: None,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
) -> SearchResult:
    """Return the `settings.budget` architectures of a space that the strategy proposes, with their scores.

    `proxy` is a proxy, a formula, a text or path that `resolve` understands, or a function of an untrained network in
    training mode that returns a number; higher is better. Several proxies vote by rank (see `votes`). Networks are
    built for `spec`, with weights that follow from the architecture alone, and run on `batch`. The result is the same
    for any number of `workers`, which find `device` (see `agreed_device`); with several, a function must be importable
    by name. Where the settings name latencies, `latency` says what they are measured with.

    `stored` is what an earlier search with the same arguments scored, in its order. It is not scored again: with a
    larger budget, the search goes on from there. `on_scored` is told every candidate scored now, `on_progress` how far
    the search is. After KeyboardInterrupt, the result holds what was scored so far, if anything.

    Raises:
        SearchError: nothing is within the limits, a formula reads images and there are none, `stored` is not this
            search's, or no architecture has a score.
        ArchitectureError: the space is unknown.
        ProxyError: no such proxy is found.
        FormulaError: a formula cannot be read.
    """
    space = get_space(space) if isinstance(space, str) else space
    settings, spec, batch = settings or SearchSettings(), spec or InputSpec(), batch or Batch()
    region = _region(space, spec, settings)
    strategy = STRATEGIES[settings.strategy].function

    def propose(history: Sequence[Candidate]) -> list[Candidate]:
        return strategy(history, region, settings)

    with ExitStack() as stack:
        chosen = voting_scorer(
            [network_scorer(stack, each, space, spec, batch, workers, device) for each in as_proxies(proxy, batch)]
        )
        if settings.measures_latency:
            clock = Clock(space, spec, latency or LatencySetup())
            chosen = timed_scorer(chosen, clock, settings.limits.max_latency)
        return score_proposals(propose, chosen, settings.budget, stored, on_scored, on_progress)


def check_space(
    space: Space, proxy: ProxyLike | Sequence[ProxyLike], settings: SearchSettings, spec: InputSpec, batch: Batch
) -> None:
    """Raise what `search` would raise with these arguments before it scores anything."""
    as_proxies(proxy, batch)
    batch.check(spec)
    _region(space, spec, settings).draw()


def _region(space: Space, spec: InputSpec, settings: SearchSettings) -> Region:
    return Region(space, spec, settings.limits, Random(f"search/{settings.seed}"))
