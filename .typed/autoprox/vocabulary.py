"""Vocabulary: the operations of a run: those that are built in, and a user's, from a file, a module or a package.

Operations of installed packages (entry points `autoprox.operations`) are used only where they are named: a result does
not depend on what else is installed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from autoprox.bench_cache.runtime import plug_ins
from autoprox.bench_cache.runtime.user_code import UserCodeError, existing_file, load_file, load_object
from autoprox.primitives import OPERATIONS, Operation, OperationError, Vocabulary


def vocabulary(references: Sequence[str]) -> Vocabulary:
    """Return the built-in operations and then, by name, those that the references name.

    A reference is FILE.py, for all operations in a file, FILE.py:NAME or MODULE:NAME, for an operation or a list of
    them, or the name that an installed package offers.

    Raises:
        OperationError: there are no operations, or one cannot enter the vocabulary; the message says where and why.
    """
    found: dict[str, tuple[Operation, str]] = {}
    for reference in references:
        for operation in _operations(reference):
            before = found.setdefault(operation.name, (operation, reference))
            if before[0] is not operation:
                raise OperationError(
                    f"two operations are called '{operation.name}': of {before[1]} and of {reference}; rename one"
                )
    try:
        return OPERATIONS.extended(*(found[name][0] for name in sorted(found)))
    except OperationError as error:
        raise OperationError(f"{', '.join(references)}: {error}") from error


def _operations(reference: str) -> list[Operation]:
    if reference.endswith(".py"):
        try:
            values: object = list(vars(load_file(existing_file(reference))).values())
        except UserCodeError as error:
            raise OperationError(f"{reference}: {error}") from error
        found = [value for value in _listed(values) if not any(value is known for known in OPERATIONS.values())]
    else:
        found = _listed(_named(reference))
    if not found:
        raise OperationError(f"{reference} has no operation: write Operation(NAME, FAMILY, FUNCTION, LATEX)")
    return found


def _named(reference: str) -> object:
    try:
        if ":" in reference:
            return load_object(reference).value
        if reference in plug_ins.plug_in_names(plug_ins.OPERATIONS):
            return plug_ins.load_plug_in(plug_ins.OPERATIONS, reference).value
    except (UserCodeError, plug_ins.PlugInError) as error:
        raise OperationError(f"{reference}: {error}") from error
    offered = ", ".join(plug_ins.plug_in_names(plug_ins.OPERATIONS)) or "none"
    raise OperationError(
        f"'{reference:.80}' names no operations; write FILE.py, FILE.py:NAME or MODULE:NAME, or a name that an "
        f"installed package offers ({offered})"
    )


def _listed(value: object) -> list[Operation]:
    entries = value if isinstance(value, list | tuple) else [value]
    found: list[Operation] = []
    for entry in entries:
        inner = entry if isinstance(entry, list | tuple) else [entry]
        found += [each for each in inner if isinstance(each, Operation) and not any(each is f for f in found)]
    return found


def as_options(spaces: Sequence[str], operations: Sequence[str]) -> str:
    """Return the options that name a user's spaces and operations, as they continue a command."""
    given = [("--space", each) for each in spaces] + [("--operations", each) for each in operations]
    return "".join(f" {option} {shlex.quote(value)}" for option, value in given)
