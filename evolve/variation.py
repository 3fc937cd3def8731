"""Variation: how random trees are grown, changed and crossed, and how parents are drawn.

The operators are those of DEAP, on DEAP's trees, with the same draws in the same order. But DEAP draws from the global
random generator, which other threads use too; these operators draw from the generator that they are given. They never
change a tree that they are given.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from deap import base, gp

from autoprox.evolve.grammar import Grammar, is_constant
from autoprox.primitives.kinds import ROLES
from autoprox.primitives.operations import MAX

#: Chance that a branch of a random tree ends before the tree's full height.
EARLY_END = 0.2

#: Chance that a constant which is changed turns its sign.
TURNED = 0.1

#: The lowest and highest new subtree of a mutation.
SUBTREE_HEIGHTS = (0, 3)


def generator(*what: object) -> random.Random:
    """Return a generator of its own for `what`, such as (seed, generation): the same on every machine."""
    return random.Random("/".join(map(str, what)))  # a string is hashed by SHA-512


def grow(grammar: Grammar, kind: type, low: int, high: int, rng: random.Random) -> list[Any]:
    """Return a random tree of a type, `low` to `high` levels high (more where the type has no lower tree).

    One height is drawn; a branch that has reached `low` may end early.
    """
    return _grown(grammar, kind, low, max(rng.randint(low, high), grammar.heights[kind]), rng)


def _grown(grammar: Grammar, kind: type, low: int, height: int, rng: random.Random) -> list[Any]:
    terminals = grammar.pset.terminals[kind]
    fitting = grammar.fitting(kind, height)
    if terminals and (not fitting or (low <= 0 and rng.random() < EARLY_END)):
        return [rng.choice(terminals)]
    node = rng.choice(fitting)
    return [node, *(n for arg in node.args for n in _grown(grammar, arg, low - 1, height - 1, rng))]


def subtree(tree: Sequence[Any], grammar: Grammar, rng: random.Random) -> gp.PrimitiveTree:
    """Return a copy of the tree with a random new subtree in the place of one (DEAP's `mutUniform`)."""
    child = gp.PrimitiveTree(tree)
    index = rng.randrange(len(child))
    place = child.searchSubtree(index)
    child[place] = grow(grammar, child[index].ret, *SUBTREE_HEIGHTS, rng)
    return child


def replace(tree: Sequence[Any], grammar: Grammar, rng: random.Random) -> gp.PrimitiveTree:
    """Return a copy of the tree with another node of the same types in the place of one below the root.

    This is DEAP's `mutNodeReplacement`.
    """
    child = gp.PrimitiveTree(tree)
    if len(child) < 2:
        return child
    index = rng.randrange(1, len(child))
    node = child[index]
    if node.arity == 0:
        child[index] = rng.choice(grammar.pset.terminals[node.ret])
    else:
        child[index] = rng.choice([p for p in grammar.pset.primitives[node.ret] if p.args == node.args])
    return child


def insert(tree: Sequence[Any], grammar: Grammar, rng: random.Random) -> gp.PrimitiveTree:
    """Return a copy of the tree with a new node above one; its other arguments are terminals (DEAP's `mutInsert`)."""
    child = gp.PrimitiveTree(tree)
    index = rng.randrange(len(child))
    kind, place = child[index].ret, child.searchSubtree(index)
    fitting = [p for p in grammar.pset.primitives[kind] if kind in p.args]
    if not fitting:
        return child
    node = rng.choice(fitting)
    position = rng.choice([number for number, arg in enumerate(node.args) if arg == kind])
    args = [
        child[place] if number == position else [rng.choice(grammar.pset.terminals[arg])]
        for number, arg in enumerate(node.args)
    ]
    child[place] = [node, *(part for arg in args for part in arg)]
    return child


def shrink(tree: Sequence[Any], grammar: Grammar, rng: random.Random) -> gp.PrimitiveTree:
    """Return a copy of the tree with one of a node's arguments in the place of the node (DEAP's `mutShrink`).

    The node is below the root and of its argument's type. A tree without one stays as it is.
    """
    child = gp.PrimitiveTree(tree)
    if len(child) < 3 or child.height <= 1:
        return child
    fitting = [index for index, node in enumerate(child) if index and node.arity and node.ret in node.args]
    if not fitting:
        return child
    index = rng.choice(fitting)
    node = child[index]
    wanted = rng.choice([number for number, arg in enumerate(node.args) if arg == node.ret])
    place = child.searchSubtree(index + 1)
    for _ in range(wanted):
        place = child.searchSubtree(place.stop)
    child[child.searchSubtree(index)] = child[place]
    return child


def other_role(tree: Sequence[Any], grammar: Grammar, rng: random.Random) -> gp.PrimitiveTree:
    """Return a copy of the tree in which one statistic, with the operations on its matrices, reads other layers.

    Only groups with as many layers in a block fit: msa and mlp, or qkv, proj, fc1 and fc2.
    """
    child = gp.PrimitiveTree(tree)
    spans = []
    for index, node in enumerate(child):
        if node.ret.__name__.startswith("Layer"):
            span = child.searchSubtree(index)
            roles = set().union(*[_roles(part.name) for part in child[span]])
            if len(roles) == 1:
                spans.append((span, roles.pop()))
    if not spans:
        return child
    span, role = rng.choice(spans)
    others = [other for other in ROLES if other != role and len(ROLES[other]) == len(ROLES[role])]
    if others:
        other = rng.choice(others)
        child[span] = [grammar.node(_with_role(node.name, role, other)) for node in child[span]]
    return child


def number(tree: Sequence[Any], grammar: Grammar, rng: random.Random) -> gp.PrimitiveTree:
    """Return a copy of the tree with a constant c of it as c · exp(z) or, one time in ten, −c · exp(z); z ~ N(0, 1).

    A constant that would leave the language's range stays. A tree without constants gets a new node, as by `insert`.
    """
    child = gp.PrimitiveTree(tree)
    places = [place for place, node in enumerate(child) if is_constant(node)]
    if not places:
        return insert(tree, grammar, rng)
    place, sign = rng.choice(places), -1.0 if rng.random() < TURNED else 1.0
    value = float(f"{sign * float(child[place].name) * math.exp(rng.gauss(0, 1)):.2g}")
    if 0 < abs(value) <= MAX:
        child[place] = grammar.number(value)
    return child


@functools.lru_cache(maxsize=2**16)
def _roles(name: str) -> frozenset[str]:
    """Return the roles that a node's name has."""
    return frozenset(role for role in ROLES if name != _with_role(name, role, ""))


def _with_role(name: str, role: str, other: str) -> str:
    """Return a node's name with another role: in `[msa]`, `[msa, noise]` and `Matrix(weight of msa)`."""
    for before, after in (("[", "]"), ("[", ","), (" of ", ")")):
        name = name.replace(f"{before}{role}{after}", f"{before}{other}{after}")
    return name


Mutation = Callable[[Sequence[Any], Grammar, random.Random], gp.PrimitiveTree]

#: The mutations by the names that a grammar's `changes` have.
MUTATIONS: dict[str, Mutation] = {
    "subtree": subtree,
    "replace": replace,
    "insert": insert,
    "shrink": shrink,
    "other_role": other_role,
    "number": number,
}


def crossover(first: gp.PrimitiveTree, second: gp.PrimitiveTree, rng: random.Random) -> gp.PrimitiveTree:
    """Return a copy of `first` with a subtree of `second` of the same type in it.

    DEAP's own typed `cxOnePoint` draws the type from a set of classes, whose order depends on what was imported
    before; here types stand in the order of the tree.
    """
    places: dict[type, list[int]] = {}
    for index, node in enumerate(first):
        places.setdefault(node.ret, []).append(index)
    donor = rng.choice([index for index, node in enumerate(second) if node.ret in places])
    place = rng.choice(places[second[donor].ret])
    child = gp.PrimitiveTree(first)
    child[first.searchSubtree(place)] = second[second.searchSubtree(donor)]
    return child


class Fit(Protocol):
    """Anything that has a fitness which can be compared."""

    fitness: base.Fitness


Fitted = TypeVar("Fitted", bound=Fit)


def tournament(individuals: Sequence[Fitted], count: int, size: int, rng: random.Random) -> list[Fitted]:
    """Return `count` individuals, each the fittest of `size` random ones (DEAP's `selTournament`)."""
    return [max((rng.choice(individuals) for _ in range(size)), key=attrgetter("fitness")) for _ in range(count)]
