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
from autoprox.bench_cache.training.images import ImageBatch, read_images
from autoprox.cli.devices import DEVICES, chosen_device, whole_float32
from autoprox.cli.model_options import MODELS_HELP, input_spec, model_options
from autoprox.cli.options import given_options, operations_option
from autoprox.display.terminal import make_console, make_table, number, numbers, say, size
from autoprox.models import FORMS, ModelError, build_model, class_count, first_output
from autoprox.own_layers import LayersFunction, layers_function
from autoprox.primitives import LayerError, read_statistics
from autoprox.proxy import resolve
from autoprox.rank.caption import made_inputs
from autoprox.rank.network import Score, function_score
from autoprox.readout import Readout
from autoprox.scoring import AnyProxy, gaussian_batch
from autoprox.vocabulary import vocabulary
from autoprox.zoo.shared_results import sharing_results

_SIZES = ("params", "flops", "activations")


@dataclass(frozen=True)
class _Scored:
    """A model with its size (None where it cannot be counted) and its scores, in the order of the proxies."""

    model: str
    params: int
    flops: float | None
    activations: float | None
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class _Samples:
    """What the networks run on: images with their classes, or Gaussian samples with random classes."""

    count: int
    image_size: int
    channels: int
    seed: int
    images: ImageBatch | None = None
    file: Path | None = None

    def tensors(self, classes: int | None) -> tuple[Tensor, Tensor | None]:
        """Return inputs and class numbers for a model; no class numbers where it has no classes, or images none.

        They are drawn on the CPU, so that they are the same on every device.
        """
        if self.images is not None:
            targets = self.images.targets
            return torch.from_numpy(self.images.images), None if targets is None else torch.from_numpy(targets)
        spec = input_spec(self.image_size, self.channels, classes or 1)
        inputs, targets = gaussian_batch(spec, self.count, self.seed)
        return torch.from_numpy(inputs), torch.from_numpy(targets).long() if classes else None

    def __str__(self) -> str:
        shape = f"{self.channels} × {self.image_size} × {self.image_size}"
        one = self.count == 1
        random = f"a random class (seed {self.seed})" if one else f"random classes (seed {self.seed})"
        if self.images is not None:
            known = self.images.targets is not None
            classes = ("its class" if one else "their classes") if known else random
            return f"{self.count} {'image' if one else 'images'} of {shape} from {self.file}, with {classes}"
        return f"{self.count} Gaussian {'sample' if one else 'samples'} of {shape} with {random}"


@click.command(
    "score",
    help=f"""Score untrained models by proxies and rank them, best first.

    A MODEL has a colon. What has none is a PROXY, which --proxy names too. Every score is higher for better models.

    \b
    autoprox score snip 'sum(fro(weight))' timm:vit_tiny_patch16_224 timm:deit_small_patch16_224
    autoprox score my_models.py:small my_models.py:large --proxy runs/001 --images photos/
    autoprox score my_models.py:backbone --proxy snip --readout last_hidden_state --device cpu

    {MODELS_HELP}
    """,
)
@click.argument("names", nargs=-1, metavar="PROXY... MODEL...")
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="PROXY",
    help="Run directory, proxy file, shipped name, or formula; may be repeated.",
)
@model_options
@click.option("--batch", type=click.IntRange(1), default=2, show_default=True, help="Number of samples.")
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|FILE.npz",
    help="Images instead of Gaussian samples: a folder, with one for each class in it, or arrays images and targets.",
)
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help=f"{DEVICES}; auto is a GPU if any.")
@click.option(
    "--readout",
    metavar="NAME",
    help="What stands for class scores in the output of a model without a head, such as last_hidden_state.",
)
@click.option(
    "--layers",
    metavar="FILE.py:FUNCTION",
    help="Function of a model that names its layers, [{'qkv': NAME, ...}, ...].  [default: they are found]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@operations_option
@click.pass_context
def command(
    context: click.Context,
    names: Sequence[str],
    proxies: Sequence[str],
    settings: Sequence[tuple[str, Any]],
    readout: str | None,
    layers: str | None,
    device: str,
    as_json: bool,
    operations: Sequence[str],
    **shape: Any,
) -> None:
    """Print a table for each proxy: the models, best first, with their size and the seconds that each score took."""
    models, proxies = _told_apart(names, proxies)
    samples = _samples(given_options(context), **shape)
    known = vocabulary(operations)
    chosen = [resolve(proxy, known) for proxy in dict.fromkeys(proxies)]
    odd = [proxy for proxy in chosen if proxy.halves_batch and samples.count % 2]
    if odd:
        raise click.UsageError(f"{_name(odd[0])} halves the batch, and {samples.count} samples have no half")
    scored = []
    where, listed = chosen_device(device), None if layers is None else layers_function(layers)
    with one_thread(), whole_float32():
        for model in dict.fromkeys(models):
            scored.append(_score(_Model(model, dict(settings), readout, where, listed), chosen, samples))
            give_back_memory()
    if not any(score.value is not None for found in scored for score in found.scores):
        raise ModelError(
            f"no proxy scores any model; {scored[0].model} by {_name(chosen[0])}: {_problem(scored[0], 0)}"
        )
    if as_json:
        click.echo(_json(scored, chosen, samples))
    else:
        _print(make_console(), scored, chosen, samples)


def _told_apart(names: Sequence[str], proxies: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the models and the proxies. With --proxy all names are models; else those that have a colon."""
    models = [name for name in names if proxies or ":" in name]
    proxies = [*proxies, *(name for name in names if name not in models)]
    if not models:
        raise click.UsageError(f"score which model? Name a MODEL: {FORMS}")
    if not proxies:
        raise click.UsageError("score with what? Name a PROXY: `autoprox proxies` lists the shipped ones")
    return models, proxies


def _samples(
    given: set[str], *, images: Path | None, batch: int, image_size: int, channels: int, seed: int
) -> _Samples:
    """Return what the networks run on."""
    if images is None:
        return _Samples(batch, image_size, channels, seed)
    taken = {"channels"} if images.is_dir() else {"batch", "image_size", "channels"}
    wrong = sorted(given & taken)
    if wrong:
        raise click.UsageError(
            f"--{wrong[0].replace('_', '-')} is for Gaussian samples; {images} has its own: leave it out, or --images"
        )
    found = read_images(images, size=image_size, count=batch if images.is_dir() else None)
    shape = found.images.shape
    return _Samples(len(found.images), shape[2], shape[1], seed, found, images)


@dataclass(frozen=True)
class _Model:
    """A model as the command line names it: what builds it, what is read of it, and where it runs."""

    name: str
    settings: Mapping[str, Any]
    readout: str | None
    device: torch.device
    layers: LayersFunction | None

    def built(self, samples: _Samples) -> torch.nn.Module:
        """Return the network. Its weights are drawn on the CPU, so that they are the same on every device."""
        network = build_model(self.name, self.settings, samples.seed, input_spec(samples.image_size, samples.channels))
        return (network if self.readout is None else Readout(network, self.readout)).to(self.device)


def _score(model: _Model, proxies: Sequence[AnyProxy], samples: _Samples) -> _Scored:
    """Build a model and score it by every proxy."""
    network = model.built(samples)
    inputs, _ = samples.tensors(None)
    inputs, targets = samples.tensors(class_count(first_output(model.name, network, inputs.to(model.device))))
    inputs, targets = inputs.to(model.device), None if targets is None else targets.to(model.device)
    params = sum(parameter.numel() for parameter in network.parameters())
    try:
        counted = read_statistics(network, (), {("flops", ""), ("activations", "")}, inputs).net
    except LayerError:
        counted = {}
    with sharing_results() as shared:
        scores = [
            function_score(proxy, network, inputs, targets, samples.seed, shared, model.layers) for proxy in proxies
        ]
    return _Scored(model.name, params, counted.get("flops"), counted.get("activations"), tuple(scores))


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
    table = make_table("", *numbers("rank", "score", "params", "FLOPs", "activations", "s"), "model")
    for rank, found, score in rows:
        counts = (found.params, found.flops, found.activations)
        sizes = (number(None) if count is None else size(count) for count in counts)
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
        if samples.images is not None:
            yield f"{samples.file} is {samples.images.prepared}."
    yield from made_inputs(probes, samples.seed)


def _json(scored: Sequence[_Scored], proxies: Sequence[AnyProxy], samples: _Samples) -> str:
    record = {
        "autoprox": __version__,
        "seed": samples.seed,
        "ran_on": list(_ran_on(proxies, samples)),
        "models": [{name: getattr(found, name) for name in ("model", *_SIZES)} for found in scored],
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
