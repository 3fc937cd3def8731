"""Whole commands of this build beside those of an earlier one: seconds, processor seconds and memory.

    python benchmarks/builds.py [--quick] [--earlier FOLDER] [--bench NAME]... [--generations N] [--networks N]
                                [--repeats N] [--only GROUP]...

FOLDER is a checkout of an earlier build, which `make bench` makes of the commit that the Makefile names; without it
there are this build's columns alone. The builds take turns. Every command is a process of its own; those that say
"cached" find the statistics of their networks in AUTOPROX_HOME, but no numbers of formulas.

- help: `autoprox --help`;
- warm: `autoprox evolve --generations 2`, statistics cached;
- embedded: `autoprox evolve --generations 200`, cached; and cold, with an empty AUTOPROX_HOME;
- large: `autoprox evolve --population 50` on networks at 224 px, cached; random AutoFormers, or those of --bench;
- sampled: the same with `--fitness sampled`, which the earlier build does not have; its tau is of samples;
- a generation: from the first to the second of such a run, by the lines of its journal;
- zoo: `autoprox rank` of the whole zoo on AutoFormer-T's, for each network more.

Memory is the largest sum at one time over the command's processes, of what each has for itself and its share of what it
has with others (proportional set size; Linux). It is read about once a second, so a short peak can be missed.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import orjson
from common import median, number, real_size, table

NOW, EARLIER = "this build", "earlier build"

#: Seconds between two looks at a command's journal, and between looks at its processes how many times a look's length.
PAUSE, REST = 0.05, 30


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds, processor seconds of all its processes, bytes at most; NaN where none are told.

    `lines` has the seconds after which its journal had each of its lines.
    """

    seconds: float
    processor: float
    memory: float
    lines: tuple[float, ...] = ()


@dataclass(frozen=True)
class Build:
    """A build: its name in the table, its folder, and a folder for what its commands keep."""

    name: str
    folder: Path
    home: Path

    def run(self, arguments: Sequence[str], home: Path, out: Path | None = None) -> Cost:
        """Run `autoprox` with these arguments to its end."""
        environment = os.environ | {"PYTHONPATH": str(self.folder), "AUTOPROX_HOME": str(home)}
        command = [sys.executable, "-m", "autoprox", *arguments, *(("--out", str(out)) if out else ())]
        began = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command, cwd=self.home, env=environment, stdout=said, stderr=said, start_new_session=True
            )
            cost = watched(process, began, out / "journal.jsonl" if out else None)
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{self.name}: autoprox {' '.join(arguments)}: {said.read().decode()}")
        return cost


def watched(process: subprocess.Popen, began: float, journal: Path | None) -> Cost:
    """Wait for a command, and look at its processes meanwhile."""
    spent: dict[int, float] = {}
    peak, due, lines, read = 0.0, 0.0, [], 0
    while process.poll() is None:
        now = time.perf_counter()
        if now >= due:
            peak = max(peak, looked_at(process.pid, spent))
            due = now + max(PAUSE, REST * (time.perf_counter() - now))
        if journal and journal.exists():
            with journal.open("rb") as file:  # from where the last look ended: it grows to megabytes
                file.seek(read)
                new = file.read()
            read += len(new)
            lines += [now - began] * new.count(b"\n")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PAUSE)
    nothing = float("nan")
    return Cost(time.perf_counter() - began, sum(spent.values()) or nothing, peak or nothing, tuple(lines))


def looked_at(leader: int, spent: dict[int, float]) -> float:
    """The memory of all processes of a session; what the processor has worked for each goes into `spent`."""
    memory = 0.0
    for pid in of_session(leader):
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has just ended
            spent[pid] = max(spent.get(pid, 0.0), processor_seconds(pid))
            memory += proportional_memory(pid)
    return memory


def of_session(leader: int) -> Iterator[int]:
    """The processes of a session (Linux; none elsewhere)."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int(fields(int(folder.name))[3]) == leader:
                yield int(folder.name)


def fields(pid: int) -> list[str]:
    """What /proc tells of a process, from its state on: its name, which may have spaces, stands before."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def processor_seconds(pid: int) -> float:
    """Seconds that the processor worked for a process."""
    user, system = fields(pid)[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def proportional_memory(pid: int) -> float:
    """The proportional set size of a process in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


# --- what is run ---


#: The groups of rows, in the order of the table.
GROUPS = ("help", "embedded", "large", "sampled", "zoo")


@dataclass(frozen=True)
class Plan:
    """What is run, and how much."""

    groups: tuple[str, ...]
    generations: int  # of the embedded run
    benches: tuple[str, ...]  # on which the large and the sampled run are
    large: int  # their generations
    population: int  # their formulas
    networks: tuple[str, str]  # two files of AutoFormer-T's for the zoo, the second with `more` networks more
    more: int
    proxies: str
    repeats: int


def cached(build: Build, name: str, options: Sequence[str]) -> Path:
    """A home with the statistics of an evolution's networks and without numbers of formulas."""
    home = build.home / name
    if not home.exists():
        build.run(["evolve", *options, "--generations", "0", "--population", "4"], home, build.home / f"{name}-first")
    for file in home.glob("statistics/*/numbers.sqlite3*"):
        file.unlink()
    return home


def evolution(build: Build, name: str, options: Sequence[str], generations: int, *more: str) -> tuple[Cost, float]:
    """The cost of an evolution with cached statistics, and the joint tau that it reached on evolve.

    `options` say what statistics it needs; `more` are its other options.
    """
    home, out = cached(build, name, options), build.home / "run"
    cost = build.run(["evolve", *options, "--generations", str(generations), *more], home, out)
    last = orjson.loads((out / "journal.jsonl").read_bytes().splitlines()[-1])
    shutil.rmtree(out)
    return cost, last["best"]["joint"]


def on_disk(folder: Path) -> float:
    """The bytes of the files in a folder."""
    return float(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


def zoo(build: Build, plan: Plan) -> Cost:
    """The cost of each network more that the whole zoo scores; of memory, the larger run's."""
    costs = []
    for file in plan.networks:
        out = build.home / "rank"
        arguments = ["rank", "--bench", file, "--proxies", plan.proxies, "--workers", "1"]
        costs.append(build.run(arguments, build.home / "none", out))
        shutil.rmtree(out)
    few, many = costs
    return Cost((many.seconds - few.seconds) / plan.more, (many.processor - few.processor) / plan.more, many.memory)


def measured(build: Build, plan: Plan) -> dict[str, tuple[Cost, str]]:
    """The rows of one build, once: for each its cost, and the tau that a run reached."""
    rows: dict[str, tuple[Cost, str]] = {}

    def evolved(row: str, *arguments, **options) -> Cost:
        cost, tau = evolution(build, *arguments, **options)
        rows[row] = cost, f"{tau:.4f}"
        return cost

    if "help" in plan.groups:
        rows["help"] = build.run(["--help"], build.home), ""
    if "embedded" in plan.groups:
        evolved("warm, 2 generations", "mini", (), 2)
        evolved(f"embedded, {plan.generations} generations, cached", "mini", (), plan.generations)
        cold = build.home / "cold"
        rows[f"embedded, {plan.generations} generations, cold"] = (
            build.run(["evolve", "--generations", str(plan.generations)], cold, build.home / "run"),
            "",
        )
        for folder in (cold, build.home / "run"):
            shutil.rmtree(folder)
    benches = [part for name in plan.benches for part in ("--bench", name)]
    for group, options in (("large", ()), ("sampled", ("--fitness", "sampled"))):
        if group in plan.groups and (group == "large" or build.name == NOW):
            size = ("--population", str(plan.population))
            row = f"{group}, {plan.large} generations of {plan.population}, cached"
            cost = evolved(row, group, (*benches, *options), plan.large, *size)
            if len(cost.lines) > 2:
                first, second = cost.lines[1:3]  # line 0 has the settings
                rows[f"{group}, generation 1"] = Cost(second - first, float("nan"), cost.memory), ""
            rows[f"{group}, statistics on disk"] = Cost(float("nan"), float("nan"), on_disk(build.home / group)), ""
    if "zoo" in plan.groups:
        rows["zoo, for each AutoFormer-T"] = zoo(build, plan), ""
    return rows


# --- the table ---


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each number."""
    return Cost(*(median([getattr(cost, name) for cost in costs]) for name in ("seconds", "processor", "memory")))


def lines(found: dict[str, list[dict[str, tuple[Cost, str]]]]) -> list[list[str]]:
    """The lines of the table: this build's cost, the earlier one's, and how many times as fast this one is."""
    made = []
    for row in found[NOW][0]:
        # The earlier build has no sampled runs.
        now, *earlier = (middle([run[row][0] for run in runs]) for runs in found.values() if row in runs[0])
        cells = [*costs(now), found[NOW][0][row][1]]
        for before in earlier:
            ratio = before.seconds / now.seconds
            cells += [*costs(before), found[EARLIER][0][row][1], number(ratio) if ratio > 0 else "–"]
        made.append([row, *cells])
    return made


def costs(cost: Cost) -> list[str]:
    """The cells of a cost; a dash for what the system does not tell, or what was too short to be seen."""
    found = cost.seconds, cost.processor, cost.memory / 1e6
    return [number(each) if each > 0 else "–" for each in found]


def files(folder: Path, few: int, more: int) -> tuple[str, str]:
    """Two benchmarks of random AutoFormer-T's at 224 px."""
    paths = []
    for count in (few, few + more):
        benchmark = replace(real_size(count), name=f"tiny-{count}")
        benchmark.save(folder / f"tiny-{count}.json")
        paths.append(str(folder / f"tiny-{count}.json"))
    return paths[0], paths[1]


@click.command()
@click.option("--quick", is_flag=True, help="A short run, for a check that everything works.")
@click.option("--earlier", type=click.Path(exists=True, path_type=Path), help="A checkout of an earlier build.")
@click.option("--bench", "benches", multiple=True, help="Of large and sampled runs.  [default: random AutoFormers]")
@click.option("--generations", type=int, help="Of large and sampled runs.  [default: 20]")
@click.option("--networks", type=int, help="Random AutoFormers of large and sampled runs.  [default: 60]")
@click.option("--repeats", type=int, help="Of everything.  [default: 3]")
@click.option("--only", multiple=True, type=click.Choice(GROUPS), help="A group of rows.  [default: all of them]")
def main(
    quick: bool, earlier: Path | None, benches: tuple[str, ...], generations: int | None, networks: int | None,
    repeats: int | None, only: tuple[str, ...],
) -> None:  # fmt: skip
    """Print one table: what whole commands cost, now and before."""
    builds = {NOW: Path(__file__).resolve().parent.parent} | ({EARLIER: earlier.resolve()} if earlier else {})
    with tempfile.TemporaryDirectory(prefix="autoprox-bench-") as name:
        folder = Path(name)
        if not benches:
            made = real_size(networks or (6 if quick else 60), others=3)
            made.save(folder / "large.json")
            benches = (str(folder / "large.json"),)
        few, more = (4, 1) if quick else (4, 4)
        plan = Plan(
            only or GROUPS, 5 if quick else 200, benches, generations or (1 if quick else 20), 8 if quick else 50,
            files(folder, few, more), more, "params,snip" if quick else "all", repeats or (1 if quick else 3),
        )  # fmt: skip
        found: dict[str, list[dict[str, tuple[Cost, str]]]] = {name: [] for name in builds}
        for _ in range(plan.repeats):
            for side, source in builds.items():
                home = folder / side.replace(" ", "-")
                home.mkdir(exist_ok=True)
                found[side].append(measured(Build(side, source, home), plan))
    columns = ["command", "s", "processor s", "MB", "τ"]
    if earlier:
        columns += ["earlier: s", "processor s", "MB", "τ", "× as fast"]
    large = ", ".join(map(shown, benches))
    notes = [f"medians of {plan.repeats} runs, {len(builds)} builds in turn; large and sampled runs are on {large}"]
    if not earlier:
        notes.append("No earlier build: --earlier FOLDER was not given.")
    table("Whole commands", columns, lines(found), notes)


def shown(bench: str) -> str:
    """What a benchmark is called."""
    return "random AutoFormers at 224 px" if bench.endswith("large.json") else bench


if __name__ == "__main__":
    main()
