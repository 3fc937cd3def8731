"""L-SWAG (Casarin et al., CVPR 2025, arXiv 2505.07300): Λ × Ψ of the layers at the depth where gradients vary most.

There are three steps. `gradient_profile` measures how gradients vary with depth, over a sample of architectures.
`chosen_range` picks the range of depth from the profile by a stated rule; the paper picks it by hand, as a `DepthRange`
can be. `ablation` makes entries of the zoo of the proxy and its parts, to compare them.

The paper counts depth in layers. We count it in blocks, so that the four linears of a block share a decile: block b of
L, from 0, is in decile ⌊10 b / L⌋.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from torch import Tensor, nn

from autoprox.primitives import parse, read_statistics, requirements
from autoprox.primitives.evaluate import layer_tensor, reductions
from autoprox.primitives.reduce import reduce_layers
from autoprox.primitives.sharing import computed_once
from autoprox.scoring import Layers, formula_score
from autoprox.zoo.features import patterns
from autoprox.zoo.needs import gelu_inputs
from autoprox.zoo.record import ZooProxy
from autoprox.zoo.tools import ZooError, network_blocks

DECILES = 10

SOURCE = "Casarin et al., L-SWAG, CVPR 2025, arXiv 2505.07300"

#: The summands of Λ (Eq. 1): log Σ_w 1/σ_w of each layer, σ_w the deviation of |∂L/∂w| over the mini-batches.
LAMBDA = "log(sum(invert(batch_std(abs(weight_grad_batches)))))"
#: The summands of Ψ where it is counted block by block: distinct on/off patterns at the GELU of each block.
PSI = "pattern_count(act[fc1])"
#: What the profile is made of: the mean deviation of each layer's gradients over the mini-batches.
SPREAD = "mean(batch_std(weight_grad_batches))"


@dataclass(frozen=True)
class DepthRange:
    """Deciles of the depth, from `first` to `last`, both included; 0 to 9 is the full depth.

    Raises:
        ZooError: they are no two deciles in order.
    """

    first: int = 0
    last: int = DECILES - 1

    def __post_init__(self) -> None:
        if not (type(self.first) is type(self.last) is int and 0 <= self.first <= self.last < DECILES):
            raise ZooError(f"a range of depth is two deciles in order, 0 to 9, not {self.first!r} to {self.last!r}")

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def contains(self, block: int, blocks: int) -> bool:
        """Return whether block number `block`, from 0, of `blocks` blocks is in the range."""
        return self.first <= DECILES * block // blocks <= self.last

    def mask(self, role: str = "") -> str:
        """Return the formula that is 1 for each layer in the range and 0 for the others; empty for the full depth."""
        start = f"position{f'[{role}]' if role else ''} - invert(depth)"
        bounds = []
        if self.first:
            bounds.append(f"relu(sign({start} - {self.first / DECILES - _MARGIN:.6f}))")
        if self.last < DECILES - 1:
            bounds.append(f"relu(sign({(self.last + 1) / DECILES - _MARGIN:.6f} - ({start})))")
        return " * ".join(bounds)


#: Subtracted from the bounds, so that rounding does not move a block across them. Blocks begin at multiples of 1/L,
#: and the margin is smaller than the gap between any block and a decile that do not coincide.
_MARGIN = 1e-5

FULL_DEPTH = DepthRange()


def _summed(layers: str, chosen: DepthRange, role: str = "") -> str:
    mask = chosen.mask(role)
    return f"sum({layers} * {mask})" if mask else f"sum({layers})"


def lambda_formula(chosen: DepthRange = FULL_DEPTH) -> str:
    """Return Λ = Σ_l log Σ_w 1/σ_w over the layers in the range (Eq. 1), in our language."""
    return _summed(LAMBDA, chosen)


def lswag_formula(chosen: DepthRange = FULL_DEPTH) -> str:
    """Return Λ · Σ_b Ψ_b in our language: Ψ is counted block by block; the paper counts it over all blocks together."""
    return f"{lambda_formula(chosen)} * {_summed(PSI, chosen, 'fc1')}"


def lswag_score(
    chosen: DepthRange, model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None
) -> float:
    """Return Λ × Ψ over the blocks in the range (Eq. 1), Ψ counted over all these blocks together."""
    psi = patterns(model, inputs, targets, seed, layers, chosen.contains)
    formula = parse(lambda_formula(chosen))

    def compute() -> float:
        return formula_score(formula, model, inputs, targets, layers=layers, seed=seed)

    return computed_once(formula, (model, inputs, targets, seed), compute) * psi


def psi_score(
    chosen: DepthRange, model: nn.Module, inputs: Tensor, targets: Tensor, seed: int, layers: Layers = None
) -> float:
    """Return Ψ over the blocks in the range; see `features.patterns`."""
    return patterns(model, inputs, targets, seed, layers, chosen.contains)


def gradient_profile(
    models: Iterable[nn.Module | Callable[[], nn.Module]], inputs: Tensor, targets: Tensor | None = None, seed: int = 0
) -> np.ndarray:
    """Return the logarithm of the gradients' deviation by decile of depth, mean over the architectures: ten numbers.

    In each linear, the deviation of ∂L/∂w over two mini-batches is averaged over w. Its logarithm is averaged over the
    linears in a decile. A decile in which no architecture has a block is interpolated. `models` may hold functions
    that build models: each model is freed before the next is built.

    Raises:
        ZooError: there are no models, or the gradients of a layer do not vary or are not finite.
    """
    rows = []
    for model in models:
        built = model if isinstance(model, nn.Module) else model()
        rows.append(decile_means(_block_spreads(built, inputs, targets, seed)))
        del model, built  # before the next one is built
    if not rows:
        raise ZooError("the gradients' profile needs at least one architecture")
    found = np.array(rows)
    known = ~np.isnan(found).all(axis=0)
    means = np.nanmean(found[:, known], axis=0)
    return np.interp(np.arange(DECILES), np.flatnonzero(known), means)


def _block_spreads(model: nn.Module, inputs: Tensor, targets: Tensor | None, seed: int) -> np.ndarray:
    """Return one number for each block: the mean over its linears of log SPREAD."""
    formula = parse(f"sum({SPREAD})")
    blocks = network_blocks(model, inputs)
    reading = read_statistics(model, blocks, requirements([formula]), inputs, targets, seed)
    reduced = reduce_layers(reductions([formula], reading.convolutional), reading)
    spreads = layer_tensor(formula.args[0], lambda part: reduced[part], reading.convolutional).numpy()
    if not (spreads > 0).all():
        raise ZooError("there are layers whose gradients do not vary over the mini-batches, or are not finite")
    return np.log(spreads).mean(axis=1)


def decile_means(blocks: np.ndarray) -> np.ndarray:
    """Return the means of the blocks' numbers by decile of depth; NaN in a decile without blocks."""
    deciles = DECILES * np.arange(len(blocks)) // len(blocks)
    counts = np.bincount(deciles, minlength=DECILES)
    sums = np.bincount(deciles, weights=blocks, minlength=DECILES)
    return np.divide(sums, counts, out=np.full(DECILES, np.nan), where=counts > 0)


def chosen_range(profile: np.ndarray) -> DepthRange:
    """Return the spike of a profile: the deciles around its maximum that lie above half-way from median to maximum.

    The maximum belongs to the spike. Another decile does if its number, and those of all deciles between it and the
    maximum, are above (median + maximum) / 2. A flat profile has no spike and gives the full depth. This rule is ours:
    the paper reads the range off a plot.

    Raises:
        ZooError: the profile is not ten finite numbers.
    """
    values = np.asarray(profile, dtype=float)
    if values.shape != (DECILES,) or not np.isfinite(values).all():
        raise ZooError("a profile of gradients is ten finite numbers, one for each decile of the depth")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return FULL_DEPTH
    high = values > (np.median(values) + values.max()) / 2
    first = last = int(values.argmax())
    while first > 0 and high[first - 1]:
        first -= 1
    while last < DECILES - 1 and high[last + 1]:
        last += 1
    return DepthRange(first, last)


def ablation(chosen: DepthRange) -> Mapping[str, ZooProxy]:
    """Return L-SWAG and its parts as entries of the zoo by name, in the order of the paper's Table 3.

    They go from ZiCo over Λ and Ψ to Λ × Ψ, over the full depth and, where `chosen` is less, in that range.
    """
    full = str(chosen) == str(FULL_DEPTH)
    entries = [
        _formula_entry("zico", "sum(log(sum(batch_mean(abs(weight_grad_batches)) / batch_std(weight_grad_batches))))"),
        _formula_entry("lswag-lambda", lambda_formula()),
        _function_entry("lswag-psi", psi_score, FULL_DEPTH),
        _function_entry("lswag", lswag_score, FULL_DEPTH),
    ]
    if not full:
        entries += [
            _formula_entry(f"lswag-lambda-{chosen}", lambda_formula(chosen)),
            _function_entry(f"lswag-psi-{chosen}", psi_score, chosen),
            _function_entry(f"lswag-{chosen}", lswag_score, chosen),
        ]
    return MappingProxyType({entry.name: entry for entry in entries})


_NOTES = {
    "zico": "the proxy that L-SWAG changes; here over the two halves of the batch, whose size must be even",
    "lswag-lambda": "ZiCo with 1 in place of the mean; the paper does not say over what the deviation is: here over "
    "two mini-batches, as in ZiCo; weights whose gradient does not vary are left out",
    "lswag-psi": "the sign is read at the input of GELU, whose output has the same sign; at most 2^S patterns of S "
    "samples, so that small batches tie",
    "lswag": "Λ × Ψ; the sign of Λ depends on the scale of the gradients",
}


def _note(name: str) -> str:
    base = next(key for key in sorted(_NOTES, key=len, reverse=True) if name.startswith(key))
    where = "" if name == base else f"; blocks in deciles {name.removeprefix(base + '-')} of the depth"
    return _NOTES[base] + where


def _formula_entry(name: str, formula: str) -> ZooProxy:
    return ZooProxy(
        name=name,
        source="Li et al., ZiCo, ICLR 2023, arXiv 2301.11300, code" if name == "zico" else f"{SOURCE}, Eq. 1, Λ",
        cost="backward",
        reads="weight gradients of the blocks' linears, for each of two mini-batches",
        formula=formula,
        note=_note(name),
    )


def _function_entry(name: str, function: Callable[..., float], chosen: DepthRange) -> ZooProxy:
    only_psi = function is psi_score
    bounds = f"_{{l={chosen.first / DECILES:g}L}}^{{{(chosen.last + 1) / DECILES:g}L}}"
    psi = rf"\left|\bigcup{bounds} \left\{{ \left[x_{{l,j}}(s) > 0\right]_{{s=1}}^S \right\}}_j\right|"
    lam = rf"\sum{bounds} \log \sum_w \frac{{1}}{{\sigma_b\left[\left|\nabla_w L_b\right|\right]}}"
    return ZooProxy(
        name=name,
        source=f"{SOURCE}, Eq. 1" + (", Ψ" if only_psi else ""),
        cost="forward" if only_psi else "backward",
        reads="inputs of the GELUs (fc1)" + ("" if only_psi else ", and weight gradients of two mini-batches"),
        function=partial(function, chosen),
        needs=(gelu_inputs,),
        latex=psi if only_psi else rf"\left({lam}\right) \cdot {psi}",
        note=_note(name),
    )
