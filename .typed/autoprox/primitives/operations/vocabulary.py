"""Vocabulary: the operations that a formula may use, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from autoprox.primitives.operations.proof import prove_total
from autoprox.primitives.operations.record import DERIVED, FAMILIES, SIGNS, Operation, OperationError


class Vocabulary(Mapping[str, Operation]):
    """The operations a formula may use, by name; immutable. `extended` makes a larger one.

    Making one runs every new operation on hard inputs (0, ±1, ±MAX, ±TINY, one entry, one row, one column)
    and refuses it with OperationError if anything but finite numbers of the right shape comes out, if a batch
    does not give what its members give one by one, or if a property that its record states does not hold.
    """

    def __init__(self, *operations: Operation, proven: bool = False) -> None:
        """Admit the operations; with `proven`, without running them, because a test has shown that they are total."""
        self._by_name: dict[str, Operation] = {}
        for operation in operations:
            self._admit(operation, proven)

    def extended(self, *operations: Operation) -> Vocabulary:
        """Return this vocabulary with the given operations, which are checked and may not reuse a name."""
        larger = Vocabulary()
        larger._by_name = dict(self._by_name)
        for operation in operations:
            larger._admit(operation, proven=False)
        return larger

    def has(self, operation: Operation) -> bool:
        """Return whether this very record is in the vocabulary: another of its name is another operation."""
        return self._by_name.get(operation.name) is operation

    def _admit(self, operation: Operation, proven: bool) -> None:
        name, told = operation.name, f"operation '{operation.name}'"
        if not (name.isidentifier() and name.isascii()):
            raise OperationError(f"operation name {name!r} is not an identifier")
        if name in self._by_name:
            raise OperationError(f"there is already an operation '{name}'")
        if operation.family not in FAMILIES:
            raise OperationError(f"{told}: family {operation.family!r} is not one of {', '.join(FAMILIES)}")
        if operation.family in ("derive", "product") and operation.derives not in DERIVED:
            raise OperationError(f"{told}: derives {operation.derives!r} is not one of {', '.join(DERIVED)}")
        if operation.infix not in ("", *SIGNS) or SIGNS.get(operation.infix, name) != name:
            raise OperationError(f"{told}: the sign {operation.infix!r} is not its own")
        _check_template(told, operation)
        if not proven:
            prove_total(operation)
        self._by_name[name] = operation

    def __getitem__(self, name: str) -> Operation:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def _check_template(told: str, operation: Operation) -> None:
    """Check that the words are a template that has each argument, and nothing else to fill in."""
    arguments = tuple(f"<{position}>" for position in range(operation.arity))
    try:
        text = operation.in_words.format(*arguments)
    except (IndexError, KeyError, ValueError):
        text = ""
    if not all(argument in text for argument in arguments):
        places = " and ".join(f"{{{position}}}" for position in range(operation.arity))
        raise OperationError(f"{told}: the words {operation.words!r} must have {places}, and no other braces")
