"""Sources: the source code of functions and of all that they use, for a file that imports only torch.

Code is read and never run: the syntax trees of the modules say which names a definition uses, and where they come from.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import inspect
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

_LOOSE = "<functions inside functions>"


class SourceError(ValueError):
    """Code that cannot be written into one file; the message says which name, and what to do."""


@dataclass(frozen=True, order=True)
class Import:
    """An import: `import module`, or `from module import name`; `bound` is its name in the file."""

    module: str
    name: str
    bound: str

    def __str__(self) -> str:
        shown = self.name or self.module
        renamed = "" if self.bound in (shown, self.module.partition(".")[0]) else f" as {self.bound}"
        return f"from {self.module} import {shown}{renamed}" if self.name else f"import {shown}{renamed}"

    @property
    def origin(self) -> str:
        """Return what the bound name stands for: `import a` and `import a.b` both bind a."""
        plain = not self.name and self.bound == self.module.partition(".")[0]
        return f"import {self.bound}" if plain else str(self)


@dataclass(frozen=True)
class Definition:
    """A function, class or constant: its module and line, and its source with the comment above it."""

    module: str
    line: int
    source: str

    @property
    def uses(self) -> tuple[str, ...]:
        """Return the global names in its code and in its annotations."""
        return _free_names(self.source)

    @property
    def is_constant(self) -> bool:
        """Return whether it is an assignment."""
        return isinstance(ast.parse(self.source).body[0], ast.Assign | ast.AnnAssign)


@dataclass(frozen=True)
class Bundle:
    """What a file must import and define; a definition stands before those that need it at import."""

    imports: tuple[Import, ...]
    definitions: tuple[Definition, ...]
    names: frozenset[str]


def bundle(
    wanted: Iterable[Callable[..., object]],
    imports: Iterable[Import] = (),
    taken: Iterable[str] = (),
    named: Iterable[tuple[str, str]] = (),
) -> Bundle:
    """Return the sources of functions and classes, with all functions, classes, constants and imports that they use.

    Only torch and the standard library are imported; all else must be Python source. `imports` are further imports of
    the file, and `taken` the names that the file itself defines. `named` are wanted too, as pairs of a module and of a
    name at its top.

    Raises:
        SourceError: something has no source, imports another package, or has the name of something else.
    """
    collector = _Collector(dict.fromkeys(taken, "the exported file itself"))
    for imported in imports:
        collector.add_import("the exported file", imported)
    for thing in wanted:
        collector.add(thing)
    for home, name in named:
        collector.add_name(home, name)
    return collector.result()


def call_text(function: Callable[..., object]) -> str:
    """Return the expression for a function in a file that has `import torch` and the function's bundle.

    Raises:
        SourceError: it is no function with a name.
    """
    name = getattr(function, "__name__", "")
    for namespace, prefix in (("torch", ""), ("torch.special", "special_"), ("torch.nn.functional", "")):
        short = name.removeprefix(prefix)
        if short and getattr(sys.modules.get(namespace), short, None) is function:
            return f"{namespace}.{short}"
    if not (inspect.isfunction(function) or inspect.isclass(function)) or not name.isidentifier():
        raise SourceError(f"{function!r:.80} is no function with a name: write it with `def` at the top of a module")
    return name


@dataclass
class _Module:
    """The top-level names of a module: those that it defines, and those that it imports."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, list[Import]] = field(default_factory=dict)


class _Collector:
    """A collector, which follows names from definition to definition."""

    def __init__(self, origins: dict[str, str]) -> None:
        self.origins = origins  # name in the file → where it comes from
        self.modules: dict[str, _Module | None] = {}
        self.imports: set[Import] = set()
        self.definitions: dict[tuple[str, int], Definition] = {}
        self.before: dict[str, set[str]] = {}  # module → modules whose definitions come first

    def add(self, thing: Callable[..., object]) -> None:
        """Collect a function or class; one that torch offers needs no source."""
        if "." in call_text(thing):
            return
        home = thing.__module__
        module = self.module(home)
        at_top = getattr(sys.modules.get(home), thing.__name__, None) is thing
        if module is not None and at_top and thing.__name__ in module.definitions:
            self.add_name(home, thing.__name__)
        else:
            self.add_loose(thing)

    def add_name(self, home: str, name: str) -> None:
        """Collect what a name means at the top level of a module."""
        module = self.module(home)
        if module is None:
            raise SourceError(f"'{name}' is used, but there is no source of {home}: write it in a file")
        if name in module.definitions:
            self.define(name, home, module.definitions[name])
        elif name in module.imports:
            for imported in module.imports[name]:
                self.add_import(home, imported)
        elif not hasattr(builtins, name):
            raise SourceError(f"'{name}' is used in {home}, but is not defined or imported at its top level")

    def define(self, name: str, home: str, definition: Definition) -> None:
        if self.claim(name, f"{definition.module}, line {definition.line}"):
            self.definitions[definition.module, definition.line] = definition
            self.before.setdefault(definition.module, set())
            for used in definition.uses:
                self.add_name(home, used)

    def add_import(self, home: str, imported: Import) -> None:
        root = imported.module.partition(".")[0]
        if root == "torch" or root in sys.stdlib_module_names:
            self.claim(imported.bound, imported.origin)
            self.imports.add(imported)
        elif not imported.name or self.module(imported.module) is None:
            raise SourceError(f"{home} uses '{imported}', but an exported proxy imports only torch: use torch instead")
        elif imported.bound != imported.name:
            raise SourceError(f"{home} says '{imported}': import it under its own name")
        else:
            self.before.setdefault(home, set()).add(imported.module)
            self.add_name(imported.module, imported.name)

    def add_loose(self, function: Callable[..., object]) -> None:
        """Collect a function that is not at the top of a module: inside another function, or in a notebook."""
        name = function.__name__
        code = getattr(function, "__code__", None)
        if code is None or code.co_freevars:
            what = f"the variable '{code.co_freevars[0]}' of the function around it" if code else "more than its source"
            raise SourceError(f"'{name}' needs {what}: define it at the top level of a module")
        try:
            source = textwrap.dedent(inspect.getsource(function))
            ast.parse(source)
        except (OSError, SyntaxError):
            raise SourceError(f"there is no source of the function '{name}': define it in a file") from None
        definition = Definition(_LOOSE, code.co_firstlineno, source.rstrip())
        if self.claim(name, f"{code.co_filename}, line {code.co_firstlineno}"):
            self.definitions[f"{_LOOSE} {name}", code.co_firstlineno] = definition
            for used in definition.uses:
                self.add_value(used, function.__module__, getattr(function, "__globals__", {}))

    def add_value(self, name: str, home: str, values: dict[str, object]) -> None:
        """Collect a name by its value, where its module has no source file."""
        if self.module(home) is not None:
            self.add_name(home, name)
            return
        value = values.get(name)
        if inspect.ismodule(value):
            package, _, last = value.__name__.rpartition(".")
            inside = package and name == last
            self.add_import(home, Import(package, last, name) if inside else Import(value.__name__, "", name))
        elif inspect.isfunction(value) or inspect.isclass(value):
            root = value.__module__.partition(".")[0]
            if root == "torch" or root in sys.stdlib_module_names - {"__main__"}:
                self.add_import(home, Import(value.__module__, value.__name__, name))
            else:
                self.add(value)
        elif isinstance(value, int | float | str):
            if self.claim(name, f"{home}, {name}"):
                self.definitions[f"{_LOOSE} {name}", 0] = Definition(_LOOSE, 0, f"{name} = {value!r}")
        elif name in values or not hasattr(builtins, name):
            raise SourceError(f"'{name}' is used in {home}, which has no source file: define it in a file")

    def claim(self, name: str, origin: str) -> bool:
        """Return whether the name is new.

        Raises:
            SourceError: it already stands for something else.
        """
        before = self.origins.get(name)
        if before is None:
            self.origins[name] = origin
        elif before != origin:
            raise SourceError(f"two things are called '{name}' ({before}; {origin}): rename one")
        return before is None

    def module(self, name: str) -> _Module | None:
        """Return the top-level names of a module, or None where it has no Python source."""
        if name not in self.modules:
            self.modules[name] = _parsed(name)
        return self.modules[name]

    def result(self) -> Bundle:
        try:
            order = list(TopologicalSorter(self.before).static_order())
        except CycleError as error:
            raise SourceError(f"modules import each other: {', '.join(error.args[1])}") from None
        rank = {name: number for number, name in enumerate(order)}
        ordered = sorted(self.definitions.values(), key=lambda d: (rank.get(d.module, len(rank)), d.line))
        return Bundle(tuple(sorted(self.imports)), tuple(ordered), frozenset(self.origins))


def _parsed(name: str) -> _Module | None:
    try:
        source = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):
        return None
    return _parsed_source(name, sys.modules[name].__package__ or "", source)


@functools.lru_cache(maxsize=64)
def _parsed_source(name: str, package: str, source: str) -> _Module:
    lines, module = source.splitlines(), _Module()
    for node in ast.parse(source).body:
        for imported in _imports(node, package):
            module.imports.setdefault(imported.bound, []).append(imported)
        for bound in _bound_names(node):
            module.definitions[bound] = Definition(name, node.lineno, _segment(node, lines))
    return module


def _imports(statement: ast.stmt, package: str) -> Iterable[Import]:
    """Yield the imports of a top-level statement, also those under `if` and `try`."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", alias.asname or alias.name.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                yield Import(module, alias.name, alias.asname or alias.name)


def _bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def _segment(node: ast.stmt, lines: list[str]) -> str:
    """Return the lines of a definition, with its decorators and the comment lines right above it."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])


@functools.lru_cache(maxsize=1024)
def _free_names(source: str) -> tuple[str, ...]:
    """Return the global names that a definition uses, in its code and in its annotations."""
    stripped = _StripAnnotations()
    bare = stripped.visit(ast.parse(source))
    names = dict.fromkeys(name.id for a in stripped.annotations for name in ast.walk(a) if isinstance(name, ast.Name))

    def walk(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and symbol.is_global():
                names[symbol.get_name()] = None
        for child in table.get_children():
            walk(child)

    walk(symtable.symtable(ast.unparse(ast.fix_missing_locations(bare)), "<definition>", "exec"))
    return tuple(names)


class _StripAnnotations(ast.NodeTransformer):
    """A visitor that takes the annotations out of a tree and keeps them.

    Symbol tables treat annotations differently in each version of Python.
    """

    def __init__(self) -> None:
        self.annotations: list[ast.expr] = []

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if node.returns is not None:
            self.annotations.append(node.returns)
            node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node: ast.arg) -> ast.AST:
        if node.annotation is not None:
            self.annotations.append(node.annotation)
            node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.annotations.append(node.annotation)
        return ast.Assign([node.target], node.value or ast.Constant(None))
