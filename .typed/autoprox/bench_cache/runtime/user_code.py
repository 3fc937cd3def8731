"""User code: Python objects that a user names by FILE.py:NAME or MODULE:NAME, and what its errors look like.

A file is loaded as a module whose name tells its path and a digest of its source. So an edited file is another module,
and a worker process that unpickles something of the file finds it by the name of the module alone.
"""

from __future__ import annotations

import hashlib
import pkgutil
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch

from autoprox.bench_cache.runtime.source_digest import imported_names, source_file, source_files
from autoprox.primitives.errors import described

_PREFIX = "autoprox_file_"
#: Modules that are not the user's, even where a folder of this name lies beside the file.
_ELSEWHERE = frozenset({"autoprox", "torch", *sys.stdlib_module_names})


class UserCodeError(ValueError):
    """A file or module of the user's that cannot be found or loaded; one line says which, why and where."""


@dataclass(frozen=True)
class UserObject:
    """An object of the user's code.

    Attributes:
        value: the object.
        reference: how it is found from every folder: an absolute FILE.py:NAME, or MODULE:NAME.
        folder: the folder that its code may import from.
    """

    value: Any
    reference: str
    folder: Path

    @property
    def shown(self) -> str:
        """The reference without the folders of the file, which are another machine's elsewhere."""
        return shown(self.reference)


def shown(reference: str) -> str:
    """Return a reference without the folders of its file."""
    where, _, name = reference.rpartition(":")
    return f"{Path(where).name}:{name}" if where.endswith(".py") else reference


def load_object(reference: str, doing: str = "loading it") -> UserObject:
    """Return the object that FILE.py:NAME or MODULE:NAME names; its module is run unless it was loaded before.

    `doing` says in an error what fails.

    Raises:
        UserCodeError: there is no such file, module or name, or its code fails.
    """
    where, _, name = reference.rpartition(":")
    if where.endswith(".py"):
        file = existing_file(where)
        found, folder, full = load_file(file, doing), file.parent, f"{file}:{name}"
    else:
        folder, full = Path.cwd(), reference
        with on_path(folder):
            found = _module(where, doing)
    if not hasattr(found, name):
        close = get_close_matches(name, vars(found), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserCodeError(f"{where} has no '{name}'{hint}")
    return UserObject(getattr(found, name), full, folder)


def existing_file(where: str) -> Path:
    """Return the full path of a Python file.

    Raises:
        UserCodeError: there is no such file.
    """
    file = Path(where).expanduser()
    if not file.is_file():
        raise UserCodeError(f"there is no file {where}")
    return file.resolve()


def load_file(file: Path, doing: str = "loading it") -> ModuleType:
    """Return the module of a Python file; what lies beside the file can be imported while it is run.

    Raises:
        UserCodeError: its code fails.
    """
    name = f"{_PREFIX}{file_digest(file)}_{str(file).encode().hex()}"
    if name not in sys.modules:
        for other in local_files(file)[1:]:  # its edited neighbours must be read again
            for key in [key for key, module in sys.modules.items() if _is_of(module, other)]:
                del sys.modules[key]
    with on_path(file.parent), seeded(0):  # loaded now or before: what is drawn afterwards is the same
        return called(doing, pkgutil.resolve_name, name)


def _module(name: str, doing: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserCodeError(f"'{name:.80}' is neither a file FILE.py nor a module")
    with seeded(0):
        found = called(doing, pkgutil.resolve_name, name)
    if not isinstance(found, ModuleType):
        raise UserCodeError(f"'{name:.80}' is no module")
    return found


def _is_of(module: object, file: Path) -> bool:
    path = getattr(module, "__file__", None)
    named_alike = isinstance(path, str) and path.endswith(file.name)
    return named_alike and not _is_main(module) and Path(str(path)).resolve() == file


def _is_main(module: object) -> bool:
    return module is sys.modules.get("__main__") or str(getattr(module, "__name__", "")).startswith(_PREFIX)


class _FileLoader(SourceFileLoader):
    """Compiles the source itself: the compiled copies of Python miss an edit within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class _FileFinder(MetaPathFinder):
    """Finds the modules that `load_file` names, in this process and in workers."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        digest, _, encoded = fullname.removeprefix(_PREFIX).partition("_")
        file = bytes.fromhex(encoded).decode()
        if not Path(file).is_file() or file_digest(Path(file)) != digest:
            raise ImportError(f"{file} is missing here, or has changed since it was loaded; start again")
        return spec_from_file_location(fullname, file, loader=_FileLoader(fullname, file))


sys.meta_path.append(_FileFinder())


# --- what an object's numbers depend on ---


def reference_digest(reference: str) -> str:
    """Return the digest of what FILE.py:NAME or MODULE:NAME follows from; a module's package belongs to it.

    Raises:
        UserCodeError: there is no such file or module.
    """
    where = reference.rpartition(":")[0]
    if where.endswith(".py"):
        return file_digest(existing_file(where))
    with on_path(Path.cwd()):
        _module(where, "loading it")
        return content_digest(source_files([where], where.partition(".")[0]))


def file_digest(file: Path) -> str:
    """Return 16 hexadecimal digits for a file's content, and that of the files beside it which it imports."""
    return content_digest(local_files(file))


def content_digest(files: Sequence[Path]) -> str:
    """Return 16 hexadecimal digits for the contents of files, in this order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def local_files(file: Path) -> list[Path]:
    """Return a file and, by name, the files in its folder that it imports, directly or not."""
    folder, found, waiting = file.parent, set[Path](), [file]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        try:
            names = list(imported_names(here))
        except SyntaxError:
            continue  # running the file says so
        for name in names:
            parts = name.split(".")
            if parts[0] in _ELSEWHERE:
                continue
            for count in range(1, len(parts) + 1):
                stem = folder.joinpath(*parts[:count])
                waiting += [p.resolve() for p in (stem.parent / f"{stem.name}.py", stem / "__init__.py") if p.is_file()]
    return [file, *sorted(found - {file})]


# --- running it ---


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Let the user's code import what lies in a folder."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the random generators of Python, numpy and torch inside, and put them back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([]):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def called(doing: str, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Call a function that is not ours.

    Raises:
        UserCodeError: the function fails; the message begins with what was being done, and says where it failed.
    """
    try:
        return function(*arguments, **settings)
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        raise UserCodeError(f"{doing} fails with {described(error)}{_line_of(error)}") from error


def _line_of(error: BaseException) -> str:
    """Return the file and line that raised an error, where it is not in this module or in Python's import."""
    if isinstance(error, SyntaxError):
        return f", at line {error.lineno} of {error.filename}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    last = frames[-1]
    ours = (__file__, source_file("pkgutil").as_posix(), source_file("importlib").as_posix())
    return "" if last.filename in ours else f", at line {last.lineno} of {last.filename}"
