"""Canonical form: one formula for all that rank networks alike, as far as simple algebra can tell."""

from __future__ import annotations

import torch

from autoprox.primitives.formula import Formula, apply, constant
from autoprox.primitives.operations import MAX, OPERATIONS, TINY, Operation

#: Under this name a node remembers its settled form. It may be the node itself, so it does not travel with it.
REMEMBERED = "_settled"


def canonical(formula: Formula) -> Formula:
    """Return the formula with its algebra settled.

    Arguments of commutative operations in the order of their texts; `identity`, doubled involutions and
    idempotents, `abs` and `relu` of what cannot be negative, +0, −0, ·1 and /1 removed; operations on
    constants folded. At the root of a complete formula, strictly increasing operations and increasing
    arithmetic with constants are stripped, since they cannot change a ranking. (In floating point they can
    merge scores that differ by less than their resolution; the canonical form keeps those apart.)
    """
    root = _settled(formula)
    return _stripped(root) if root.is_complete else root


def _settled(node: Formula) -> Formula:
    """Return the settled form, which the node remembers: evolution makes a formula of others that it has settled."""
    found = node.__dict__.get(REMEMBERED)
    if found is None:
        found = _simplified(node, tuple([_settled(arg) for arg in node.args]))
        node.__dict__[REMEMBERED] = found
    return found


def _simplified(node: Formula, args: tuple[Formula, ...]) -> Formula:
    operation = node.head
    if not isinstance(operation, Operation):
        return node
    if operation.commutative and args[0].text > args[1].text:
        args = args[::-1]
    if all(arg.is_constant for arg in args):
        return _folded(operation, args)
    if operation.arity == 1:
        return _simplified_unary(operation, args[0], node)
    return _without_neutral(operation, *args) or _applied(operation, *args, node=node)


def _applied(operation: Operation, *args: Formula, node: Formula) -> Formula:
    """Return the operation on its arguments: the node itself, if these are its own."""
    if operation is node.head and args[0] is node.args[0] and args[-1] is node.args[-1]:
        return node
    return apply(operation, *args)


def _simplified_unary(operation: Operation, arg: Formula, node: Formula) -> Formula:
    inner = arg.head if isinstance(arg.head, Operation) else None
    name = _name(operation)
    if name == "identity" or (operation.idempotent and inner == operation):
        return arg
    if operation.involution and inner == operation:
        return arg.args[0]
    if name in ("abs", "relu") and inner is not None and inner.nonnegative:
        return arg
    if name in ("abs", "square") and inner is not None and _name(inner) in ("neg", "abs"):
        return _simplified_unary(operation, arg.args[0], node)
    return _applied(operation, arg, node=node)


def _name(operation: Operation) -> str:
    """Return the name of an operation of the language, whose algebra is known here; empty for any other."""
    return operation.name if OPERATIONS.has(operation) else ""


def _without_neutral(operation: Operation, a: Formula, b: Formula) -> Formula | None:
    neutral = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}.get(_name(operation))
    if neutral is None:
        return None
    if b.is_constant and b.head == neutral:
        return a
    return b if operation.commutative and a.is_constant and a.head == neutral else None


def _folded(operation: Operation, args: tuple[Formula, ...]) -> Formula:
    if operation.family not in ("map", "binary"):
        return apply(operation, *args)  # refused by the kinds: a constant has no layers
    value = float(operation.function(*(torch.tensor(arg.head, dtype=torch.float64) for arg in args)))
    return constant(value) if abs(value) <= MAX else apply(operation, *args)


def _stripped(root: Formula) -> Formula:
    """Return what is left after removing strictly increasing steps above the last one that is not."""
    while isinstance(root.head, Operation):
        inner = _increasing_argument(root)
        if inner is not None:
            root = inner
        elif isinstance(root.head, Operation) and _name(root.head) == "neg":
            return _negated(_stripped(root.args[0]))
        elif (falling := _decreasing_argument(root)) is not None:
            return _negated(_stripped(falling))
        else:
            break
    return root


def _negated(formula: Formula) -> Formula:
    if isinstance(formula.head, Operation) and _name(formula.head) == "neg":
        return formula.args[0]
    return apply(OPERATIONS["neg"], formula)


def _increasing_argument(root: Formula) -> Formula | None:
    """Return the argument that the root is a strictly increasing function of, if it is."""
    assert isinstance(root.head, Operation)
    if root.head.arity == 1:
        return root.args[0] if root.head.family == "map" and root.head.increasing else None
    a, b = root.args
    name = _name(root.head)
    if name in ("add", "sub") and b.is_constant:
        return a
    if name == "add" and a.is_constant:
        return b
    if name in ("mul", "div") and _positive(b):
        return a
    return b if name == "mul" and _positive(a) else None


def _decreasing_argument(root: Formula) -> Formula | None:
    assert isinstance(root.head, Operation)
    if root.head.arity == 1:
        return None
    a, b = root.args
    name = _name(root.head)
    if name == "sub" and a.is_constant:
        return b
    if name in ("mul", "div") and _negative(b):
        return a
    return b if name == "mul" and _negative(a) else None


def _positive(node: Formula) -> bool:
    return isinstance(node.head, float) and node.head > TINY  # less counts as zero in a division


def _negative(node: Formula) -> bool:
    return isinstance(node.head, float) and node.head < -TINY
