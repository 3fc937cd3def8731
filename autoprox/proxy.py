"""Proxy: a formula with its provenance, which scores and ranks models, and is saved and found again."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import torch
from torch import Tensor

from autoprox.bench_cache.runtime import plug_ins
from autoprox.bench_cache.runtime.files import write_atomically
from autoprox.collection import COLLECTION
from autoprox.primitives import (
    OPERATIONS,
    STATISTICS,
    Formula,
    FormulaError,
    LayerError,
    Operation,
    from_json,
    parse,
)
from autoprox.primitives.batch_norms import batch_norms_by
from autoprox.scoring import (
    AnyProxy,
    FunctionProxy,
    Layers,
    ProxyError,
    Reads,
    ScoreFunction,
    formula_probes,
    formula_reads,
    formula_score,
    halves_batch,
    is_training_free,
)
from autoprox.zoo import ZOO, ZooProxy

#: The name of the proxy's file in a run directory.
PROXY_FILE = "proxy.json"

FORMAT = "autoprox-proxy"
VERSION = 1
_MAX_BYTES = 16 * 2**20

#: What names a proxy or is one: a text or path that `resolve` takes, a formula, a function of an untrained network.
ProxyLike = AnyProxy | Formula | ScoreFunction | str | os.PathLike

#: A model, or a function without arguments that builds it.
Model = torch.nn.Module | Callable[[], torch.nn.Module]


@dataclass(frozen=True)
class Proxy:
    """A zero-cost proxy: a complete formula, a name, and where it came from. A higher score is a better model.

    `provenance` is any JSON object. It is kept, shown and exported, and never changes a score. `evolve` writes into it
    what it takes to judge and repeat the run: `benchmarks` (names), `tasks`, `seed`, `tau` (for each split, Kendall's
    tau-b by task), `version` (of autoprox). Shipped proxies have `source` and `note`. As in JSON, floats that are not
    finite become null, and tuples become lists.

    Raises:
        ProxyError: the formula is not complete, or the provenance is no JSON object.
    """

    formula: Formula
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.formula.is_complete:
            raise ProxyError(f"'{self.formula}' is {self.formula.kind} and not one number read from a network")
        try:
            plain = orjson.loads(orjson.dumps(dict(self.provenance)))
        except (orjson.JSONEncodeError, TypeError, ValueError) as error:
            raise ProxyError(f"the provenance is no JSON object: {error}") from None
        object.__setattr__(self, "provenance", MappingProxyType(plain))

    def __str__(self) -> str:
        """Return the formula, behind the name if it has one."""
        return f"{self.name}: {self.text}" if self.name not in ("", self.text) else self.text

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.formula.latex}$"  # notebooks typeset it

    def __reduce__(self):
        return Proxy, (self.formula, self.name, dict(self.provenance))  # a mapping proxy cannot be pickled

    @classmethod
    def from_formula(
        cls,
        formula: str | Formula,
        name: str = "",
        provenance: Mapping[str, Any] | None = None,
        operations: Mapping[str, Operation] = OPERATIONS,
    ) -> Proxy:
        """Return the proxy of a formula or of its text.

        Raises:
            FormulaError: the text is no formula; the message points at the place.
            ProxyError: the formula is not complete, or the provenance is no JSON object.
        """
        parsed = formula if isinstance(formula, Formula) else parse(formula, operations)
        return cls(parsed, name, provenance or {})

    @classmethod
    def load(cls, ref: str | os.PathLike[str], operations: Mapping[str, Operation] = OPERATIONS) -> Proxy:
        """Return the formula that a user means by PROXY: see `resolve`. A `Path` is always a file or run directory.

        Raises:
            ProxyError: there is no such proxy, its file is damaged or of another version, or it is a function of the
                zoo, which `resolve` returns.
            FormulaError: the formula cannot be read; the message points at the place.
            OSError: the file cannot be read.
        """
        found = resolve(ref, operations)
        if not isinstance(found, Proxy):
            raise ProxyError(f"'{found.name}' is a function and not a formula: autoprox.resolve('{found.name}') scores")
        return found

    @classmethod
    def _from_file(cls, path: str | os.PathLike[str], operations: Mapping[str, Operation]) -> Proxy:
        """Read a file that `save` wrote, or one written by hand, which may have `formula` without `graph`."""
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        try:
            if len(data) > _MAX_BYTES:
                raise ProxyError(f"more than {_MAX_BYTES // 2**20} MiB; no proxy is that large")
            return cls._from_record(orjson.loads(data), operations)
        except orjson.JSONDecodeError as error:
            reason = f"it is not JSON, or cut off ({error}); export or evolve the proxy again"
        except FormulaError as error:
            reason = f"its formula cannot be read: {str(error).splitlines()[0]}"
        except ProxyError as error:
            reason = str(error)
        raise ProxyError(f"{os.fspath(path)}: {reason}")

    @classmethod
    def _from_record(cls, record: object, operations: Mapping[str, Operation]) -> Proxy:
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ProxyError(f'it is not a proxy file: these say "format": "{FORMAT}"')
        version = record.get("version")
        if version != VERSION or type(version) is not int:
            raise ProxyError(f"it has version {version!r:.40} of the format, this autoprox reads {VERSION}; update it")
        text, name, provenance = record.get("formula"), record.get("name", ""), record.get("provenance", {})
        if not isinstance(text, str) or not isinstance(name, str) or not isinstance(provenance, dict):
            raise ProxyError("its formula or name is no text, or its provenance no object; export the proxy again")
        if "graph" not in record:
            return cls(parse(text, operations), name, provenance)
        formula = from_json(record["graph"], operations)
        if formula.text != text:
            raise ProxyError(f"its formula and its graph differ; the graph is {formula.text:.80}; remove one of them")
        return cls(formula, name, provenance)

    def to_json(self) -> bytes:
        """Return the bytes of a proxy file: the formula as text and as a graph, the name and the provenance."""
        record = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "formula": self.formula.text,
            "graph": self.formula.to_json(),
            "provenance": dict(self.provenance),
        }
        return orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the proxy's file, whole or not at all."""
        write_atomically(Path(path), self.to_json())

    @property
    def text(self) -> str:
        """Return the name in records, which is the formula's text."""
        return self.formula.text

    @property
    def as_formula(self) -> Formula:
        """Return the formula; proxies that are functions have none."""
        return self.formula

    @property
    def probes(self) -> tuple[str, ...]:
        """Return the probes that the formula runs a network under."""
        return formula_probes(self.formula)

    @property
    def halves_batch(self) -> bool:
        """Return whether the batch must have an even number of samples."""
        return halves_batch(self.formula)

    @property
    def training_free(self) -> bool:
        """Return whether the formula reads no network after steps of training."""
        return is_training_free(self.probes)

    @property
    def reads(self) -> Reads:
        """Return what the formula reads from a model, in order of first use."""
        return formula_reads(self.formula)

    def score(
        self,
        model: torch.nn.Module,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        layers: Layers = None,
        seed: int = 0,
        partial: bool = False,
        batch_norm: str | None = None,
    ) -> float:
        """Return the formula's value on a model, which is left bit for bit as it was; higher is better.

        `inputs` is a batch, samples first, on the model's device, and `targets` its class numbers. Without targets the
        loss is against random classes drawn from `seed`. A formula that runs no forward pass needs neither.

        Blocks are found by what a forward pass on one sample does, or by timm's names. `layers` names the layers of
        each block instead, `[{"qkv": NAME, "proj": NAME, "fc1": NAME, "fc2": NAME}, ...]`, or is a function of the
        model that returns such a list. A list that leaves out layers of the same kind is refused, unless `partial`.

        `batch_norm` says by what batch norms normalise: "running" (as usual), their running statistics, or "batch",
        what they are given, as in training; under the probe `synflow` always the former.

        Raises:
            LayerError: the model or the batch lacks what the formula reads.
            ProxyError: this is no model, or a statistic that the formula reads is not finite, or a gradient is 0 in
                half of the layers.
        """
        with batch_norms_by(batch_norm):
            return formula_score(self.formula, model, inputs, targets, layers=layers, seed=seed, partial=partial)

    def rank(
        self,
        models: Iterable[Model] | Mapping[Any, Model],
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        layers: Layers = None,
        seed: int = 0,
        partial: bool = False,
        batch_norm: str | None = None,
    ) -> list[tuple[Any, float]]:
        """Return `(key, score)` of every model, best first, equal scores in the given order.

        The key is the model's position, or its name in a mapping. An entry may also be a function that builds the
        model. It is called when its turn comes, so that one such model is alive at a time.

        Raises:
            LayerError, ProxyError: as `score` does; the message names the model.
        """
        if isinstance(models, torch.nn.Module):
            raise ProxyError("rank takes several models: put them in a list or a dict")
        entries = models.items() if isinstance(models, Mapping) else enumerate(models)
        scores = []
        for key, entry in entries:
            try:
                model = entry if isinstance(entry, torch.nn.Module) or not callable(entry) else entry()
                with batch_norms_by(batch_norm):
                    scores.append((key, self.score(model, inputs, targets, layers=layers, seed=seed, partial=partial)))
            except (ProxyError, LayerError) as error:
                raise type(error)(f"model {key!r}: {error}") from error
            model = entry = None  # before the next one is built
        return sorted(scores, key=lambda item: -item[1])


def named_proxy(name: str) -> AnyProxy | None:
    """Return the shipped proxy of a name, or that of an installed package (entry points `autoprox.proxies`), or None.

    Shipped are the zoo and the collection.

    Raises:
        ProxyError: a package offers a proxy under a shipped name, or what it offers cannot be loaded or is no proxy.
    """
    try:
        plug_ins.check_no_clash(plug_ins.PROXIES, name, (*ZOO, *COLLECTION))
        if name in ZOO:
            return _of_record(ZOO[name])
        if name in COLLECTION:
            return Proxy.from_formula(COLLECTION[name].formula, name, COLLECTION[name].carried)
        if name not in plug_ins.plug_in_names(plug_ins.PROXIES):
            return None
        value = plug_ins.load_plug_in(plug_ins.PROXIES, name).value
    except plug_ins.PlugInError as error:
        raise ProxyError(str(error)) from error
    if isinstance(value, str):
        return Proxy.from_formula(value, name)
    if isinstance(value, ZooProxy):
        return _of_record(replace(value, name=name))
    if isinstance(value, Proxy):
        return Proxy(value.formula, name, value.provenance)
    package = plug_ins.plug_in_package(plug_ins.PROXIES, name)
    raise ProxyError(
        f"'{name}' of the package {package} is a {type(value).__name__}; it must be the text of a formula, a Proxy or "
        "a ZooProxy"
    )


def _of_record(entry: ZooProxy) -> AnyProxy:
    return Proxy.from_formula(entry.formula, entry.name, entry.provenance) if entry.formula else entry


def resolve(ref: str | os.PathLike[str], operations: Mapping[str, Operation] = OPERATIONS) -> AnyProxy:
    """Return the proxy that a user means: a shipped name, a run directory, a proxy file, or the formula itself.

    A name may also be that of a proxy of an installed package.

    They are tried in this order, so that a name means the same in every directory; write `./snip` for a file called
    snip. A formula is returned as a `Proxy`, a function of the zoo as its record; both score models in the same way.

    Raises:
        ProxyError: there is no such proxy, and the message has the closest name; or its file cannot be used.
        FormulaError: the formula cannot be read; the message points at the place.
        OSError: a file cannot be read, or a `Path` leads nowhere.
    """
    text = os.fspath(ref)
    if isinstance(ref, str) and (named := named_proxy(ref)) is not None:
        return named
    path = os.path.expanduser(text)
    if os.path.isdir(path):
        if not os.path.exists(os.path.join(path, PROXY_FILE)):
            raise ProxyError(f"{text}: this directory holds no {PROXY_FILE}; is it one that `autoprox evolve` made?")
        return Proxy._from_file(os.path.join(path, PROXY_FILE), operations)
    if os.path.exists(path) or not isinstance(ref, str):
        return Proxy._from_file(path, operations)
    try:
        return Proxy.from_formula(text, operations=operations)
    except FormulaError:
        if not _is_name(text, operations):
            raise
    close = difflib.get_close_matches(text, [*ZOO, *COLLECTION, *STATISTICS], n=1)
    hint = f"did you mean '{close[0]}'?" if close else "`autoprox proxies` lists the shipped ones"
    raise ProxyError(f"'{text:.80}' is no shipped proxy, run directory, proxy file or formula; {hint}")


def any_proxy(given: ProxyLike, operations: Mapping[str, Operation] = OPERATIONS) -> AnyProxy:
    """Return the proxy that is named, or made of a formula or a function.

    Raises:
        ProxyError, FormulaError, OSError: as `resolve` does.
    """
    if isinstance(given, str | os.PathLike):
        return resolve(given, operations)
    if isinstance(given, Formula):
        return Proxy(given)
    return FunctionProxy(given) if callable(given) else given


def _is_name(text: str, operations: Mapping[str, Operation]) -> bool:
    """Return whether a text was meant as a name or a path: it has no brackets, and no word of the language."""
    words = re.findall(r"\w+", text)
    return bool(re.fullmatch(r"[\w./~-]+", text)) and not any(w in STATISTICS or w in operations for w in words)
