"""Plan of a search: what the arguments of `autoprox.search` mean, and whether a search can go on with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from autoprox.api.arguments import ArgumentError, benchmarks, input_spec, texts
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.devices import CPU, chosen_device
from autoprox.bench_cache.spaces.registry import SPACES, InputSpec, pinned
from autoprox.primitives import Vocabulary
from autoprox.primitives.batch_norms import RUNNING
from autoprox.proxy import any_proxy
from autoprox.scoring import AnyProxy
from autoprox.search.batch import Batch
from autoprox.search.candidate import SearchError
from autoprox.search.latency import LatencySetup
from autoprox.search.limits import Limits
from autoprox.search.on_benchmark import of_one_network
from autoprox.search.proxy_input import images_of_proxies, input_of_proxies
from autoprox.search.run import SearchPlan, read_plan
from autoprox.search.strategies import SearchSettings

_SETTINGS, _SPEC, _LATENCY = SearchSettings(), InputSpec(), LatencySetup(machine="any")
LIMITS = tuple(field.name for field in fields(Limits))
#: The objectives of a front for which none are named.
TWO_OBJECTIVES = ("score", "params")
#: The default population of NSGA-II: a small one comes closer to the front with a few hundred architectures.
OF_NSGA2 = 20
#: What is meant where nothing is said. The default of others depends on what is said.
DEFAULTS: Mapping[str, Any] = {
    "pareto": False,
    "objectives": (),
    "tasks": (),
    "split": "all",
    "batch": 2,
    "batch_norm": RUNNING,
    "device": CPU,
    "image_size": _SPEC.image_size,
    "channels": _SPEC.in_channels,
    "classes": _SPEC.num_classes,
    "latency_device": _LATENCY.device,
    "latency_batch": _LATENCY.batch,
    "latency_threads": _LATENCY.threads,
    **{name: getattr(_SETTINGS, name) for name in ("budget", "seed", "tournament")},
    **dict.fromkeys(("space", "benchmark", "proxy", "images", "patch_size", "strategy", "population", *LIMITS)),
}
_OF_SPEC = ("image_size", "channels", "classes", "patch_size")


def own_space(space: str | None) -> list[str]:
    """Return a space of the user's, FILE.py:NAME; nothing where it is one with a name, or none."""
    return [space] if space is not None and ":" in space else []


def make_plan(given: Mapping[str, Any], operations: Vocabulary) -> SearchPlan:
    """Return the plan that the arguments describe; those that are not given have their default.

    Raises:
        ArgumentError: something is missing, or two arguments contradict each other.
        SearchError, BenchmarkError, ArchitectureError, ProxyError, FormulaError: as for `SearchPlan`.
    """
    choices = {**DEFAULTS, **given}
    proxies = _proxies(choices["proxy"], operations)
    if not proxies:
        raise ArgumentError("search with what? Name a --proxy: `autoprox proxies` lists the shipped ones")
    on_bench, own = choices["benchmark"] is not None, own_space(choices["space"])
    if (choices["space"] is not None) == on_bench and not own:
        raise ArgumentError(f"search where? Name either a --space ({', '.join(SPACES)}) or a --bench")
    space = None if on_bench else pinned(choices["space"])
    spec = _spec(given, space, proxies, input_spec(*(choices[name] for name in _OF_SPEC)))
    benchmark = benchmarks(choices["benchmark"], own)[0] if on_bench else None
    tasks = tuple(texts(choices["tasks"]))
    return SearchPlan(
        proxy=proxies[0],
        others=proxies[1:],
        settings=_settings(choices, on_bench),
        latency=_latency(choices),
        space=None if on_bench else choices["space"],
        spec=spec,
        benchmark=benchmark,
        tasks=tasks,
        split=choices["split"],
        samples=choices["batch"],
        batch_norm=choices["batch_norm"],
        device=choices["device"],
        batch_data=_images(given, spec or _SPEC, benchmark, tasks, choices["batch"])
        or _own_images(given, space, proxies, choices["batch"]),
    )


def _spec(
    given: Mapping[str, Any], space: str | None, proxies: Sequence[AnyProxy], spec: InputSpec
) -> InputSpec | None:
    """Return what the networks of a space read: as given, else as in the proxy's benchmark, else the default."""
    if any(name in given for name in _OF_SPEC):
        return spec
    if space is None:
        return None  # the benchmark says it
    known = input_of_proxies(space, proxies)
    return spec if known is None else known[0]


def _own_images(given: Mapping[str, Any], space: str | None, proxies: Sequence[AnyProxy], samples: int) -> bytes | None:
    """Return images of the proxy's benchmark, where it says what networks read and a proxy reads images."""
    if space is None or any(name in given for name in _OF_SPEC) or not any("data" in each.probes for each in proxies):
        return None
    found = images_of_proxies(space, proxies, samples)
    return None if found is None else found.to_bytes()


def _proxies(given: Any, operations: Vocabulary) -> tuple[AnyProxy, ...]:
    """Return the proxy that is given, or all of a sequence."""
    wanted = given if isinstance(given, list | tuple) else () if given is None else (given,)
    return tuple(any_proxy(each, operations) for each in wanted)


def _settings(choices: Mapping[str, Any], on_bench: bool) -> SearchSettings:
    objectives = _objectives(choices)
    strategy = choices["strategy"] or ("random" if on_bench else "nsga2" if len(objectives) > 1 else "evolution")
    population = choices["population"]
    if population is None:
        population = OF_NSGA2 if strategy == "nsga2" else _SETTINGS.population
    return SearchSettings(
        strategy=strategy,
        limits=Limits(**{name: choices[name] for name in LIMITS}),
        objectives=objectives,
        population=population,
        **{name: choices[name] for name in ("budget", "seed", "tournament")},
    )


def _objectives(choices: Mapping[str, Any]) -> tuple[str, ...]:
    named = tuple(texts(choices["objectives"]))
    if choices["pareto"] and len(named) == 1:
        raise ArgumentError(f"--pareto needs at least two --objectives, such as {','.join(TWO_OBJECTIVES)}")
    return named or (TWO_OBJECTIVES if choices["pareto"] else ("score",))


def _latency(choices: Mapping[str, Any]) -> LatencySetup:
    device = str(chosen_device(choices["latency_device"]))
    return LatencySetup(device, choices["latency_batch"], choices["latency_threads"])


def _images(
    given: Mapping[str, Any], spec: InputSpec, benchmark: Benchmark | None, tasks: Sequence[str], samples: int
) -> bytes | None:
    """Return the images that are given, as the networks read them, which a benchmark says for its tasks."""
    images = given.get("images")
    if images is None:
        return None
    if isinstance(images, Batch):
        return images.to_bytes()
    file = Path(images).expanduser()
    if file.is_file() and "batch" in given:
        raise ArgumentError(
            f"--batch is for samples without images and for folders; {images} has its own number: leave it out"
        )
    if benchmark is not None:
        spec = of_one_network(benchmark, tasks).spec or spec
    return Batch.from_images(file, spec, samples).to_bytes()


# --- going on ---


def resumed_plan(out: Path, given: Mapping[str, Any], operations: Vocabulary) -> SearchPlan:
    """Return the plan of the search in `out`, with the budget that is given.

    Raises:
        SearchError: another argument is given with a new value, which would change the result of the search half-way.
        JournalError, ArchitectureError: as for `read_plan`.
    """
    own = own_space(given.get("space"))
    plan = read_plan(out, own, operations)
    stored = _stored_choices(plan)
    for name in sorted(given.keys() - ({"budget", "space"} if own and plan.benchmark is not None else {"budget"})):
        if stored[name] is None or _comparable(name, given, plan, own, operations) != stored[name]:
            option = "--bench" if name == "benchmark" else "--" + name.replace("_", "-")
            raise SearchError(f"the search in {out} was started with another {option}; resume it without {option}")
    return plan.with_budget(given["budget"]) if "budget" in given else plan


def _stored_choices(plan: SearchPlan) -> dict[str, Any]:
    """Return the arguments that a plan was made from, by their names."""
    record, spec, latency = plan.record(), plan.spec, plan.latency or _LATENCY
    shape = (spec.image_size, spec.in_channels, spec.num_classes, spec.patch_size) if spec else (None,) * 4
    return {
        **record["settings"],
        **record["settings"]["limits"],
        **dict(zip(_OF_SPEC, shape, strict=True)),
        "objectives": plan.settings.objectives,
        "pareto": plan.of_several,
        "latency_device": latency.device,
        "latency_batch": latency.batch,
        "latency_threads": latency.threads,
        "space": plan.space,
        "benchmark": record["benchmark"],
        "proxy": [record["proxy"], *record.get("others", ())],
        "tasks": plan.tasks,
        "split": plan.split,
        "batch": plan.samples,
        "batch_norm": plan.batch_norm,
        "device": plan.device,
        "images": record["batch"],
    }


def _comparable(
    name: str, given: Mapping[str, Any], plan: SearchPlan, spaces: Sequence[str], operations: Vocabulary
) -> Any:
    """Return an argument's value in the form that `_stored_choices` gives it."""
    choice = given[name]
    if name == "proxy":
        return [each.text for each in _proxies(choice, operations)]
    if name == "benchmark":
        benchmark = benchmarks(choice, spaces)[0]
        return [benchmark.name, hashlib.sha256(benchmark.to_bytes()).hexdigest()]
    if name == "images":
        images = _images({"images": choice}, plan.spec or _SPEC, plan.benchmark, plan.tasks, plan.samples)
        return hashlib.sha256(images or b"").hexdigest()
    if name == "space":
        return pinned(choice)
    return tuple(texts(choice)) if name in ("tasks", "objectives") else choice
