"""Score models by proxies, and rank them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from autoprox import __version__
from autoprox.bench_cache.runtime.local_pool import give_back_memory, one_thread
from autoprox.cli.model_options import MODELS_HELP, input_spec, model_options
from autoprox.cli.options import given_options
from autoprox.cli.terminal import make_console, make_table, number, numbers, say, size
from autoprox.models import ModelError, build_model, class_count, first_output
from autoprox.primitives import LayerError, read_statistics
from autoprox.proxy import resolve
from autoprox.rank.caption import made_inputs
from autoprox.rank.network import Score, function_score
from autoprox.scoring import AnyProxy, gaussian_batch
from autoprox.search.batch import Batch
from autoprox.search.candidate import SearchError
from autoprox.zoo.shared_results import sharing_results


@dataclass(frozen=True)
class _Scored:
    """A model with its size (None where it cannot be counted) and its scores, in the order of the proxies."""

    model: str
    params: int
    flops: float | None
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class _Samples:
    """What the networks run on: images with their classes, or Gaussian samples with random classes."""

    batch: Batch
    image_size: int
    channels: int
    seed: int
    file: Path | None = None

    def tensors(self, classes: int | None) -> tuple[Tensor, Tensor | None]:
        """Return inputs and class numbers for a model; no class numbers where it has no classes."""
        if self.batch.images is not None and self.batch.targets is not None:
            return torch.from_numpy(self.batch.images), torch.from_numpy(self.batch.targets).long()
        spec = input_spec(self.image_size, self.channels, classes or 1)
        inputs, targets = gaussian_batch(spec, self.batch.samples, self.seed)
        return torch.from_numpy(inputs), torch.from_numpy(targets).long() if classes else None

    def __str__(self) -> str:
        count = self.batch.samples
        shape = f"{self.channels} × {self.image_size} × {self.image_size}"
        if self.batch.images is not None:
            shape = " × ".join(map(str, self.batch.images.shape[1:]))
            images, classes = ("image", "its class") if count == 1 else ("images", "their classes")
            return f"{count} {images} of {shape} from {self.file}, with {classes}"
        samples = "sample" if count == 1 else "samples"
        classes = "a random class" if count == 1 else "random classes"
        return f"{count} Gaussian {samples} of {shape} with {classes} (seed {self.seed})"


@click.command(
    "score",
    help=f"""Score untrained models by proxies and rank them, best first.

    Name each proxy with --proxy, before or after the models. Every score is higher for better models.

    \b
    autoprox score timm:vit_tiny_patch16_224 timm:deit_small_patch16_224 --proxy snip --proxy 'sum(fro(weight))'
    autoprox score my_models.py:small my_models.py:large --proxy runs/001 --images batch.npz

    {MODELS_HELP}
    """,
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    required=True,
    metavar="PROXY",
    help="Run directory, proxy file, shipped name, or formula; may be repeated.",
)
@model_options
@click.option("--batch", type=click.IntRange(1), default=2, show_default=True, help="Number of Gaussian samples.")
@click.option(
    "--images",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Images (float32, N×C×H×W) and targets (N integers) instead of Gaussian samples.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_context
def command(
    context: click.Context,
    models: Sequence[str],
    proxies: Sequence[str],
    settings: Sequence[tuple[str, Any]],
    as_json: bool,
    **shape: Any,
) -> None:
    """Print a table for each proxy: the models, best first, with their size and the seconds that each score took."""
    samples = _samples(given_options(context), **shape)
    chosen = [resolve(proxy) for proxy in dict.fromkeys(proxies)]
    odd = [proxy for proxy in chosen if proxy.halves_batch and samples.batch.samples % 2]
    if odd:
        raise click.UsageError(f"{_name(odd[0])} halves the batch, and {samples.batch.samples} samples have no half")
    scored = []
    with one_thread():
        for model in dict.fromkeys(models):
            scored.append(_score(model, dict(settings), chosen, samples))
            give_back_memory()
    if not any(score.value is not None for found in scored for score in found.scores):
        raise ModelError(
            f"no proxy scores any model; {scored[0].model} by {_name(chosen[0])}: {_problem(scored[0], 0)}"
        )
    if as_json:
        click.echo(_json(scored, chosen, samples))
    else:
        _print(make_console(), scored, chosen, samples)


def _samples(
    given: set[str], *, images: Path | None, batch: int, image_size: int, channels: int, seed: int
) -> _Samples:
    """Return what the networks run on."""
    if images is None:
        return _Samples(Batch(batch), image_size, channels, seed)
    wrong = sorted(given & {"batch", "image_size", "channels"})
    if wrong:
        raise click.UsageError(f"--{wrong[0].replace('_', '-')} is for Gaussian samples: leave it out, or --images")
    try:
        found = Batch.from_bytes(images.read_bytes())
    except SearchError as error:
        raise SearchError(f"{images}: {error}") from None
    assert found.images is not None
    return _Samples(found, found.images.shape[2], found.images.shape[1], seed, images)


def _score(model: str, settings: Mapping[str, Any], proxies: Sequence[AnyProxy], samples: _Samples) -> _Scored:
    """Build a model and score it by every proxy."""
    network = build_model(model, settings, samples.seed, input_spec(samples.image_size, samples.channels))
    inputs, _ = samples.tensors(None)
    inputs, targets = samples.tensors(class_count(first_output(model, network, inputs)))
    params = sum(parameter.numel() for parameter in network.parameters())
    try:
        flops = read_statistics(network, (), {("flops", "")}, inputs).net["flops"]
    except LayerError:
        flops = None
    with sharing_results() as shared:
        scores = [function_score(proxy, network, inputs, targets, samples.seed, shared) for proxy in proxies]
    return _Scored(model, params, flops, tuple(scores))


def _name(proxy: AnyProxy) -> str:
    return proxy.name or proxy.text


def _problem(found: _Scored, position: int) -> str:
    return found.scores[position].problem.removeprefix("no score: ")


def _ranked(scored: Sequence[_Scored], number: int) -> list[tuple[int | None, _Scored, Score]]:
    """Return the models by a proxy's score, best first, with their ranks: equal scores share one; no score, no rank."""
    rows = [(found, found.scores[number]) for found in scored]
    values = [score.value for _, score in rows if score.value is not None]
    ranked = [
        (None if score.value is None else 1 + sum(value > score.value for value in values), found, score)
        for found, score in rows
    ]
    return sorted(ranked, key=lambda row: len(rows) + 1 if row[0] is None else row[0])


def _print(console: Console, scored: Sequence[_Scored], proxies: Sequence[AnyProxy], samples: _Samples) -> None:
    for line in _ran_on(proxies, samples):
        say(console, line)
    for position, proxy in enumerate(proxies):
        title = proxy.text if proxy.name in ("", proxy.text) else f"{proxy.name}: {proxy.text}"
        say(console, f"\n{title}", "bold")
        console.print(_table(_ranked(scored, position)))
        for found in scored:
            if found.scores[position].value is None:
                say(console, f"{found.model} has no score: {_problem(found, position)}")


def _table(rows: Sequence[tuple[int | None, _Scored, Score]]) -> Table:
    table = make_table("", *numbers("rank", "score", "params", "FLOPs", "s"), "model")
    for rank, found, score in rows:
        sizes = size(found.params), number(None) if found.flops is None else size(found.flops)
        shown = number(None if rank is None else float(rank), ".0f")
        table.add_row(shown, number(score.value, ".7g"), *sizes, number(score.seconds, ".2f"), found.model)
    return table


def _ran_on(proxies: Sequence[AnyProxy], samples: _Samples) -> Iterator[str]:
    """Yield what the networks were and ran on: a line for each probe that any proxy uses."""
    yield f"Weights are untrained (seed {samples.seed})."
    probes = {probe for proxy in proxies for probe in proxy.probes}
    if not probes:
        yield "No proxy runs the networks on a batch: every score follows from structure or from the initial weights."
    if "data" in probes:
        yield f"The probe `data` read {samples}."
    yield from made_inputs(probes, samples.seed)


def _json(scored: Sequence[_Scored], proxies: Sequence[AnyProxy], samples: _Samples) -> str:
    record = {
        "autoprox": __version__,
        "seed": samples.seed,
        "ran_on": list(_ran_on(proxies, samples)),
        "models": [{"model": found.model, "params": found.params, "flops": found.flops} for found in scored],
        "proxies": [
            {
                "proxy": _name(proxy),
                "text": proxy.text,
                "ranking": [
                    {
                        "rank": rank,
                        "model": found.model,
                        "score": score.value,
                        "seconds": round(score.seconds, 4),
                        **({"problem": score.problem} if score.problem else {}),
                    }
                    for rank, found, score in _ranked(scored, position)
                ],
            }
            for position, proxy in enumerate(proxies)
        ],
    }
    return orjson.dumps(record, option=orjson.OPT_INDENT_2).decode()
