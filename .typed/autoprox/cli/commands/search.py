"""Search the architectures that a proxy scores highest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from autoprox.bench_cache.benchmarks.library import load_benchmarks
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import SPACES, InputSpec, get_space, pinned
from autoprox.cli.front_options import chosen_latency, chosen_objectives, front_options, stored_front_choices
from autoprox.cli.model_options import input_spec, patch_size_option
from autoprox.cli.options import Count, NamesOptions, given_options, meanings, operations_option, workers_option
from autoprox.cli.root import INTERRUPTED
from autoprox.display.search import SearchScreen, going_on, print_outcome
from autoprox.display.terminal import make_console, say
from autoprox.primitives import Vocabulary
from autoprox.proxy import resolve
from autoprox.search.batch import Batch
from autoprox.search.candidate import SearchError
from autoprox.search.limits import WORDS, Limits
from autoprox.search.on_benchmark import OFFERS, of_one_network
from autoprox.search.region import describe_spec
from autoprox.search.run import SearchPlan, read_plan, run_search, start_search
from autoprox.search.strategies import STRATEGIES, SearchSettings
from autoprox.vocabulary import as_options, vocabulary

_DEFAULTS, _SPEC = SearchSettings(), InputSpec()
_SIZES = tuple(f"{side}_{fact}" for fact in WORDS for side in ("max", "min"))
_GENES = ("budget", "seed", "tournament")
#: The default population of NSGA-II: a small one comes closer to the front with a few hundred architectures.
_OF_NSGA2 = 20


@click.command("search", cls=NamesOptions)
@click.option(
    "--space",
    metavar="NAME|FILE.py:NAME",
    help=f"Space to search: {', '.join(SPACES)}, or one of your own; with --bench, that of your own which it is of.",
)
@click.option("--bench", metavar="NAME|FILE", help="Search among the architectures of a benchmark, and judge it.")
@click.option("--proxy", metavar="PROXY", help="Run directory, proxy file, shipped name, or formula.")
@click.option("--max-params", type=Count(), help="Such as 6e6 or 6M.")
@click.option("--min-params", type=Count(), help="Such as 4e6 or 4M.")
@click.option("--max-flops", type=Count(), help="Multiply-adds of one image, such as 1.4G.")
@click.option("--min-flops", type=Count(), help="Multiply-adds of one image, such as 0.8G.")
@click.option("--max-activations", type=Count(), help="Outputs of convolutions and linears for one image, such as 9M.")
@click.option("--min-activations", type=Count(), help="Outputs of convolutions and linears for one image, such as 6M.")
@front_options
@click.option("--budget", type=int, default=_DEFAULTS.budget, show_default=True, help="Architectures to score.")
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Same seed, same result.")
@click.option(
    "--strategy",
    type=click.Choice(list(STRATEGIES)),
    show_default="evolution; nsga2 for several objectives; random on a benchmark",
    help=f"How the next architectures are chosen. {meanings(STRATEGIES)}",
)
@click.option("--population", type=int, show_default=f"{_DEFAULTS.population}; {_OF_NSGA2} in nsga2", help="Its size.")
@click.option("--tournament", type=int, default=_DEFAULTS.tournament, show_default=True, help="Size, in evolution.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Architectures to print and save.")
@click.option("--tasks", default="", metavar="A,B,...", help="Tasks of the benchmark, `*` allowed.  [default: all]")
@click.option("--split", type=click.Choice(OFFERS), default="all", show_default=True, help="Part of the benchmark.")
@click.option("--batch", type=int, default=2, show_default=True, help="Samples of the probes.")
@click.option(
    "--images",
    "--batch-file",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|FILE.npz",
    help="Images for the probe data: a folder, with one for each class in it, or arrays images and targets.",
)
@click.option("--image-size", type=int, default=_SPEC.image_size, show_default=True, help="Pixels of a side.")
@click.option("--classes", type=int, default=_SPEC.num_classes, show_default=True, help="Outputs of a network.")
@click.option("--channels", type=int, default=_SPEC.in_channels, show_default=True, help="Channels of an image.")
@patch_size_option("Pixels of a patch's side.")
@operations_option
@workers_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Keep journal and results here.")
@click.option("--resume", is_flag=True, help="Go on with the search in --out; a larger --budget goes further.")
@click.pass_context
def command(context: click.Context, out: Path | None, resume: bool, top: int, workers: int,
            operations: Sequence[str], **choices: Any) -> int:  # fmt: skip
    """Search the architectures that a proxy scores highest, under limits on their size, training nothing.

    On a space: regularised evolution (Real et al., 2019) or random search. On a benchmark: random search among its
    architectures, with the trained accuracy of what the proxy chooses, its rank and its regret.
    """
    console = make_console()
    given, known = given_options(context) & choices.keys(), vocabulary(operations)
    own = as_options(_own_space(choices["space"]), operations)
    if resume:
        if out is None:
            raise click.UsageError("--resume goes on with the search in --out DIR; name it")
        plan = _resumed(out, given, choices, known)
    else:
        plan = _plan(given, choices, known)
        if out is not None:
            start_search(plan, out)
    say(console, _heading(plan, out))
    try:
        with SearchScreen(console, plan) as screen:
            outcome = run_search(
                plan, out, top=top, workers=workers, on_progress=screen.progress, on_notice=screen.notice
            )
    except KeyboardInterrupt:
        say(console, going_on(out, own))
        raise
    print_outcome(console, plan, outcome, out, top, own)
    return 0 if outcome.result.finished else INTERRUPTED


def _own_space(space: str | None) -> list[str]:
    """Return a space of the user's, FILE.py:NAME; nothing where it is one with a name, or none."""
    return [space] if space is not None and ":" in space else []


def _plan(given: set[str], choices: Mapping[str, Any], operations: Vocabulary) -> SearchPlan:
    """Return the plan that the options describe."""
    if choices["proxy"] is None:
        raise click.UsageError("search with what? Name a --proxy: `autoprox proxies` lists the shipped ones")
    on_bench, own = choices["bench"] is not None, _own_space(choices["space"])
    if (choices["space"] is not None) == on_bench and not own:
        raise click.UsageError(f"search where? Name either a --space ({', '.join(SPACES)}) or a --bench")
    images: Path | None = choices["images"]
    if images is not None and images.is_file() and "batch" in given:
        raise click.UsageError(
            f"--batch is for samples without images and for folders; {images} has its own number: leave it out"
        )
    of_spec = {"image_size", "classes", "channels", "patch_size"}
    spec = input_spec(choices["image_size"], choices["channels"], choices["classes"], choices["patch_size"])
    benchmark, tasks = load_benchmarks([choices["bench"]], own)[0] if on_bench else None, _names(choices["tasks"])
    return SearchPlan(
        proxy=resolve(choices["proxy"], operations),
        settings=_settings(choices, on_bench),
        latency=chosen_latency(choices),
        space=None if on_bench else choices["space"],
        spec=spec if not on_bench or given & of_spec else None,
        benchmark=benchmark,
        tasks=tasks,
        split=choices["split"],
        samples=choices["batch"],
        batch_data=None if images is None else _images(images, spec, benchmark, tasks, choices["batch"]),
    )


def _settings(choices: Mapping[str, Any], on_bench: bool) -> SearchSettings:
    objectives = chosen_objectives(choices)
    strategy = choices["strategy"] or ("random" if on_bench else "nsga2" if len(objectives) > 1 else "evolution")
    if choices["population"] is None:
        choices = {**choices, "population": _OF_NSGA2 if strategy == "nsga2" else _DEFAULTS.population}
    return SearchSettings(
        strategy=strategy,
        limits=Limits(**{name: choices[name] for name in (*_SIZES, "max_latency")}),
        objectives=objectives,
        population=choices["population"],
        **{name: choices[name] for name in _GENES},
    )


def _images(ref: Path, spec: InputSpec, benchmark: Benchmark | None, tasks: Sequence[str], samples: int) -> bytes:
    """Return the images of a folder or file as the networks read them, which a benchmark says for its tasks."""
    if benchmark is not None:
        spec = of_one_network(benchmark, tasks).spec or spec
    return Batch.from_images(ref, spec, samples).to_bytes()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _resumed(out: Path, given: set[str], choices: Mapping[str, Any], operations: Vocabulary) -> SearchPlan:
    """Return the plan of the search in `out`, with the budget that is given.

    Raises:
        SearchError: another option is given with a new value, which would change the result of the search half-way.
    """
    own = _own_space(choices["space"])
    plan = read_plan(out, own, operations)
    stored = _stored_choices(plan)
    for name in sorted(given - ({"budget", "space"} if own and plan.benchmark is not None else {"budget"})):
        if stored[name] is None or _comparable(name, choices[name], plan, own, operations) != stored[name]:
            option = "--" + name.replace("_", "-")
            raise SearchError(f"the search in {out} was started with another {option}; resume it without {option}")
    if "budget" not in given:
        return plan
    return plan.with_budget(choices["budget"])


def _stored_choices(plan: SearchPlan) -> dict[str, Any]:
    """Return the options that a plan was made from, by their names."""
    record, spec = plan.record(), plan.spec
    shape = (spec.image_size, spec.in_channels, spec.num_classes, spec.patch_size) if spec else (None,) * 4
    return {
        **record["settings"],
        **stored_front_choices(plan),
        **record["settings"]["limits"],
        **dict(zip(("image_size", "channels", "classes", "patch_size"), shape, strict=True)),
        "space": plan.space,
        "bench": record["benchmark"],
        "proxy": record["proxy"],
        "tasks": plan.tasks,
        "split": plan.split,
        "batch": plan.samples,
        "images": record["batch"],
    }


def _comparable(name: str, choice: Any, plan: SearchPlan, spaces: Sequence[str], operations: Vocabulary) -> Any:
    """Return an option's value in the form that `_stored_choices` gives it."""
    if name == "proxy":
        return resolve(choice, operations).text
    if name == "bench":
        benchmark = load_benchmarks([choice], spaces)[0]
        return [benchmark.name, hashlib.sha256(benchmark.to_bytes()).hexdigest()]
    if name == "images":
        read = _images(choice, plan.spec or _SPEC, plan.benchmark, plan.tasks, plan.samples)
        return hashlib.sha256(read).hexdigest()
    if name == "space":
        return pinned(choice)
    return _names(choice) if name == "tasks" else choice


def _samples(batch: Batch) -> str:
    if batch.images is None:
        return f"{batch.samples} Gaussian samples with random classes"
    shape = " × ".join(map(str, batch.images.shape[1:]))
    return f"{batch.samples} {'image' if batch.samples == 1 else 'images'} of {shape} with their classes"


def _heading(plan: SearchPlan, out: Path | None) -> str:
    settings, benchmark = plan.settings, plan.benchmark
    if benchmark is not None:
        part = "all" if plan.split == "all" else f"the {plan.split} split"
        where = f"benchmark {benchmark.name}, {part} of its {len(benchmark)} architectures"
    else:
        assert plan.spec is not None
        assert plan.space is not None
        where = f"space {get_space(plan.space).name} ({describe_spec(plan.spec)})"
    named = plan.proxy.name not in ("", plan.proxy.text)
    name = f"{plan.proxy.name}: " if named else ""
    ran_on = f", on {_samples(plan.batch)}" if "data" in plan.proxy.probes else ""
    return (
        f"autoprox search{f' → {out}' if out else ''}\n"
        f"proxy {name}{plan.proxy.text}{ran_on}\n"
        f"{where}, {settings.limits}\n"
        f"strategy {settings.strategy}, budget {settings.budget}, seed {settings.seed}"
        + (f"\nobjectives {', '.join(settings.objectives)}" if plan.of_several else "")
        + (f"\nlatency is {plan.latency}" if plan.latency else "")
    )
