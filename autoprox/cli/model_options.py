"""Options of the commands that take a MODEL, and the model that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import orjson

from autoprox.bench_cache.spaces.registry import InputSpec

_SPEC = InputSpec()
_Command = TypeVar("_Command", bound=Callable[..., Any])

#: What a MODEL may be, for the help of a command.
MODELS_HELP = """\b
    A MODEL is one of these; its weights are untrained:
      timm:NAME              a model of timm
      torchvision:NAME       an image classifier of torchvision
      hf:CONFIG              a local config.json of transformers, or its folder
      space:NAME:ARCH.json   an architecture of a space: its genes, or results of `search`
      FILE.py:FUNCTION       a function that returns a torch.nn.Module
      MODULE:FUNCTION        the same, in a module that Python can import
"""


class Setting(click.ParamType):
    """NAME=VALUE, where the value is JSON; a value that is no JSON is text."""

    name = "setting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Return the name and the value."""
        name, separator, text = str(value).partition("=")
        if not separator or not name.isidentifier():
            self.fail(f"'{value!s:.60}' is not NAME=VALUE, such as depth=6", param, ctx)
        try:
            return name, orjson.loads(text)
        except orjson.JSONDecodeError:
            return name, text


def model_options(command: _Command) -> _Command:
    """Add the options that say how models are built, and of which shape their inputs are."""
    options: Sequence[Callable[[_Command], _Command]] = (
        click.option(
            "--set",
            "settings",
            type=Setting(),
            multiple=True,
            metavar="NAME=VALUE",
            help="A keyword argument for the function of every MODEL, the value in JSON; may be repeated.",
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and samples."),
        click.option("--image-size", type=click.IntRange(1), default=_SPEC.image_size, show_default=True),
        click.option("--channels", type=click.IntRange(1), default=_SPEC.in_channels, show_default=True),
    )
    for option in reversed(options):
        command = option(command)
    return command


def patch_size_option(meaning: str) -> Callable[[_Command], _Command]:
    """Return the option --patch-size of networks of a space; `input_spec` gives it its default."""
    default = f"{_SPEC.patch_size}, or the image's size if that is smaller"
    return click.option("--patch-size", type=int, show_default=default, help=meaning)
