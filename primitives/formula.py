"""Formula: the immutable, typed computation graph, with its JSON and networkx forms."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from autoprox.primitives.kinds import NET, FormulaError, Kind, derived_shape, matrix
from autoprox.primitives.operations import MAX, OPERATIONS, Operation
from autoprox.primitives.statistics import Terminal, terminal

if TYPE_CHECKING:
    import networkx as nx

#: Limits on what is read, so that a hostile formula costs nothing. Evolved formulas stay far below them.
MAX_DEPTH = 64
MAX_SIZE = 1000

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True, eq=False)
class Formula:
    """A node of the graph with everything below it: a constant, a terminal, or an operation on formulas.

    Two formulas are equal when their texts are and the operations behind the names are the same: those of the
    language (`built_in`) by their names, others record by record. So equal subgraphs are one key in any dict. A
    complete formula has the kind Net (`is_complete`). Build them with `parse`, `apply`, `constant` and `statistic`,
    which check kinds and raise FormulaError.
    """

    head: Operation | Terminal | float
    args: tuple[Formula, ...] = ()
    kind: Kind = NET
    text: str = field(default="")
    size: int = 1
    depth: int = 1
    built_in: bool = True

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Formula)
            and self.text == other.text
            and self.kind == other.kind
            and self.built_in is other.built_in
            and (self.built_in or (self.head == other.head and self.args == other.args))
        )

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        head = self.head
        # An operation of the language goes by its name, so that it is the same object on the other side.
        sent = head.name if isinstance(head, Operation) and OPERATIONS.has(head) else head
        return _received, (sent, self.args, self.kind, self.text, self.size, self.depth, self.built_in)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"

    @property
    def is_complete(self) -> bool:
        """Return whether it is one number for the network, read from the network (a bare number is not)."""
        return self.kind == NET and not self.is_closed

    @cached_property
    def is_closed(self) -> bool:
        """Return whether it reads no statistic: a number, or arithmetic on numbers."""
        return not isinstance(self.head, Terminal) and all(arg.is_closed for arg in self.args)

    @property
    def is_constant(self) -> bool:
        """Return whether it is a number."""
        return isinstance(self.head, float)

    def nodes(self) -> tuple[Formula, ...]:
        """Return every distinct subformula once, arguments before what uses them."""
        return self._nodes

    @cached_property
    def _nodes(self) -> tuple[Formula, ...]:
        found: dict[Formula, None] = {}

        def walk(node: Formula) -> None:
            if node not in found:
                for arg in node.args:
                    walk(arg)
                found[node] = None

        walk(self)
        return tuple(found)

    def terminals(self) -> tuple[Terminal, ...]:
        """Return the statistics it reads, in order of first use."""
        return self._terminals

    @cached_property
    def _terminals(self) -> tuple[Terminal, ...]:
        return tuple(node.head for node in self._nodes if isinstance(node.head, Terminal))

    def rebuilt(self, replace: Mapping[Formula, Formula]) -> Formula:
        """Return the same formula with some subformulas replaced."""
        if self in replace:
            return replace[self]
        if not self.args:
            return self
        assert isinstance(self.head, Operation)
        return apply(self.head, *(arg.rebuilt(replace) for arg in self.args))

    @property
    def latex(self) -> str:
        """Return LaTeX source, for math mode."""
        if isinstance(self.head, Operation):
            parts = [_latex_argument(self.head, position, arg) for position, arg in enumerate(self.args)]
            return self.head.latex.format(*parts)
        if isinstance(self.head, Terminal):
            return self.head.latex
        return number_text(self.head)

    def to_json(self) -> dict[str, Any]:
        """Return `{"nodes": [...], "root": i}`: each distinct node once, arguments by index; no code, names only."""
        index: dict[Formula, int] = {}
        nodes: list[dict[str, Any]] = []
        for node in self.nodes():
            if isinstance(node.head, Operation):
                entry: dict[str, Any] = {"op": node.head.name, "args": [index[arg] for arg in node.args]}
            elif isinstance(node.head, Terminal):
                name, marks = node.head.marked
                entry = {"statistic": name, "marks": list(marks)}
            else:
                entry = {"constant": node.head}
            index[node] = len(nodes)
            nodes.append(entry)
        return {"nodes": nodes, "root": index[self]}

    def graph(self) -> nx.DiGraph:
        """Return the computation graph: arguments point to what uses them.

        Nodes are numbered, carry `label` and `kind`; edges carry `position`, a list because `mul(x, x)`
        uses one argument twice. The root is the last node.
        """
        import networkx as nx  # here, because it takes half a second, and few want the graph

        graph = nx.DiGraph(formula=self.text)
        index: dict[Formula, int] = {}
        for node in self.nodes():
            index[node] = len(index)
            label = node.head.name if isinstance(node.head, Operation) else node.text
            graph.add_node(index[node], label=label, kind=str(node.kind))
            for position, arg in enumerate(node.args):
                edge = (index[arg], index[node])
                if graph.has_edge(*edge):
                    graph.edges[edge]["position"].append(position)
                else:
                    graph.add_edge(*edge, position=[position])
        return graph


def _received(head: Operation | Terminal | float | str, *fields: Any) -> Formula:
    """Return the formula that was sent; what it remembered, with names that begin with _, is found again when needed.

    Nothing is checked again, and nothing goes through `__init__`: evolution sends tens of thousands.
    """
    found = object.__new__(Formula)
    found.__dict__.update(zip(_FIELDS, (OPERATIONS[head] if isinstance(head, str) else head, *fields), strict=True))
    return found


_FIELDS = tuple(each.name for each in dataclasses.fields(Formula))


def _latex_bond(node: Formula) -> str:
    """Tell what the LaTeX of a node is to its surroundings: a sum, a product, a prefix to an argument, or closed."""
    if not isinstance(node.head, Operation):
        return "sum" if isinstance(node.head, float) and node.head < 0 else "closed"
    template = node.head.latex
    if template == "{0}":
        return _latex_bond(node.args[0])
    if template.startswith("-") or node.head.infix in ("+", "-"):
        return "sum"
    if all(_enclosed(template, position) for position in range(len(node.args))):
        return "closed"
    return "prefix" if template.endswith("{0}") else "product"


def _enclosed(template: str, position: int) -> bool:
    before = template.split(f"{{{position}}}")[0]
    return before.count(r"\left") > before.count(r"\right") or before.count("{{") > before.count("}}")


def _latex_argument(operation: Operation, position: int, arg: Formula) -> str:
    """Return the argument, in brackets where the reader could take it to end elsewhere."""
    template = operation.latex
    if _enclosed(template, position) or template == "{0}":
        clear = {"sum", "product", "prefix", "closed"}
    elif operation.infix in ("+", "-") or template.startswith("-"):
        clear = {"product", "prefix", "closed"} | ({"sum"} if operation.infix and position == 0 else set())
    elif template.endswith("{0}"):
        clear = {"prefix", "closed"}
    else:
        clear = {"closed"} | ({"product"} if operation.infix == "*" and position == 0 else set())
    return arg.latex if _latex_bond(arg) in clear else rf"\left({arg.latex}\right)"


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number: 2, -0.5, 1e-06."""
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def constant(value: float) -> Formula:
    """Make the formula of a number, which combines with values of any kind.

    Raises:
        FormulaError: the number is not finite, or its magnitude is above 1e30.
    """
    if not abs(value) <= MAX:  # not a number neither
        raise FormulaError(f"the constant {reprlib.repr(value)} is not a finite number of magnitude at most 1e30")
    value = float(value) + 0.0  # no negative zero: it would print as 0
    return Formula(head=value, text=number_text(value))


def statistic(name: str, *marks: str) -> Formula:
    """Make the formula of a terminal: `statistic("weight_grad", "msa", "noise")`."""
    head = terminal(name, *marks)
    return Formula(head=head, kind=head.kind, text=str(head))


def apply(operation: Operation, *args: Formula) -> Formula:
    """Apply the operation to its arguments.

    Raises:
        FormulaError: the number or kinds of the arguments do not fit, or the formula is too large or too deep.
    """
    if len(args) != operation.arity:
        raise FormulaError(
            f"'{operation.name}' takes {operation.arity} argument{'s' * (operation.arity > 1)}, not {len(args)}"
        )
    size, depth = 1 + args[0].size, 1 + args[0].depth
    if len(args) == 2:
        size, depth = size + args[1].size, max(depth, 1 + args[1].depth)
    if size > MAX_SIZE:
        raise FormulaError(f"the formula has more than {MAX_SIZE} nodes")
    if depth > MAX_DEPTH:
        raise FormulaError(f"the formula is more than {MAX_DEPTH} levels deep")
    kind = result_kind(operation, args)
    built_in = OPERATIONS.has(operation) and args[0].built_in and args[-1].built_in
    return Formula(operation, args, kind, _text(operation, args), size, depth, built_in)


def result_kind(operation: Operation, args: Sequence[Formula]) -> Kind:
    """Return the kind of the operation's value on these arguments.

    Raises:
        FormulaError: the arguments' kinds do not fit.
    """
    first = args[0].kind
    match operation.family:
        case "map":
            return first
        case "normalise" if first.level == "matrix":
            return first
        case "derive" if first.level == "matrix" and (first.stacked or not operation.per_sample):
            return matrix(derived_shape(first.shape, operation.derives), first.role)
        case "product" if first.level == "matrix" and first == args[1].kind:
            return matrix(derived_shape(first.shape, operation.derives), first.role)
        case "spectrum" if first.level == "matrix" and (first.stacked or not operation.per_sample):
            return first.reduced
        case "reduce" if first != NET:
            return first.reduced
        case "along_depth" if first.level == "layer":
            return first
        case "aggregate" if first.level == "layer":
            return NET
        case "binary":
            return _combined_kind(operation, *args)
    wanted = (
        "a matrix with samples or mini-batches in its rows"
        if operation.per_sample
        else {
            "product": "two matrices of one shape and role",
            "reduce": "a matrix or numbers per layer",
            "along_depth": "numbers per layer",
            "aggregate": "numbers per layer",
        }.get(operation.family, "a matrix")
    )
    raise FormulaError(f"'{operation.name}' takes {wanted}, not {' and '.join(str(arg.kind) for arg in args)}")


def _combined_kind(operation: Operation, a: Formula, b: Formula) -> Kind:
    if a.kind is b.kind or a.kind == b.kind:  # mostly one object: asking that is fast
        return a.kind
    for one, other in ((a, b), (b, a)):
        if one.kind == NET and (other.kind.level == "layer" or one.is_closed):
            return other.kind
    fix = "reduce the matrices first" if "matrix" in (a.kind.level, b.kind.level) else "aggregate over layers first"
    raise FormulaError(f"'{operation.name}' cannot combine {a.kind} with {b.kind}: {fix}, or use one role")


def _text(operation: Operation, args: Sequence[Formula]) -> str:
    if not operation.infix:
        return f"{operation.name}({', '.join(arg.text for arg in args)})"
    level = _PRECEDENCE[operation.infix]
    left, right = (_precedence(arg) for arg in args)
    a = f"({args[0].text})" if left < level else args[0].text
    b = f"({args[1].text})" if right <= level else args[1].text
    return f"{a} {operation.infix} {b}"


def _precedence(node: Formula) -> int:
    return _PRECEDENCE.get(node.head.infix, 3) if isinstance(node.head, Operation) else 3


def from_json(data: object, operations: Mapping[str, Operation] = OPERATIONS) -> Formula:
    """Read what `Formula.to_json` wrote.

    Raises:
        FormulaError: a node is wrong; the message says which.
    """
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), list) or not data["nodes"]:
        raise FormulaError('a formula in JSON is {"nodes": [...], "root": index}')
    if len(data["nodes"]) > MAX_SIZE:
        raise FormulaError(f"the formula has more than {MAX_SIZE} nodes")
    built: list[Formula] = []
    for number, entry in enumerate(data["nodes"]):
        try:
            built.append(_node_from_json(entry, built, operations))
        except FormulaError as error:
            raise FormulaError(f"node {number}: {error}") from None
    root = data.get("root")
    if type(root) is not int or not 0 <= root < len(built):
        raise FormulaError(f"the root {reprlib.repr(root)} is not the index of a node")
    return built[root]


def _node_from_json(entry: object, built: Sequence[Formula], operations: Mapping[str, Operation]) -> Formula:
    match entry:
        case {"op": str(name), "args": list(args)}:
            if name not in operations:
                raise FormulaError(f"unknown operation {reprlib.repr(name)}")
            if not all(type(i) is int and 0 <= i < len(built) for i in args):
                raise FormulaError(f"arguments {reprlib.repr(args)} are not indices of earlier nodes")
            return apply(operations[name], *(built[i] for i in args))
        case {"statistic": str(name), "marks": list(marks)} if all(isinstance(mark, str) for mark in marks):
            return statistic(name, *marks)
        case {"constant": float() | int() as value} if not isinstance(value, bool):
            return constant(value)
    raise FormulaError(f"{reprlib.repr(entry)} is neither an operation, a statistic nor a constant")
