"""Show the blocks that are found in a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click
import torch
from rich.table import Table

from autoprox.api.arguments import input_spec
from autoprox.bench_cache.runtime.local_pool import one_thread
from autoprox.cli.model_options import MODELS_HELP, model_options
from autoprox.cli.output import Output, output_options
from autoprox.display.terminal import make_table, names
from autoprox.models import ModelError, build_model, first_output
from autoprox.primitives import LayerError
from autoprox.primitives.find_blocks.choose import require_one_place
from autoprox.primitives.find_blocks.describe import Finding, find_layers, table
from autoprox.scoring import gaussian_batch


@click.command(
    "layers",
    help=f"""Show the blocks that are found in a model, what is in no block, and a draft of layers=.

    The model runs once on one Gaussian image. The blocks follow from what this forward pass does. A proxy reads the
    layers in these blocks. Where they are not what you mean, edit the draft and give it as `layers=` to
    Proxy.score.

    {MODELS_HELP}
    """,
)
@click.argument("model")
@model_options
@output_options
def command(
    model: str, settings: Sequence[tuple[str, Any]], seed: int, image_size: int, channels: int, output: Output
) -> None:
    """Print the blocks of a model, what was left out and why, and the same as a `layers=` draft."""
    spec = input_spec(image_size, channels)
    network = build_model(model, dict(settings), seed, spec)
    inputs = torch.from_numpy(gaussian_batch(spec, 1, seed)[0])
    with one_thread():
        first_output(model, network, inputs)
        finding = find_layers(network, inputs)
    if not finding.blocks:
        raise ModelError(f"{model}: found no transformer block: {finding.why_none}")
    output.print(
        _parts(model, network, finding, f"{channels} × {image_size} × {image_size}"),
        lambda: _record(model, network, finding),
    )


def _record(model: str, network: torch.nn.Module, finding: Finding) -> dict[str, Any]:
    heads = ("what", "layers", "remark")
    return {
        "model": model,
        "class": type(network).__name__,
        "blocks": len(finding.blocks),
        "covered": finding.covered,
        "found": [dict(zip(heads, row, strict=True)) for row in table(finding)],
        "draft": finding.draft,
    }


def _parts(model: str, network: torch.nn.Module, finding: Finding, shape: str) -> Iterator[str | Table]:
    count = len(finding.blocks)
    blocks = "1 block" if count == 1 else f"{count} blocks"
    yield f"{model} ({type(network).__name__}): {blocks}, found by one forward pass on an image of {shape}"
    found = make_table("", names("what"), "layers", "remark")
    for what, layers, remark in table(finding):
        found.add_row(what, layers.replace("  ", "\n"), remark)  # a line for each slot
    yield found
    yield "`*` stands for a number."
    yield f"The blocks hold {finding.covered:.1%} of the weights of linear layers."
    try:
        require_one_place(finding)
    except LayerError as ambiguous:
        yield f"Scores need a choice: {ambiguous}."
    yield f"\nlayers={finding.draft}"
