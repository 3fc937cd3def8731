"""Models: build the untrained network that a MODEL on the command line names.

A MODEL is one of these:

- `timm:NAME`: a model of timm.
- `torchvision:NAME`: an image classifier of torchvision.
- `hf:CONFIG`: a local configuration of transformers, a JSON file or the folder with its `config.json`.
- `space:NAME:ARCH.json`: an architecture of a search space, a JSON file of its genes or the results of a search.
- `FILE.py:FUNCTION` or `MODULE:FUNCTION`: a function that returns a torch.nn.Module.

No weights are downloaded and none are loaded. The packages are imported only for a MODEL that needs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor

from autoprox.bench_cache.runtime.user_code import (
    UserCodeError,
    called,
    load_object,
    on_path,
    seeded,
)
from autoprox.bench_cache.spaces.registry import ArchitectureError, InputSpec, get_space
from autoprox.primitives import LayerError
from autoprox.primitives.batch import logits_of
from autoprox.primitives.untouched import one_pass, untouched

#: What a MODEL may be, for messages and help.
FORMS = "timm:NAME, torchvision:NAME, hf:CONFIG, space:NAME:ARCH.json, FILE.py:FUNCTION or MODULE:FUNCTION"

#: Arguments of libraries that would load trained weights.
_LOADS_WEIGHTS = ("pretrained", "weights", "weights_backbone", "checkpoint_path", "use_pretrained_backbone")


class ModelError(ValueError):
    """A MODEL that cannot be found, built or run; one line says which, why, and what to do."""


def build_model(
    reference: str, settings: Mapping[str, Any] | None = None, seed: int = 0, spec: InputSpec | None = None
) -> torch.nn.Module:
    """Return the untrained network that `reference` names; its weights follow from the seed.

    `settings` are keyword arguments of the function, or fields of the configuration for `hf:`. For `space:`, `spec` is
    what the network reads, and `settings` change its fields. The random generators are left as they were.

    Raises:
        ModelError: the model cannot be found or built.
    """
    kind, separator, rest = reference.partition(":")
    settings = dict(settings or {})
    if not separator or not kind or not rest:
        raise ModelError(f"'{reference:.80}' is no MODEL; write {FORMS}")
    if kind == "space":
        return _of_space(reference, rest, settings, seed, spec or InputSpec())
    with seeded(seed), _hub_offline():
        if kind in _LIBRARIES:
            _refuse_weights(reference, settings)
            return _checked(reference, _LIBRARIES[kind](reference, rest, settings))
        return _checked(reference, _of_function(reference, settings))


def _checked(reference: str, model: object) -> torch.nn.Module:
    if not isinstance(model, torch.nn.Module):
        raise ModelError(f"{reference}: it returns a {type(model).__name__}; a torch.nn.Module is needed")
    return model


def first_output(reference: str, model: torch.nn.Module, inputs: Tensor) -> object:
    """Return what the model gives for the first sample; the model is left as it was.

    Raises:
        ModelError: its forward pass fails.
    """
    try:
        with untouched(model), torch.no_grad():
            return one_pass(model, inputs[:1])
    except LayerError as error:
        raise ModelError(f"{reference}: {error}; another --image-size or --channels may fit") from error


def class_count(output: object) -> int | None:
    """Return the number of classes that a model's output has scores for; None where it has no class scores."""
    try:
        logits = logits_of(output)
    except LayerError:
        return None
    return logits.shape[1] if logits.ndim == 2 else None


# --- what each form means ---


def _of_timm(reference: str, name: str, settings: dict[str, Any]) -> object:
    timm = _imported(reference, "timm")
    if not timm.is_model(name):
        raise ModelError(f"{reference}: timm {timm.__version__} has no model of this name; see timm.list_models()")
    return _called(reference, timm.create_model, name, pretrained=False, **settings)


def _of_torchvision(reference: str, name: str, settings: dict[str, Any]) -> object:
    models = _imported(reference, "torchvision").models
    if name not in models.list_models(module=models):
        raise ModelError(
            f"{reference}: torchvision has no image classifier of this name; see torchvision.models.list_models()"
        )
    return _called(reference, models.get_model, name, weights=None, **settings)


def _of_transformers(reference: str, path: str, settings: dict[str, Any]) -> object:
    file = Path(path).expanduser()
    record = _read_json(reference, file / "config.json" if file.is_dir() else file)
    transformers = _imported(reference, "transformers")
    for name in ("dtype", "torch_dtype"):  # of the trained weights; untrained ones are float32
        record.pop(name, None)
    record |= settings
    _refuse_weights(reference, record)
    kind = record.pop("model_type", None)
    if not isinstance(kind, str):
        raise ModelError(f"{reference}: the configuration has no 'model_type', so it is not one of transformers")
    config = _called(reference, transformers.AutoConfig.for_model, kind, **record)
    return _called(reference, transformers.AutoModelForImageClassification.from_config, config)


_LIBRARIES: Mapping[str, Callable[[str, str, dict[str, Any]], object]] = {
    "timm": _of_timm,
    "torchvision": _of_torchvision,
    "hf": _of_transformers,
}


def _of_space(reference: str, rest: str, settings: Mapping[str, Any], seed: int, spec: InputSpec) -> torch.nn.Module:
    name, _, path = rest.rpartition(":")
    if not name:
        raise ModelError(f"{reference}: write space:NAME:ARCH.json, with the name of the space and the file of genes")
    record = _read_json(reference, Path(path).expanduser())
    found = record.get("architectures")
    if isinstance(found, list) and found and isinstance(found[0], dict):  # results of a search: the best stands first
        record = found[0].get("arch", found[0])
    known = [field.name for field in fields(InputSpec)]
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        raise ModelError(f"{reference}: a network of a space has no setting '{unknown[0]}'; it has {', '.join(known)}")
    try:
        space = get_space(name)
        chosen = InputSpec(**{field: settings.get(field, getattr(spec, field)) for field in known})
        return space.build(space.from_json(record), chosen, seed)
    except ArchitectureError as error:
        raise ModelError(f"{reference}: {error}") from None


def _of_function(reference: str, settings: Mapping[str, Any]) -> object:
    where, _, name = reference.rpartition(":")
    if not where.endswith(".py") and not all(part.isidentifier() for part in where.split(".")):
        raise ModelError(f"'{reference:.80}' is no MODEL; write {FORMS}")
    try:
        found = load_object(reference, "building it")
    except UserCodeError as error:
        raise ModelError(f"{reference}: {error}") from error
    function = found.value
    if isinstance(function, torch.nn.Module) or not callable(function):
        raise ModelError(f"{reference}: '{name}' is a {type(function).__name__}; name a function that builds a model")
    with on_path(found.folder):
        return _called(reference, function, **settings)


# --- what they share ---


def _imported(reference: str, package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ModelError(f"{reference}: {package} cannot be imported ({error}); pip install {package}") from None


def _refuse_weights(reference: str, settings: Mapping[str, Any]) -> None:
    """Raise ModelError for an argument that would load trained weights."""
    for name in _LOADS_WEIGHTS:
        if settings.get(name):
            raise ModelError(f"{reference}: '{name}' loads trained weights; proxies score untrained ones; leave it out")


def _called(reference: str, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Call a function that is not ours; what it raises becomes a ModelError that says where."""
    try:
        return called("building it", function, *arguments, **settings)
    except UserCodeError as error:
        raise ModelError(f"{reference}: {error}") from error


def _read_json(reference: str, file: Path) -> dict[str, Any]:
    try:
        record = orjson.loads(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{reference}: {file} cannot be read ({error.strerror}); name a local JSON file") from None
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{reference}: {file} is no JSON, or cut off ({error})") from None
    if not isinstance(record, dict):
        raise ModelError(f"{reference}: {file} holds no JSON object")
    return record


@contextmanager
def _hub_offline() -> Iterator[None]:
    """Keep libraries that use the Hugging Face Hub from reaching for the network inside."""
    try:
        constants: Any = importlib.import_module("huggingface_hub.constants")
    except ImportError:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
