"""AZ-NAS (Lee and Ham, CVPR 2024): expressivity and trainability of the residual stream, and how ranks are merged.

Of its other parts, complexity is the FLOPs, and progressivity is defined for convolutional stages only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from autoprox.bench_cache.rank_correlation import mean_ranks
from autoprox.primitives.passes import Need, Pass, Subject, Wanted
from autoprox.primitives.sharing import met
from autoprox.scoring import Layers
from autoprox.zoo.needs import whole_batch
from autoprox.zoo.tools import ZooError, block_paths, network_blocks


def stream_states(subject: Subject, layers: Layers = None) -> tuple[str, ...]:
    """Return the modules that the residual stream is read at: every block, and its module `norm2`.

    Raises:
        ZooError: a block has no module `norm2`.
        LayerError: no blocks are found.
    """
    modules = dict(subject.model.named_modules())
    paths = block_paths(network_blocks(subject.model, subject.inputs, layers))
    missing = [path for path in paths if f"{path}.norm2" not in modules]
    if missing:
        raise ZooError(f"needs the residual stream between attention and MLP: there is no module '{missing[0]}.norm2'")
    return tuple(state for path in paths for state in (path, f"{path}.norm2"))


def residual_stream(model: nn.Module, run: Pass, states: Sequence[str]) -> list[list[tuple[Tensor, int]]]:
    """Return three states of every block: its input, the residual stream after attention, and its output.

    The stream after attention is what the block's module `norm2` takes. Each state comes with its axis of channels.

    Raises:
        ZooError: a block takes or gives anything else than tensors with its channels.
    """
    stream = []
    for path, norm in zip(states[::2], states[1::2], strict=True):
        found = run.seen.entries.get(path), run.seen.entries.get(norm), run.seen.results.get(path)
        width = next((parameter.numel() for parameter in model.get_submodule(norm).parameters()), 0)
        stream.append([_with_axis(state, width, path) for state in found])
    return stream


def _with_axis(state: object, width: int, path: str) -> tuple[Tensor, int]:
    """Return a state of the residual stream and its axis of channels; `width` is their number, 0 if unknown.

    Raises:
        ZooError: it is no tensor of tokens, or neither its last axis nor its second has as many entries.
    """
    if not isinstance(state, Tensor) or state.ndim < 3:
        raise ZooError(f"the residual stream of '{path}' is no tensor of tokens")
    if state.shape[-1] == width or (not width and state.ndim == 3):
        return state, -1
    if state.ndim == 4 and state.shape[1] == width:
        return state, 1
    raise ZooError(f"the residual stream of '{path}' has not the {width} channels of its norm2: it changes its width")


def _tokens(state: Tensor, axis: int) -> Tensor:
    """Return a state as a matrix, samples · tokens × channels."""
    return state.movedim(axis, -1).flatten(0, -2)


def az_expressivity(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return Σ entropy of the normalised eigenvalues of the tokens' covariance, after each attention and each MLP.

    The input is Gaussian, the logarithm natural (AZ-NAS, CVPR 2024, expressivity score).

    Raises:
        ZooError: all tokens are alike, or there is no residual stream to read.
    """
    subject = Subject(model, inputs, targets, seed)
    return sum(map(_entropy, met(subject, after_each_part(subject, layers))))


def after_each_part(subject: Subject, layers: Layers = None) -> Need:
    """Return the residual stream after each attention and each MLP: a list of tokens × channels."""
    states = stream_states(subject, layers)

    def read(run: Pass) -> list[Tensor]:
        stream = residual_stream(subject.model, run, states)
        return [_tokens(state.detach(), axis) for block in stream for state, axis in block[1:]]

    return Need(("stream", *states), whole_batch(subject, "noise"), Wanted(states=states), read)


def _entropy(tokens: Tensor) -> float:
    rows = tokens.double()
    rows = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(rows.mT @ rows if len(rows) >= rows.shape[1] else rows @ rows.mT).clamp(min=0)
    if not bool(values.sum() > 0):
        raise ZooError("all tokens are alike")
    return float(torch.special.entr(values / values.sum()).sum())


def az_trainability(model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None) -> float:
    """Return mean (2 − s − 1/s), s the largest singular value of g_inᵀ g_out / (samples · tokens).

    The mean is over every block's attention and every block's MLP, each with its skip connection. g_out is a random
    sign for each entry of its output, g_in the gradient of Σ g_out · output with respect to its input. The input of
    the network is Gaussian (AZ-NAS, CVPR 2024, trainability score).

    Raises:
        ZooError: no gradient passes a block, or there is no residual stream to read.
    """
    subject = Subject(model, inputs, targets, seed)
    terms = met(subject, passages(subject, layers))
    return sum(terms) / len(terms)


def passages(subject: Subject, layers: Layers = None) -> Need:
    """Return 2 − s − 1/s of every attention and every MLP: a list of numbers."""
    states = stream_states(subject, layers)

    def read(run: Pass) -> list[float]:
        generator = torch.Generator().manual_seed(subject.seed)
        stream = residual_stream(subject.model, run, states)
        return [_passage(*pair, generator) for block in stream for pair in pairwise(block)]

    wanted = Wanted(states=states, from_input=True)
    return Need(("passages", *states), whole_batch(subject, "noise"), wanted, read)


def _passage(before: tuple[Tensor, int], after: tuple[Tensor, int], generator: torch.Generator) -> float:
    (entry, of_entry), (result, of_result) = before, after
    signs = torch.randint(0, 2, result.shape, generator=generator).to(result) * 2 - 1
    (gradient,) = torch.autograd.grad(result, entry, signs, retain_graph=True)
    arriving, leaving = _tokens(gradient, of_entry), _tokens(signs, of_result)
    if len(arriving) != len(leaving):
        raise ZooError("a block changes the number of tokens")
    product = arriving.mT @ leaving / len(leaving)
    s = float(torch.linalg.eigvalsh((product @ product.mT).double())[-1].clamp(min=0).sqrt())
    if not s > 0:
        raise ZooError("no gradient passes a block")
    return 2 - s - 1 / s


def log_rank_sum(scores: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    """Return Σ over proxies of log(rank / n), one number for each of n networks: AZ-NAS's aggregation.

    `scores` has a row for each proxy, higher for better networks. The best of n networks has rank n, and equal scores
    share their mean rank. A network without a score by one of the proxies (NaN) gets NaN, and is not counted among
    that proxy's n.

    Raises:
        ZooError: there are no rows, or they are not of one length.
    """
    return np.log(_shares(_rows(scores))).sum(axis=0)


def mean_rank(scores: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    """Return the mean over proxies of rank / n, among the n networks that all of them score; NaN for the others.

    Otherwise as `log_rank_sum`. It orders networks as a vote in a search does.

    Raises:
        ZooError: as for `log_rank_sum`.
    """
    rows = _rows(scores)
    return _shares(np.where(np.isnan(rows).any(axis=0), np.nan, rows)).mean(axis=0)


def _rows(scores: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    """Return the scores as an array, proxies × networks."""
    if len({len(row) for row in scores}) != 1:
        raise ZooError("the proxies' scores must be rows of one length, one score for each network")
    return np.asarray(scores, dtype=float)


def _shares(rows: np.ndarray) -> np.ndarray:
    """Return rank / n of each network by each proxy."""
    return np.array([mean_ranks(row) / max(np.count_nonzero(~np.isnan(row)), 1) for row in rows])


#: The ways to merge ranks, by the names that a ranking's settings call them.
LOGARITHMS, MEAN_RANK = "logarithms", "mean"
RULES = MappingProxyType({LOGARITHMS: log_rank_sum, MEAN_RANK: mean_rank})
