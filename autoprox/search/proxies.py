"""What a search takes as its proxy, checked against the batch that it reads, and what it reads of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from autoprox.bench_cache.benchmarks.table import STRUCTURE
from autoprox.proxy import ProxyLike, any_proxy
from autoprox.scoring import AnyProxy
from autoprox.search.batch import Batch
from autoprox.search.candidate import SearchError


def as_proxy(proxy: ProxyLike, batch: Batch) -> AnyProxy:
    """Return the proxy that is meant, checked against the batch that it will read.

    Without images, what reads the probe `data` reads the Gaussian samples and random classes of `Batch.tensors`.

    Raises:
        ProxyError: no such proxy is found, or it cannot be read.
        FormulaError: a formula cannot be read.
        SearchError: a formula reads halves of an odd number of samples.
    """
    found = any_proxy(proxy)
    if found.halves_batch and batch.samples % 2:
        raise SearchError(f"weight_grad_batches halves the batch: it needs an even number, not {batch.samples}")
    return found


def as_proxies(proxy: ProxyLike | Sequence[ProxyLike], batch: Batch) -> tuple[AnyProxy, ...]:
    """Return the proxies that are meant, one or several that vote, as `as_proxy` does each.

    Raises:
        SearchError: there are none, or two are the same.
    """
    given = cast("Sequence[ProxyLike]", proxy if isinstance(proxy, list | tuple) else [proxy])
    found = tuple(as_proxy(each, batch) for each in given)
    texts = [each.text for each in found]
    if not found or len(set(texts)) < len(texts):
        raise SearchError(f"the proxies are {', '.join(texts) or 'none'}; name one, or several that differ")
    return found


def reads_structure_only(proxy: AnyProxy) -> bool:
    """Return whether a proxy reads nothing but the facts of `STRUCTURE`, so that no network is needed."""
    formula = proxy.as_formula
    return formula is not None and all(t.statistic.name in STRUCTURE for t in formula.terminals())


def reads_columns(proxy: AnyProxy) -> bool:
    """Return whether a proxy is a formula that reads a column of a table."""
    formula = proxy.as_formula
    return formula is not None and any(t.statistic.column for t in formula.terminals())
