"""Exported Python files for the tests: how one is loaded, a provenance and a large formula."""

import sys
import types

PROVENANCE = {
    "benchmarks": ["vit-bench-101-autoformer", "vit-bench-101-pit"],
    "tasks": ["cifar100_kd"],
    "seed": 17,
    "tau": {"evolve": {"cifar100_kd": 0.71234567}, "test": {"cifar100_kd": 0.6789}},
    "version": "0.1.0",
}

#: A formula whose graph has many edges between its rows.
DENSE = (
    "sum(fro(minmax(sigmoid(tanh(weight * weight_grad)) - softmax(weight + weight_grad[synflow] * weight_grad[noise]))"
    " / (zscore(weight * weight_grad) + abs(log(weight * weight_grad)) * invert(weight + weight_grad[synflow]))))"
)


def loaded(source: str, name: str = "exported_proxy") -> types.ModuleType:
    """Return an exported file as a module."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses look their module up
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module
