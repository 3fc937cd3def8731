"""Library: benchmarks by name, embedded or in the user's folder; it reads what any `--bench` accepts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from autoprox.bench_cache.benchmarks.catalogue import CATALOGUE
from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.benchmarks.table import Benchmark
from autoprox.bench_cache.runtime.checks import BenchmarkError, quoted
from autoprox.bench_cache.runtime.home import data_home
from autoprox.bench_cache.spaces.registry import get_space, pinned

#: The folder of the benchmarks that come with autoprox, `<name>.json` each; its DATA.md has notices and data cards.
EMBEDDED_DIR = Path(__file__).parents[1] / "data"
#: The benchmark to evolve on unless the user names another.
DEFAULT_BENCHMARK = "mini-vit"

_FILE_ENDINGS = (".json", ".pth", ".csv")


@dataclass(frozen=True)
class Installed:
    """A benchmark in a folder: its name, its file, and its contents or, if it cannot be read, the reason."""

    name: str
    path: Path
    benchmark: Benchmark | None
    problem: str = ""


def benchmarks_dir() -> Path:
    """Return the folder of imported and downloaded benchmarks, `<name>.json` each; it need not exist yet."""
    return data_home() / "benchmarks"


def install(benchmark: Benchmark) -> Path:
    """Save a benchmark in the user's folder, over any of the same name, and return the file.

    Raises:
        BenchmarkError: an embedded benchmark has this name.
    """
    if benchmark.name in _names(EMBEDDED_DIR):
        raise BenchmarkError(f"{benchmark.name} comes with autoprox; give yours another --name")
    path = benchmarks_dir() / f"{benchmark.name}.json"
    benchmark.save(path)
    return path


def installed(folder: Path | None = None) -> tuple[Installed, ...]:
    """Return the benchmarks in a folder (by default the user's) by name, including those that cannot be read."""
    found = []
    for path in sorted((folder or benchmarks_dir()).glob("*.json")):
        try:
            found.append(Installed(path.stem, path, Benchmark.load(path)))
        except (BenchmarkError, OSError) as error:
            found.append(Installed(path.stem, path, None, str(error)))
    return tuple(found)


def load_benchmarks(refs: Sequence[Benchmark | str | os.PathLike[str]], spaces: Sequence[str] = ()) -> list[Benchmark]:
    """Return the benchmarks that `load_benchmark` returns, and check that each of the `spaces` is one of theirs.

    A benchmark that is given as it is stays as it is.

    Raises:
        BenchmarkError: as `load_benchmark` does, or no benchmark is of a space that is named.
        ArchitectureError: a space that is named cannot be loaded.
    """
    named = [pinned(space) for space in spaces]
    found = [ref if isinstance(ref, Benchmark) else load_benchmark(ref, named) for ref in refs]
    for space in named:
        if all(benchmark.space != space for benchmark in found):
            others = ", ".join(f"{each.name} is of {each.space_name or 'no space'}" for each in found)
            raise BenchmarkError(f"no benchmark is of the space {get_space(space).name}: {others}; leave out --space")
    return found


def load_benchmark(ref: str | os.PathLike[str], spaces: Sequence[str] = ()) -> Benchmark:
    """Return the benchmark of a file (our JSON or a public format), or the embedded or installed one of a name.

    `spaces` name the users' spaces that it may be of, FILE.py:NAME.

    Raises:
        BenchmarkError: there is no such benchmark, and the message says how to get it or which name is closest; or its
            file cannot be used.
        OSError: the file cannot be read.
    """
    path = Path(ref)
    if path.is_file():
        return read_benchmark(path, spaces=spaces)
    named = file_of(str(ref))
    if named is not None:
        return Benchmark.load(named, spaces)
    if path.is_dir():
        files = sorted(str(file) for file in path.iterdir() if file.suffix in _FILE_ENDINGS)
        raise BenchmarkError(f"{ref} is a folder; name a file of it: {', '.join(files[:8]) or 'it has none'}")
    if path.name != str(ref) or path.suffix in _FILE_ENDINGS:
        raise BenchmarkError(f"{ref}: there is no such file")
    raise BenchmarkError(_unknown(str(ref)))


def file_of(name: str) -> Path | None:
    """Return the file of the embedded or installed benchmark of a name; None where there is none."""
    files = (folder / f"{name}.json" for folder in (EMBEDDED_DIR, benchmarks_dir()))
    return next((file for file in files if Path(name).name == name and file.is_file()), None)


def _names(folder: Path) -> list[str]:
    return [path.stem for path in sorted(folder.glob("*.json"))]


def _unknown(name: str) -> str:
    """Return one line that says why there is no benchmark of this name, and what to do."""
    sources = {file.benchmark: source.name for source in CATALOGUE for file in source.files}
    here = [*_names(EMBEDDED_DIR), *_names(benchmarks_dir())]
    if name in sources:
        return f"benchmark {name} is not on this machine: run `autoprox bench download {sources[name]}` first"
    for source in CATALOGUE:
        if name == source.name:
            members = " or ".join(file.benchmark for file in source.files)
            return f"{name} is several benchmarks; name one: {members} (`autoprox bench download {name}` gets them)"
    known = [*here, *sources]
    close = [entry for entry in known if entry.startswith(name)] or get_close_matches(name, known, n=1)
    return (
        f"unknown benchmark {quoted(name)}"
        + (f" (did you mean {close[0]}?)" if close else "")
        + ": neither a file nor an imported benchmark; "
        + (f"there are {', '.join(here)}; " if here else "")
        + "`autoprox bench list` shows what there is, `autoprox bench import FILE` adds one"
    )
