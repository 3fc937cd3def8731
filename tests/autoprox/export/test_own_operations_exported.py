"""Operations of users: an exported file has their source and all that it uses, or the export says why not."""

import linecache
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from exported_files import loaded
from tiny_vit import TinyVit
from torch import Tensor, nn

from autoprox.export import export
from autoprox.export.sources import SourceError
from autoprox.primitives import OPERATIONS, Operation
from autoprox.proxy import Proxy

BASE = 1.5
# How much `helper` stretches.
SCALE = BASE * 2


def helper(x: Tensor) -> Tensor:
    """Uses a constant of the module."""
    return x * SCALE + torch.special.expit(x)


def my_sum(x: Tensor) -> Tensor:
    """Σ 3x + σ(x), which needs a helper and a module of the standard library"""
    return (helper(x) + math.pi).sum((-2, -1)).clamp(-1e30, 1e30)


def with_numpy(x: Tensor) -> Tensor:
    """Imports what an exported file may not."""
    return x * np.float32(2)


def saturate(x: Tensor) -> Tensor:
    """Has the name of one of ours."""
    return x.clamp(-1, 1)


def my_clip(x: Tensor) -> Tensor:
    """Uses the one of that name."""
    return saturate(x)


def weight(x: Tensor) -> Tensor:
    """Has the name of a statistic, and so of a variable."""
    return x * 2


def fro_1(x: Tensor) -> Tensor:
    """Has the name that a variable would get."""
    return x + 1


def row(x: Tensor) -> Tensor:
    """Has the name of a variable of every file."""
    return x


def user_proxy(text: str, **functions: Callable[..., Tensor]) -> Proxy:
    """A proxy in our vocabulary and functions, which are reductions if they are named so, and maps otherwise."""
    extra = [
        Operation(name, "reduce" if name.endswith("sum") else "map", function, f"\\{name} {{0}}")
        for name, function in functions.items()
    ]
    return Proxy.from_formula(text, operations=OPERATIONS.extended(*extra))


def test_operations_of_users_are_exported_with_what_they_use() -> None:
    def halved(x: Tensor) -> Tensor:
        return helper(x) / 2

    for proxy in (
        user_proxy("sum(my_sum(weight))", my_sum=my_sum),
        user_proxy("sum(l1(halved(weight)))", halved=halved),
        user_proxy("sum(my_sum(arsinh(expit(weight))))", my_sum=my_sum, arsinh=torch.asinh, expit=torch.special.expit),
        user_proxy("sum(fro(doubled(weight)) + fro(plus(weight)))", doubled=weight, plus=fro_1),
    ):
        source = export(proxy, "python")
        assert loaded(source).score(TinyVit()) == proxy.score(TinyVit())
    source = export(user_proxy("sum(my_sum(weight))", my_sum=my_sum), "python")
    assert "import math\n" in source
    assert "\nBASE = 1.5\n# How much `helper` stretches.\nSCALE = BASE * 2\n" in source


def test_operations_typed_in_a_notebook_are_exported() -> None:
    cell = "def cell(x):\n    return inner(x) * FACTOR + torch.tanh(x) + F.relu(x)\n\n\ndef inner(x):\n    return -x\n"
    namespace = {"__name__": "notebook", "torch": torch, "F": nn.functional, "FACTOR": 0.5}
    linecache.cache["<cell>"] = (len(cell), None, cell.splitlines(keepends=True), "<cell>")
    exec(compile(cell, "<cell>", "exec"), namespace)
    proxy = user_proxy("sum(l1(cell(weight)))", cell=namespace["cell"])
    assert loaded(export(proxy, "python")).score(TinyVit()) == proxy.score(TinyVit())
    namespace["FACTOR"] = torch.tensor(0.5)
    with pytest.raises(SourceError, match="'FACTOR' is used in notebook"):
        export(proxy, "python")
    exec("def unseen(x):\n    return x", namespace)
    with pytest.raises(SourceError, match="no source of the function 'unseen'"):
        export(user_proxy("sum(l1(unseen(weight)))", unseen=namespace["unseen"]), "python")


def test_operations_without_usable_source_are_refused() -> None:
    factor = torch.tensor(2.0)

    def closure(x: Tensor) -> Tensor:
        return x * factor

    class Callable_:
        def __call__(self, x: Tensor) -> Tensor:
            return x

    for function, says in (
        (closure, "'closure' needs the variable 'factor' of the function around it"),
        (lambda x: x, "no function with a name: write it with `def`"),
        (Callable_(), "no function with a name"),
        (with_numpy, "uses 'import numpy as np', but an exported proxy imports only torch"),
        (my_clip, "two things are called 'saturate'"),
        (row, "the function 'row' has the name of a variable of the exported file: rename it"),
    ):
        with pytest.raises(SourceError, match=re.escape(says)) as caught:
            export(user_proxy("sum(fro(used(weight)))", used=function), "python")
        assert "\n" not in str(caught.value)
