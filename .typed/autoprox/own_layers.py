"""Own layers: a user's function that names the layers of a model, found in a file or a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from autoprox.bench_cache.runtime.user_code import UserCodeError, called, load_object, on_path
from autoprox.primitives import LayerError

#: What a function of the user's returns: a list of blocks as `layers=` takes it.
LayersFunction = Callable[[torch.nn.Module], Any]


def layers_function(reference: str) -> LayersFunction:
    """Return the function that FILE.py:FUNCTION or MODULE:FUNCTION names; what it raises becomes a LayerError.

    Raises:
        LayerError: there is no such function.
    """
    try:
        found = load_object(reference)
    except UserCodeError as error:
        raise LayerError(f"--layers {reference}: {error}") from error
    if not callable(found.value):
        raise LayerError(
            f"--layers {reference}: it is a {type(found.value).__name__}; name a function of a model that returns "
            "[{'qkv': NAME, 'proj': NAME, 'fc1': NAME, 'fc2': NAME}, ...]"
        )

    def layers(model: torch.nn.Module) -> Any:
        try:
            with on_path(found.folder):
                named = called("naming the layers", found.value, model)
        except UserCodeError as error:
            raise LayerError(f"--layers {reference}: {error}") from error
        if not isinstance(named, list | tuple):
            raise LayerError(f"--layers {reference}: it returns a {type(named).__name__}; a list of blocks is needed")
        return named

    return layers
