"""Grammars: which formulas evolution may write, as DEAP primitive sets.

A tree is a `gp.PrimitiveTree`: a list of nodes in prefix order. Node names say operation and kind, for example
`abs: Matrix(weight of msa)`, so a tree is saved as its names and read back by looking them up; nothing is evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deap import gp

from autoprox.primitives.evaluate import is_readable
from autoprox.primitives.formula import Formula, apply, constant, result_kind, statistic
from autoprox.primitives.kinds import NET, ROLES, FormulaError, Kind
from autoprox.primitives.operations import AUTO_PROX_BINARIES, AUTO_PROX_UNARIES, OPERATIONS, Operation
from autoprox.primitives.statistics import STATISTICS

#: Matrices that formulas read: statistic and probe.
Matrices = tuple[tuple[str, str], ...]


def terminals(probe: str, steps: int = 0) -> Matrices:
    """Return the matrices that evolved formulas read: (statistic, probe), kept on disk for each network.

    `probe` is `data` where every benchmark has images, else `noise`. With `steps`, the same are also read after so many
    steps of training.
    """
    after = [(name, f"steps{steps}") for name in ("weight", "weight_grad", "act", "act_grad", "attn") if steps]
    return (
        ("weight", ""),
        ("weight_grad", probe),
        ("weight_grad", "synflow"),
        ("act", probe),
        ("act_grad", probe),
        ("attn", probe),
        *after,
    )


#: The statistics that are numbers and that evolution draws, in the order of the table.
LAYER_TERMINALS, NET_TERMINALS = (
    tuple(name for name, each in STATISTICS.items() if each.level == level and each.drawn) for level in ("layer", "net")
)
CONSTANTS = (-1.0, 0.5, 2.0, 3.0)

#: No evolved tree is taller than this.
MAX_HEIGHT = 9
#: No evolved tree is larger, where nothing is said.
MAX_NODES = 40

#: The name of the type that constants have.
_CONSTANT_TYPE = "Constant"

#: How many subformulas a grammar remembers. When one node of a tree changes, the others are not built again.
REMEMBERED = 100_000

Builder = Callable[..., Formula]


@dataclass(frozen=True)
class Grammar:
    """A grammar: a primitive set, how its nodes become formulas, and the mutations that vary its trees.

    `builders[name]` makes a node's formula from the formulas of its arguments. `heights[type]` is the height of the
    lowest tree of a type. `changes` are the mutations, drawn with equal odds. `operations` is the vocabulary that it
    draws from, and `matrices` are those that it reads: statistic and probe.
    """

    name: str
    pset: gp.PrimitiveSetTyped
    builders: Mapping[str, Builder]
    heights: Mapping[type, int]
    changes: tuple[str, ...]
    operations: Mapping[str, Operation]
    matrices: Matrices = ()
    _built: dict[tuple[str | int, ...], Formula] = field(default_factory=dict, repr=False, compare=False)
    _fitting: dict[tuple[type, int], list[gp.Primitive]] = field(default_factory=dict, repr=False, compare=False)

    def formula(self, tree: Sequence) -> Formula:
        """Return the formula that a tree stands for."""
        if len(self._built) > REMEMBERED:
            self._built.clear()
        stack: list[Formula] = []
        for node in reversed(tree):
            args = [stack.pop() for _ in range(node.arity)]
            key = (node.name, *map(id, args))  # the arguments are remembered too, so no other has their id
            found = self._built.get(key)  # most of a tree is its parent's
            if found is None:
                build = self.builders.get(node.name)
                found = self._built[key] = build(*args) if build else constant(float(node.name))
            stack.append(found)
        return stack.pop()

    def tree(self, formula: Formula) -> list[gp.Primitive | gp.Terminal] | None:
        """Return a tree that stands for the formula, up to the order of arguments; None where the grammar has none."""
        if formula.is_constant:
            return [self.node(formula.text)]
        operation = formula.head
        if not isinstance(operation, Operation):
            return [self.pset.mapping[formula.text]] if formula.text in self.pset.mapping else None
        for args in (formula.args, formula.args[::-1]) if operation.commutative else (formula.args,):
            name = f"{operation.name}: {', '.join(_type_name(_CONSTANT if a.is_constant else a.kind) for a in args)}"
            if name in self.builders:
                trees = [self.tree(arg) for arg in args]
                return None if None in trees else [self.pset.mapping[name], *(n for tree in trees for n in tree or ())]
        return None

    def node(self, name: str) -> gp.Primitive | gp.Terminal:
        """Return the node of a name; the name of a number that the primitive set lacks is a constant of its own.

        Raises:
            FormulaError: the grammar has no such node.
        """
        if name in self.pset.mapping:
            return self.pset.mapping[name]
        kind = next((kind for kind in self.heights if kind.__name__ == _CONSTANT_TYPE), None)
        try:
            text = constant(float(name)).text
        except ValueError:  # FormulaError is one
            text = ""
        if kind is None or text != name:
            raise FormulaError(f"grammar {self.name} has no node '{name[:60]}'")
        return gp.Terminal(name, True, kind)

    def number(self, value: float) -> gp.Terminal:
        """Return the node of a constant.

        Raises:
            FormulaError: the grammar has no constants, or the number is out of range.
        """
        return self.node(constant(value).text)

    def fitting(self, kind: type, height: int) -> list[gp.Primitive]:
        """Return the primitives of a type that can stand at the root of a tree of this height, or of a lower one."""
        found = self._fitting.get((kind, height))
        if found is None:
            found = self._fitting[kind, height] = [
                primitive
                for primitive in self.pset.primitives[kind]
                if 1 + max(self.heights[arg] for arg in primitive.args) <= height
            ]
        return found

    def uses(self, operation: str) -> bool:
        """Return whether a node of the grammar applies the operation of this name to some kind."""
        return any(name.startswith(f"{operation}: ") for name in self.builders)

    def read(self, names: Sequence[str]) -> gp.PrimitiveTree:
        """Return the tree whose nodes have these names, in prefix order.

        Raises:
            FormulaError: the names are not those of one complete tree of this grammar.
        """
        nodes = [self.node(name) for name in names]
        open_types = [self.pset.ret]
        for node in nodes:
            if not open_types or open_types.pop() is not node.ret:
                raise FormulaError(f"'{' '.join(names)[:80]}' is not one tree of grammar {self.name}")
            open_types += reversed(getattr(node, "args", ()))
        if open_types:
            raise FormulaError(f"'{' '.join(names)[:80]}' is not a whole tree of grammar {self.name}")
        return gp.PrimitiveTree(nodes)


def is_constant(node: gp.Primitive | gp.Terminal) -> bool:
    """Return whether a node of a tree is a number."""
    return node.arity == 0 and node.ret.__name__ == _CONSTANT_TYPE


def height(tree: Sequence[gp.Primitive | gp.Terminal]) -> int:
    """Return how many levels a tree has above its lowest (DEAP's `PrimitiveTree.height`)."""
    heights: list[int] = []
    for node in reversed(tree):
        if node.arity == 0:
            heights.append(0)
        elif node.arity == 1:
            heights[-1] += 1
        else:
            heights[-node.arity :] = [1 + max(heights[-node.arity :])]
    return heights[0]


#: The name of the grammar over the columns of a benchmark's table; see `tabular`.
TABULAR = "tabular"


def tabular(table: Sequence[Formula], operations: Mapping[str, Operation] = OPERATIONS) -> Grammar:
    """Return the grammar that combines numbers which are known of a network, such as the scores of proxies.

    `table` has statistics of the network: columns of a table, params, and so on. The grammar combines them and
    constants by every operation on numbers of the network, as symbolic regression does.
    """
    build = _Builder(TABULAR, str(NET), (), operations)
    for formula in table:
        build.terminal(formula.text, str(NET), formula)
    _add_constants(build)
    _add_operations(build, [NET], operations)
    return build.grammar(("subtree", "subtree", "replace", "replace", "insert", "shrink", "number", "number"))


def grammar(
    name: str,
    operations: Mapping[str, Operation] = OPERATIONS,
    *,
    costly: bool = False,
    probe: str = "noise",
    steps: int = 0,
    convolutional: Collection[bool] = (False,),
) -> Grammar:
    """Return the grammar by name: `typed`, all kinds of the language, or `auto-prox`, the genotype of arXiv 2312.09059.

    `probe` and `steps` say which `terminals` it has. Without `costly`, operations that are cubic in the width (singular
    values, Gram matrices) are left out. Formulas read what all networks have, `convolutional` (True) and transformers
    (False).

    Raises:
        ValueError: there is no grammar of this name.
    """
    if name not in GRAMMARS:
        raise ValueError(f"unknown grammar '{name}'; there are {', '.join(GRAMMARS)}")
    allowed = {n: o for n, o in operations.items() if costly or not o.costly}
    return _GRAMMARS[name](allowed, terminals(probe, steps), convolutional)


class _Builder:
    """A grammar in the making. Each kind has a Python class of its own, because DEAP's typed trees need one."""

    def __init__(self, name: str, returns: str, matrices: Matrices, operations: Mapping[str, Operation]) -> None:
        self.matrices, self.operations = matrices, operations
        self.types: dict[str, type] = {}
        self.pset = gp.PrimitiveSetTyped(name, [], self.type(returns))
        self.builders: dict[str, Builder] = {}

    def type(self, name: str) -> type:
        return self.types.setdefault(name, type(name, (), {}))

    def primitive(self, name: str, args: Sequence[str], returns: str, builder: Builder) -> None:
        self.pset.addPrimitive(builder, [self.type(arg) for arg in args], self.type(returns), name)
        self.builders[name] = builder

    def terminal(self, name: str, returns: str, formula: Formula) -> None:
        self.pset.addTerminal(formula, self.type(returns), name)
        self.builders[name] = lambda: formula

    def grammar(self, changes: tuple[str, ...]) -> Grammar:
        heights = dict.fromkeys((t for t in self.types.values() if self.pset.terminals[t]), 0)
        while True:  # each turn finds the lowest trees of the types whose arguments are known by now
            found = {
                kind: 1 + min(max(heights[arg] for arg in p.args) for p in usable)
                for kind in self.types.values()
                if kind not in heights
                and (usable := [p for p in self.pset.primitives[kind] if all(arg in heights for arg in p.args)])
            }
            if not found:
                return Grammar(
                    self.pset.name, self.pset, self.builders, heights, changes, self.operations, self.matrices
                )
            heights.update(found)


def _typed(operations: Mapping[str, Operation], matrices: Matrices, convolutional: Collection[bool]) -> Grammar:
    """Return the grammar of every operation on every kind it takes, matrices by shape and role."""
    build = _Builder("typed", str(NET), matrices, operations)
    read = [(k, f) for k, f in _typed_terminals(matrices) if all(is_readable(f, each) for each in convolutional)]
    for kind, formula in read:
        build.terminal(str(formula), str(kind), formula)
    _add_constants(build)
    _add_operations(build, dict.fromkeys(kind for kind, _ in read), operations)
    return build.grammar(("subtree", "subtree", "replace", "replace", "insert", "shrink", "other_role"))


def _add_constants(build: _Builder) -> None:
    for value in CONSTANTS:
        build.terminal(constant(value).text, _CONSTANT_TYPE, constant(value))


def _add_operations(build: _Builder, first: Iterable[Kind], operations: Mapping[str, Operation]) -> None:
    """Add the operations on the first kinds, then those on the kinds that they return, and so on."""
    kinds, done = list(first), set[Kind]()
    while kinds:
        kind = kinds.pop(0)
        if kind in done:
            continue
        done.add(kind)
        for operation in operations.values():
            for args, builder in _typings(operation, kind):
                returned = result_kind(operation, [_stand_in(arg) for arg in args])
                label = f"{operation.name}: {', '.join(_type_name(arg) for arg in args)}"
                build.primitive(label, [_type_name(arg) for arg in args], str(returned), builder)
                kinds.append(returned)


def _typed_terminals(matrices: Matrices) -> Iterable[tuple[Kind, Formula]]:
    for name, probe in matrices:
        marks = [[role, probe] for role in ROLES] if STATISTICS[name].takes_role else [[probe]]
        for mark in marks:
            formula = statistic(name, *filter(None, mark))
            yield formula.kind, formula
    for name in LAYER_TERMINALS:
        for role in ROLES:
            yield statistic(name, role).kind, statistic(name, role)
    for name in NET_TERMINALS:
        yield NET, statistic(name)


#: The kind that stands for constants. They combine with layers and nets only, because scaling a matrix rarely matters.
_CONSTANT = Kind("constant")


def _type_name(kind: Kind) -> str:
    return _CONSTANT_TYPE if kind == _CONSTANT else str(kind)


def _stand_in(kind: Kind) -> Formula:
    """Return some formula of the kind, so that `result_kind` can be asked about the kind."""
    return constant(2.0) if kind == _CONSTANT else Formula(head=statistic("params").head, kind=kind, text="x")


#: The shapes with a row for each token of each sample. Their Gram matrices grow with the square of these, and would
#: take most of the time of a run.
BY_SAMPLE = ("act", "attn")


def _typings(operation: Operation, kind: Kind) -> Iterable[tuple[tuple[Kind, ...], Builder]]:
    """Yield the kinds of arguments on which the grammar uses the operation; the first of them is `kind`."""
    derived = "." in kind.shape
    if operation.derives == "gram" and kind.shape in BY_SAMPLE:
        return
    if operation.arity == 1:
        candidates: list[tuple[Kind, ...]] = [(kind,)]
        if operation.name == "identity" or (derived and operation.family == "derive"):
            return
        if operation.family == "spectrum" and kind.shape.endswith(".gram"):
            return  # the squares of singular values that it has of the matrix itself
    else:
        candidates = [] if derived else [(kind, kind)]
        if operation.family == "binary" and kind.level != "matrix":
            candidates.append((kind, _CONSTANT))
        if operation.family == "binary" and kind.level == "layer":
            candidates.append((kind, NET))
    for args in candidates:
        try:
            result_kind(operation, [_stand_in(arg) for arg in args])
        except FormulaError:
            continue
        yield args, functools.partial(apply, operation)


def _auto_prox(operations: Mapping[str, Operation], matrices: Matrices, convolutional: Collection[bool]) -> Grammar:
    """Return Auto-Prox's grammar: two inputs, two unaries each, one binary, mean over layers (arXiv 2312.09059).

    An input is one tensor for each linear layer. The two unaries act on that tensor, and a result that is still a
    tensor is averaged. Where the first unary gives a number, the second is an element-wise one. The binary acts on the
    two numbers of a layer. Inputs are of all layers, which networks of every kind have.
    """
    build = _Builder("auto-prox", "Net", matrices, operations)
    unaries = [operations[name] for name in dict.fromkeys(AUTO_PROX_UNARIES)]
    average, binaries = operations["mean"], [operations[name] for name in dict.fromkeys(AUTO_PROX_BINARIES)]
    for name, of in matrices:
        if STATISTICS[name].takes_role:
            build.terminal(str(statistic(name, *filter(None, [of]))), "Input", statistic(name, *filter(None, [of])))
    for op in unaries:
        reduces = op.family in ("reduce", "spectrum")
        build.primitive(f"first {op.name}", ["Input"], "Number" if reduces else "Tensor", functools.partial(apply, op))
        if reduces:
            build.primitive(f"second {op.name}", ["Tensor"], "Side", functools.partial(apply, op))
            continue
        build.primitive(f"second {op.name}, averaged", ["Tensor"], "Side", _averaged(average, op))
        if op.family == "map":
            build.primitive(f"second {op.name} of a number", ["Number"], "Side", functools.partial(apply, op))
    for op in binaries:
        build.primitive(op.name, ["Side", "Side"], "Layers", functools.partial(apply, op))
    build.primitive("mean over layers", ["Layers"], "Net", functools.partial(apply, average))
    return build.grammar(("subtree", "replace"))  # a type stands at one level: nothing to insert or shrink


def _averaged(average: Operation, op: Operation) -> Builder:
    return lambda arg: apply(average, apply(op, arg))


_GRAMMARS = {"typed": _typed, "auto-prox": _auto_prox}
#: The grammars over networks, by name.
GRAMMARS = tuple(_GRAMMARS)
