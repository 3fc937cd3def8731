"""Published proxies: our zoo on the cells of nas-bench-201 beside the columns that NAS-Bench-Suite-Zero has of them.

    autoprox bench download nas-bench-suite-zero
    python benchmarks/published_proxies.py IMAGES.npz --journal FILE      # measure, resumable
    python benchmarks/published_proxies.py --journal FILE --table         # print what docs/ranking.md has
    python benchmarks/published_proxies.py --journal FILE --libra         # LIBRA of our scores and of the published

IMAGES.npz has `x_train` (uint8, images × side × side × 3) and `y_train` of CIFAR-10. Networks run on 32 of these, the
classes in turn, with the initial weights of seed 0. Every proxy is scored in two arms: `fresh`, as autoprox runs
networks, where batch norms have seen nothing and change nothing; and `batch`, where they normalise by the batch, as the
published code does, which scores networks in training mode. Architectures come in a random order, so that a run that is
stopped is a random sample.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from autoprox.bench_cache.benchmarks.library import load_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.spaces.registry import InputSpec, get_space
from autoprox.primitives.passes import Subject
from autoprox.primitives.sharing import charged_clock, sharing_results
from autoprox.proxy import any_proxy
from autoprox.rank.libra import choose, merged_table
from autoprox.rank.stats import ScoreTable
from autoprox.scoring import ProxyError
from autoprox.zoo import ZooProxy

SPACE, CIFAR_10 = get_space("nas-bench-201"), InputSpec(image_size=32, num_classes=10)
BATCH = 32
#: Column of the table → the proxy of the zoo that says the same.
SAME = {
    "synflow": "synflow-all",
    "snip": "snip-all",
    "grad_norm": "grad-norm-all",
    "l2_norm": "l2-norm-all",
    "plain": "plain-all",
    "grasp": "grasp",
    "jacov": "jacov",
    "epe_nas": "epe-nas",
    "nwot": "nwot",
    "fisher": "fisher",
}
#: Proxies that the table lacks.
OTHERS = ("zico-all", "lswag")
ARMS = ("fresh", "batch")
#: CIFAR-10's mean and deviation by channel.
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def main(arguments: Sequence[str]) -> None:
    """Measure what the journal lacks, or print the table of what it has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="?", type=Path)
    parser.add_argument("--bench", default="nas-bench-201")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--proxies", default=",".join([*SAME.values(), *OTHERS]))
    parser.add_argument("--limit", type=int, default=725)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the images: another journal, for noise")
    parser.add_argument("--noise", type=Path, help="with --table, the journal of another seed")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--libra", action="store_true")
    given = parser.parse_args(arguments)
    benchmark = load_benchmark(given.bench)
    if given.table:
        print("\n".join(table(benchmark, read(given.journal), read(given.noise) if given.noise else {})))
        return
    if given.libra:
        print("\n".join(libra(benchmark, read(given.journal))))
        return
    if given.images is None:
        parser.error("IMAGES.npz is missing")
    torch.set_num_threads(1)
    inputs, targets = batch(given.images, given.seed)
    known = read(given.journal)
    with given.journal.open("a", encoding="utf-8") as file:
        for place in order(benchmark)[: given.limit]:
            for arm in ARMS:
                there = known.get((place, arm), {})
                missing = [name for name in given.proxies.split(",") if there.get(name) is None]
                if missing:
                    line = scored(benchmark.architectures[place], arm, missing, inputs, targets, given.seed)
                    file.write(json.dumps({"place": place, "arm": arm, **line}) + "\n")
                    file.flush()


def order(benchmark: Benchmark) -> list[int]:
    """Return the places of all architectures in a random order, always the same."""
    return Random(0).sample(range(len(benchmark)), len(benchmark))


def batch(path: Path, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of each class in turn, normalised, and their classes; another seed has others."""
    with np.load(path, allow_pickle=False) as data:
        images, classes = data["x_train"], data["y_train"]
    queues = [iter(np.flatnonzero(classes == number)[seed * BATCH :]) for number in range(10)]
    places = [int(next(queues[number % 10])) for number in range(BATCH)]
    scaled = (images[places] / 255 - np.array(MEAN)) / np.array(DEVIATION)
    return torch.tensor(scaled.transpose(0, 3, 1, 2), dtype=torch.float32), torch.tensor(classes[places])


def scored(
    arch: Any, arm: str, proxies: Sequence[str], inputs: torch.Tensor, targets: torch.Tensor, seed: int
) -> dict[str, dict[str, Any]]:
    """Return the scores of a network in an arm, None where it has none, and the seconds that they take alone."""
    model = SPACE.build(arch, CIFAR_10, seed)
    if arm == "batch":
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # without running statistics it normalises by the batch in any mode
                module.track_running_stats, module.running_mean, module.running_var = False, None, None
    scores: dict[str, float | None] = {}
    seconds: dict[str, float] = {}
    reasons: dict[str, str] = {}
    layers, chosen = SPACE.layers(arch, model), {name: any_proxy(name) for name in proxies}
    with sharing_results(Subject(model, inputs, targets, seed)) as shared:
        for proxy in chosen.values():
            if isinstance(proxy, ZooProxy):
                shared.expect(proxy.needed(shared.subject, layers))
        for name in proxies:
            began = charged_clock()
            try:
                scores[name] = chosen[name].score(model, inputs, targets, layers=layers, seed=seed)
            except (ProxyError, ValueError) as error:
                scores[name], reasons[name] = None, str(error)[:100]
            seconds[name] = round(charged_clock() - began, 3)
    return {"scores": scores, "seconds": seconds, "reasons": reasons}


#: Scores by place and arm, then by proxy.
Scores = dict[tuple[int, str], dict[str, float | None]]


def read(journal: Path) -> Scores:
    """Return the scores in a journal by place and arm; the last line counts, and one that is cut off does not."""
    found: Scores = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found.setdefault((entry["place"], entry["arm"]), {}).update(entry["scores"])
    return found


def table(benchmark: Benchmark, known: Scores, other: Scores) -> Iterator[str]:
    """Yield the rows of the side-by-side table, as Markdown; `other` are the scores of another seed."""
    yield "| proxy | norms | n | ρ, ours | ρ, published | ours with published | ours with another seed |"
    yield "|---|---|---|---|---|---|---|"
    for column, proxy in [*SAME.items(), *((None, name) for name in OTHERS)]:
        for arm in ARMS:
            places = sorted(place for place, of in known if of == arm and known[place, of].get(proxy) is not None)
            published = {task: benchmark.columns[f"{column}_{task}"] if column else None for task in benchmark.tasks}
            if len(places) > 2:
                ours = [known[place, arm][proxy] for place in places]
                again = [other.get((place, arm), {}).get(proxy) for place in places]
                yield _row(benchmark, proxy, arm, places, ours, published, again)


def _row(
    benchmark: Benchmark,
    proxy: str,
    arm: str,
    places: list[int],
    ours: list[Any],
    published: dict[str, Any],
    again: list[Any],
) -> str:
    def rho(a: np.ndarray, b: np.ndarray) -> str:
        there = ~(np.isnan(a) | np.isnan(b))
        if there.sum() < 3:
            return "–"
        return f"{spearmanr(a[there], b[there]).statistic:.3f}".replace("0.", ".")

    own, first = np.array(ours, dtype=float), published["cifar10"]
    cells = [" ".join(rho(own, benchmark.tasks[task][places]) for task in benchmark.tasks)]
    if first is None:
        cells += ["–", "–"]
    else:
        cells += [" ".join(rho(published[t][places], benchmark.tasks[t][places]) for t in benchmark.tasks)]
        cells += [rho(own, first[places])]
    cells += [rho(own, np.array(again, dtype=float))]
    return f"| {proxy} | {arm} | {len(places)} | {' | '.join(cells)} |"


def libra(benchmark: Benchmark, known: Scores) -> Iterator[str]:
    """Yield the rows of a table, as Markdown: LIBRA and what it chose, from our scores and from the published ones.

    Our scores are by the batch, those of SynFlow with fresh norms. Each task's three proxies are chosen on the cells of
    evolve and validation, and judged on those of test.
    """
    ours = {name: "fresh" if name == "synflow-all" else "batch" for name in (*SAME.values(), *OTHERS)}
    cells = sorted({place for place, arm in known if arm == "batch"})
    scores = {n: np.array([known[c, arm].get(n) for c in cells], dtype=float) for n, arm in ours.items()}
    structure = {name: values[cells] for name, values in benchmark.structure().items() if not np.isnan(values).any()}
    published = {
        task: {n: benchmark.columns[f"{c}_{task}"][cells] for c, n in SAME.items()} for task in benchmark.tasks
    }
    test = np.isin(cells, benchmark.splits()["test"])
    chosen, judged = (~test).sum(), test.sum()
    yield f"| scores | task | chosen on {chosen} cells | ρ, τ of LIBRA on {judged} | ρ of the three | of params |"
    yield "|---|---|---|---|---|---|"
    for whose, by_task in (("ours", dict.fromkeys(benchmark.tasks, scores)), ("published", published)):
        for task, of_task in by_task.items():
            y, known_of = benchmark.tasks[task][cells], {**structure, **of_task}
            table = ScoreTable(tuple(known_of), {task: y}, {task: np.array([*known_of.values()])}, structure["params"])
            choice = choose(table.of_architectures(np.flatnonzero(~test)), task)
            merged = merged_table(table.of_architectures(np.flatnonzero(test)), {task: choice}, ["params"])
            rho, *others = (f"{spearmanr(x, y[test], nan_policy='omit').statistic:.3f}" for x in merged.scores[task])
            tau = kendalltau(merged.scores[task][0], y[test], nan_policy="omit").statistic
            three, of_three = ", ".join(choice.chosen), ", ".join(others[:-1])
            yield f"| {whose} | {task} | {three} | {rho}, {tau:.3f} | {of_three} | {others[-1]} |"


if __name__ == "__main__":
    main(sys.argv[1:])
