"""As built: networks whose blocks their names tell, for as long as nothing about their modules has changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch

_Network = TypeVar("_Network", bound=torch.nn.Module)

#: The attribute of a network that holds its modules as they were when it was built.
_MODULES = "_modules_as_built"


def names_tell_blocks(network: _Network) -> _Network:
    """Return a new network, marked as one whose names tell all its blocks, in the order in which they run.

    Its blocks are then found without a forward pass. The mark counts only while the network is as it is now: see
    `is_as_built`.
    """
    setattr(network, _MODULES, _described(network.named_modules(remove_duplicate=False)))
    return network


def is_as_built(model: torch.nn.Module) -> bool:
    """Return whether a model is marked, and has the modules that it had then.

    It does not count if a module or its `forward` was replaced, if a module or a parameter is in two places, or if a
    module has a hook: then only a forward pass tells what runs.
    """
    built = vars(model).get(_MODULES)
    if built is None:
        return False
    named = list(model.named_modules(remove_duplicate=False))
    modules = [module for _, module in named]
    own = [id(p) for module in modules for p in (module, *module._parameters.values()) if p is not None]
    return (
        built == _described(named)
        and len(own) == len(set(own))
        and not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in modules)
    )


def _described(named: Iterable[tuple[str, torch.nn.Module]]) -> tuple[tuple[str, Any, Any], ...]:
    """Return the path, the class and the class's `forward` of every module."""
    return tuple((path, type(module), type(module).forward) for path, module in named)
