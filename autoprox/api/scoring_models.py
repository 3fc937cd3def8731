"""Score: models by proxies, as one function that Python and the command line call."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from autoprox import __version__
from autoprox.api.arguments import ArgumentError, Operations, input_spec, known_operations, one_by_one
from autoprox.api.results import Result
from autoprox.api.samples import Samples, chosen_samples
from autoprox.bench_cache.runtime.devices import chosen_device, computing
from autoprox.bench_cache.runtime.local_pool import give_back_memory
from autoprox.bench_cache.runtime.user_code import seeded
from autoprox.display.terminal import Counting, make_table, number, numbers, progress_console, say, size
from autoprox.initial_weights import fill_zeros, zero_weights
from autoprox.models import FORMS, ModelError, build_model, class_count, first_output
from autoprox.own_layers import layers_function
from autoprox.primitives import LayerError, read_statistics
from autoprox.primitives.batch_norms import RUNNING, batch_norms_by
from autoprox.primitives.passes import Subject
from autoprox.primitives.sharing import sharing_results
from autoprox.proxy import ProxyLike, any_proxy
from autoprox.rank.caption import made_inputs, norms_line
from autoprox.rank.network import Score, announce, function_score
from autoprox.readout import Readout
from autoprox.scoring import STARTS_AT_0, AnyProxy, Layers

#: A model, a function without arguments that builds one, or what MODEL means on the command line.
ModelLike = torch.nn.Module | Callable[[], torch.nn.Module] | str
_SIZES = ("params", "flops", "activations")


@dataclass(frozen=True)
class ScoredModel:
    """A model with its size (None where it cannot be counted) and its scores, in the order of the proxies.

    Of the proxies at the places `filled_for` the scores are those of a copy, in which the weights `filled` do not start
    at 0; see `autoprox.fill_zeros`.
    """

    model: str
    params: int
    flops: float | None
    activations: float | None
    scores: tuple[Score, ...]
    filled: tuple[str, ...] = ()
    filled_for: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Scoring(Result):
    """What `autoprox.score` returns.

    Attributes:
        models: the models with their sizes and scores, in the order given; see `ScoredModel`.
        proxies: the proxies, in the order given.
        samples: what the networks ran on.
        batch_norm: by what batch norms normalised, "running" or "batch".
    """

    models: tuple[ScoredModel, ...]
    proxies: tuple[AnyProxy, ...]
    samples: Samples
    batch_norm: str = RUNNING

    def ranking(self, place: int = 0) -> list[tuple[int | None, ScoredModel, Score]]:
        """Return the models by the score of one of the proxies, best first, with their ranks.

        Equal scores share a rank; a model without a score has none, and comes last.
        """
        rows = [(found, found.scores[place]) for found in self.models]
        values = [score.value for _, score in rows if score.value is not None]
        ranked = [
            (None if score.value is None else 1 + sum(value > score.value for value in values), found, score)
            for found, score in rows
        ]
        return sorted(ranked, key=lambda row: len(rows) + 1 if row[0] is None else row[0])

    def ran_on(self) -> Iterator[str]:
        """Yield what the networks were and ran on: a line for each probe that any proxy uses."""
        yield f"Weights are untrained (seed {self.samples.seed})."
        probes = {probe for proxy in self.proxies for probe in proxy.probes}
        if not probes:
            yield (
                "No proxy runs the networks on a batch: every score follows from structure or from the initial weights."
            )
        if "data" in probes:
            yield f"The probe `data` read {self.samples}."
            if self.samples.images is not None:
                yield f"{self.samples.file} is {self.samples.images.prepared}."
        yield from made_inputs(probes, self.samples.seed)
        yield from norms_line(probes, self.batch_norm)

    def parts(self) -> Iterator[str | Text | Table]:
        """Yield what the networks ran on, and for each proxy a table of the models, best first."""
        yield from self.ran_on()
        for place, proxy in enumerate(self.proxies):
            title = proxy.text if proxy.name in ("", proxy.text) else f"{proxy.name}: {proxy.text}"
            yield Text(f"\n{title}", "bold")
            yield _table(self.ranking(place), place)
            for found in self.models:
                if found.scores[place].value is None:
                    yield f"{found.model} has no score: {_problem(found, place)}"
                elif place in found.filled_for:
                    yield _filled(found)

    def records(self) -> list[dict[str, Any]]:
        """Return a line for each proxy and model, the best model first: rank, score, size, seconds, and a problem."""
        return [
            {
                "proxy": _name(proxy),
                "rank": rank,
                "model": found.model,
                "score": score.value,
                **{name: getattr(found, name) for name in _SIZES},
                "seconds": score.seconds,
                "problem": score.problem,
                "filled": place in found.filled_for,
            }
            for place, proxy in enumerate(self.proxies)
            for rank, found, score in self.ranking(place)
        ]

    def record(self) -> dict[str, Any]:
        """Return what the networks ran on, the models with their sizes, and each proxy's ranking, as JSON values."""
        rankings = [
            [
                {
                    "rank": rank,
                    "model": found.model,
                    "score": score.value,
                    "seconds": round(score.seconds, 4),
                    **({"problem": score.problem} if score.problem else {}),
                    **({"filled": found.filled} if place in found.filled_for else {}),
                }
                for rank, found, score in self.ranking(place)
            ]
            for place in range(len(self.proxies))
        ]
        return {
            "autoprox": __version__,
            "seed": self.samples.seed,
            "batch_norm": self.batch_norm,
            "ran_on": list(self.ran_on()),
            "models": [{name: getattr(found, name) for name in ("model", *_SIZES)} for found in self.models],
            "proxies": [
                {"proxy": _name(proxy), "text": proxy.text, "ranking": ranking}
                for proxy, ranking in zip(self.proxies, rankings, strict=True)
            ],
        }

    def __repr__(self) -> str:
        return f"Scoring(models={len(self.models)}, proxies={[_name(proxy) for proxy in self.proxies]!r})"


def _name(proxy: AnyProxy) -> str:
    return proxy.name or proxy.text


def _problem(found: ScoredModel, place: int) -> str:
    return found.scores[place].problem.removeprefix("no score: ")


def _filled(found: ScoredModel) -> str:
    more = f" and {len(found.filled) - 3} more" if len(found.filled) > 3 else ""
    return (
        f"* {found.model} as it is has no score, because these start at 0: {', '.join(found.filled[:3])}{more}. The "
        "score is of a copy with other weights there; compare such scores with each other. --as-built leaves it out."
    )


def _table(rows: Sequence[tuple[int | None, ScoredModel, Score]], place: int) -> Table:
    table = make_table("", *numbers("rank", "score", "params", "FLOPs", "activations", "s"), "model")
    for rank, found, score in rows:
        counts = (found.params, found.flops, found.activations)
        sizes = (number(None) if count is None else size(count) for count in counts)
        shown = number(None if rank is None else float(rank), ".0f")
        mark = " *" if place in found.filled_for else ""
        table.add_row(shown, number(score.value, ".7g"), *sizes, number(score.seconds, ".2f"), Text(found.model + mark))
    return table


def score(
    proxies: ProxyLike | Sequence[ProxyLike], models: ModelLike | Sequence[ModelLike] | Mapping[str, ModelLike], *,
    settings: Mapping[str, Any] | None = None, batch: int | None = None,
    images: str | os.PathLike[str] | None = None, image_size: int | None = None, channels: int | None = None,
    batch_norm: str = RUNNING,
    seed: int = 0, device: str = "auto", readout: str | None = None, layers: Layers | str = None,
    as_built: bool = False, operations: Operations = (), progress: bool = True,
) -> Scoring:  # fmt: skip
    """Score untrained models by proxies and rank them. Every score is higher for better models.

    `proxies` are what PROXY means on the command line, or objects: a `Proxy`, a formula, a function of an untrained
    network. `models` are what MODEL means there (such as `timm:vit_tiny_patch16_224`), modules, or functions that build
    them; a mapping gives them names. `settings` are keyword arguments for what a MODEL names. Models that are named or
    built here follow from `seed` and run on `device`; a module is read where it is, and left as it was.

    The probes read `batch` (2) Gaussian samples of `image_size` (224) and `channels` (3), or `images`: a folder with
    one for each class in it, or an .npz file with images and targets. `readout` names what stands for class scores in
    the output of models without a head. `layers` and `batch_norm` are those of `Proxy.score`; `layers` may name a
    function too, FILE.py:FUNCTION. Where layers that start at 0 stop every gradient, the score is that of a copy with
    other weights there, and the result says so; see `autoprox.fill_zeros`. With `as_built` there is no score then.

    Raises:
        ArgumentError, BenchmarkError: an argument cannot be.
        DeviceError: there is no such device, or its memory is too small.
        ModelError: a model cannot be found, built or run, or no proxy scores any.
        ProxyError, FormulaError, OperationError: there is no such proxy, or it cannot be read.
    """
    known, _ = known_operations(operations)
    chosen = _proxies(proxies, known)
    sources = _sources(models)
    samples = chosen_samples(images, batch, image_size, channels, seed)
    _check_halves(chosen, samples.count)
    where, listed = chosen_device(device), layers_function(layers) if isinstance(layers, str) else layers
    chosen_models = [
        _Model(name, source, dict(settings or {}), readout, where, listed, as_built) for name, source in sources.items()
    ]
    scored = []
    console = progress_console(silent=not progress)
    heading = f"{_counted(sources, 'model', 'models')} by {_counted(chosen, 'proxy', 'proxies')}"
    say(console, f"autoprox score: {heading}, on {where}")
    with computing(), batch_norms_by(batch_norm), Counting(console, "scoring models") as count:
        for model in chosen_models:
            scored.append(_scored(model, chosen, samples))
            give_back_memory()
            count(len(scored), len(sources))
    if all(score.value is None for found in scored for score in found.scores):
        raise ModelError(
            f"no proxy scores any model; {scored[0].model} by {_name(chosen[0])}: {_problem(scored[0], 0)}"
        )
    return Scoring(models=tuple(scored), proxies=tuple(chosen), samples=samples, batch_norm=batch_norm)


def _check_halves(proxies: Sequence[AnyProxy], samples: int) -> None:
    """Refuse an odd number of samples where a proxy halves the batch."""
    odd = [proxy for proxy in proxies if proxy.halves_batch and samples % 2]
    if odd:
        raise ArgumentError(f"{_name(odd[0])} halves the batch, and {samples} samples have no half")


def _counted(things: Sized, one: str, many: str) -> str:
    """Return how many there are, and of what."""
    return f"{len(things)} {one if len(things) == 1 else many}"


def _proxies(given: ProxyLike | Sequence[ProxyLike], operations: Any) -> list[AnyProxy]:
    listed = one_by_one(given)
    if not listed:
        raise ArgumentError("score with what? Name a PROXY: `autoprox proxies` lists the shipped ones")
    return [any_proxy(ref, operations) for ref in dict.fromkeys(listed)]


def _sources(models: ModelLike | Sequence[ModelLike] | Mapping[str, ModelLike]) -> dict[str, ModelLike]:
    """Return the models by name: their own, or in a list a reference, or the name of a class or function."""
    if isinstance(models, Mapping):
        found = dict(models)
    else:
        listed = one_by_one(models)
        names = [each if isinstance(each, str) else _called_name(each) for each in listed]
        often = Counter(name for name, each in zip(names, listed, strict=True) if not isinstance(each, str))
        numbered = [f"{name} {n}" if often[name] > 1 else name for n, name in enumerate(names, 1)]
        found = dict(zip(numbered, listed, strict=True))
    if not found:
        raise ArgumentError(f"score which model? Name a MODEL: {FORMS}")
    return found


def _called_name(model: object) -> str:
    return type(model).__name__ if isinstance(model, torch.nn.Module) else getattr(model, "__name__", "model")


@dataclass(frozen=True)
class _Model:
    """A model, or what names or builds it, with what is read of it, and where it runs."""

    name: str
    source: ModelLike
    settings: Mapping[str, Any]
    readout: str | None
    device: torch.device
    layers: Layers
    as_built: bool

    def network(self, samples: Samples) -> torch.nn.Module:
        """Return the network. Its weights are drawn on the CPU, so that they are the same on every device."""
        if isinstance(self.source, torch.nn.Module):
            return self._read(self.source)
        if isinstance(self.source, str):
            spec = input_spec(samples.image_size, samples.channels)
            return self._read(build_model(self.source, self.settings, samples.seed, spec)).to(self.device)
        with seeded(samples.seed):
            built = self.source()
        if not isinstance(built, torch.nn.Module):
            raise ModelError(f"{self.name}: it returns a {type(built).__name__}; a torch.nn.Module is needed")
        return self._read(built).to(self.device)

    def _read(self, network: torch.nn.Module) -> torch.nn.Module:
        return network if self.readout is None else Readout(network, self.readout)


def _scored(model: _Model, proxies: Sequence[AnyProxy], samples: Samples) -> ScoredModel:
    """Build a model and score it by every proxy."""
    network = model.network(samples)
    device = next((parameter.device for parameter in network.parameters()), model.device)
    inputs, _ = samples.tensors(None)
    inputs, targets = samples.tensors(class_count(first_output(model.name, network, inputs.to(device))))
    inputs, targets = inputs.to(device), None if targets is None else targets.to(device)
    params = sum(parameter.numel() for parameter in network.parameters())
    try:
        counted = read_statistics(network, (), {("flops", ""), ("activations", "")}, inputs).net
    except LayerError:
        counted = {}
    scores = _all_scores(proxies, network, inputs, targets, samples.seed, model.layers)
    again = [n for n, found in enumerate(scores) if found.value is None and STARTS_AT_0 in found.problem]
    filled = () if model.as_built or not again else tuple(zero_weights(network))
    filled_for = []
    if filled:
        others = [proxies[n] for n in again]
        of_copy = _all_scores(others, fill_zeros(network, samples.seed), inputs, targets, samples.seed, model.layers)
        for place, found in zip(again, of_copy, strict=True):
            if found.value is not None:
                scores[place] = found
                filled_for.append(place)
    sizes = (params, counted.get("flops"), counted.get("activations"))
    return ScoredModel(model.name, *sizes, tuple(scores), filled if filled_for else (), tuple(filled_for))


def _all_scores(
    proxies: Sequence[AnyProxy],
    network: torch.nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor | None,
    seed: int,
    layers: Layers,
) -> list[Score]:
    with sharing_results(Subject(network, inputs, targets, seed)) as shared:
        announce(shared, proxies, layers)
        return [function_score(proxy, network, inputs, targets, seed, layers) for proxy in proxies]
