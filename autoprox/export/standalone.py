"""Standalone: a proxy as one Python file that needs only torch."""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from autoprox import __version__
from autoprox.export.needs import LAYER, NET, Needs, matrix_text, quoted, samples_text
from autoprox.export.snippets import LINE, functions, reading_lines
from autoprox.export.sources import Definition, Import, SourceError, bundle, call_text
from autoprox.primitives import Formula, Operation, Terminal
from autoprox.primitives.capture import unmasked
from autoprox.primitives.evaluate import matrix_reductions
from autoprox.primitives.flops import count_flops
from autoprox.primitives.kinds import role_slots
from autoprox.proxy import Proxy
from autoprox.scoring import AT_LIMIT, LIMIT

_CALL = 80  # characters of the longest call on one line
_INLINE = 48  # characters of the longest argument that stays inside its call

#: The variables of `score` that are called the same in every file.
_LOCALS = frozenset(
    ["model", "inputs", "targets", "layers", "seed", "blocks", "linears", "softmaxes", "weights", "checked"]
    + ["generator", "classes", "gaussian", "halves", "half", "column", "slot", "row", "block", "_"]
    + [f"{probe}{end}" for probe in ("data", "noise", "synflow") for end in ("", "_halves")]
)

_SIGNATURE = '''\
def score(model: torch.nn.Module, inputs=None, targets=None, layers=None, seed: int = 0) -> float:
    """Return the proxy's value on an untrained model, which is left as it was; higher is better.

'''

_LAYERS_DOC = '''\
    `layers` names each block's layers, [{"qkv": PATH, "proj": PATH, "fc1": PATH, "fc2": PATH}, ...]; timm's are found.
    """
'''

_RUN = """\
    `inputs` is a batch, samples first; `targets` its class numbers, or else random ones are drawn from `seed`.
"""

_NO_RUN = """\
    The network is not run: `inputs`, `targets` and `seed` are not used.
"""


def to_python(proxy: Proxy) -> str:
    """Return the source of a module whose `score(model, inputs, targets, layers, seed)` gives the proxy's scores.

    It imports torch and the standard library.

    Raises:
        SourceError: an operation has no source that can be written into the file, a statistic cannot be read there, or
            the formula reads columns of a table.
    """
    for terminal in proxy.formula.terminals():
        if terminal.statistic.column:
            raise SourceError(
                f"the formula reads {terminal}, which is of a benchmark's table: a file cannot compute it from a "
                "model; export it to text, latex, json, dot or svg"
            )
    needs = Needs(proxy.formula)
    helpers = functions(needs)
    defined = [node for text in helpers for node in ast.parse(text).body]
    named = {node.name for node in defined if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    operations = [node.head.function for node in proxy.formula.nodes() if isinstance(node.head, Operation)]
    for name in sorted(_LOCALS.intersection(map(call_text, operations))):
        raise SourceError(f"the function '{name}' has the name of a variable of the exported file: rename it")
    taken = ("score", "SLOTS", *sorted(named))
    helpful = ((unmasked, "attn_logits" in needs.names), (count_flops, needs.counts))
    helped = [function for function, wanted in helpful if wanted]
    sources = bundle([*operations, *helped], _imports("\n".join(helpers)), taken=taken)
    lines = [f"    {line}" for line in reading_lines(needs)]
    body = "\n".join([*lines, *_body(proxy.formula, needs, sources.names)])
    if "SLOTS" not in body + "".join(helpers):
        needs.slots = ()
    score = _SIGNATURE + (_RUN if needs.batch else _NO_RUN) + _LAYERS_DOC + body
    head = [_docstring(proxy, needs.batch), imports_text(sources.imports)]
    if needs.slots:
        slots = ", ".join(map(quoted, needs.slots)) + "," * (len(needs.slots) == 1)
        head.append(f"SLOTS = ({slots})  # the linear layers of a block that the formula reads")
    return "\n\n\n".join(["\n\n".join(head), score, *helpers, *definitions_text(sources.definitions)]) + "\n"


def _imports(code: str) -> Iterator[Import]:
    """Yield the imports that the file's own functions need."""
    yield Import("__future__", "annotations", "annotations")
    yield Import("torch", "", "torch")
    for name, module in (
        ("Tensor", "torch"),
        ("Callable", "collections.abc"),
        ("Iterable", "collections.abc"),
        ("Iterator", "collections.abc"),
        ("contextmanager", "contextlib"),
        ("TorchFunctionMode", "torch.overrides"),
        ("SDPBackend", "torch.nn.attention"),
        ("sdpa_kernel", "torch.nn.attention"),
    ):
        if re.search(rf"\b{name}\b", code):
            yield Import(module, name, name)
    if "random.seed(" in code:
        yield Import("random", "", "random")


def _body(formula: Formula, needs: Needs, taken: Iterable[str]) -> Iterator[str]:
    """Yield the lines of `score` that compute the formula: the numbers of layers, then those of the network."""
    names = _Names({*taken, *_LOCALS})
    tables: dict[Formula, str] = {}
    reductions = matrix_reductions(formula)
    if reductions:
        yield ""
        yield "    # One number for each layer: a row for each block, a column for each of its layers."
    for role in dict.fromkeys(_role(reduction) for reduction in reductions):
        group = [reduction for reduction in reductions if _role(reduction) == role]
        slots = role_slots(role)
        for reduction in group:
            tables[reduction] = names.fresh(_stem(reduction))
            yield f"    {tables[reduction]} = torch.empty(len(blocks), {len(slots)}, dtype=torch.float64)"
        yield f"    for column, slot in enumerate({needs.slots_text(slots)}):"
        lines = list(_matrix_lines(group, needs, tables, names))
        whole = any("block[" in line for line in lines)
        yield f"        for {'row, block in enumerate(blocks)' if whole else 'row in range(len(blocks))'}:"
        yield from (f"            {line}" for line in lines)
    *lines, text = _network_lines(formula, needs, tables, names)
    if lines:
        yield ""
        yield "    # One number for the network."
    yield from (f"    {line}" for line in lines)
    yield from _checked_value(names.usable("value"), f"float({text})")


def _checked_value(name: str, text: str) -> Iterator[str]:
    """Yield the lines that return the value, unless it is where formulas stop."""
    line = f"    if abs({name} := {text}) >= {LIMIT} * (1 - 1e-9):"
    if len(line) > LINE:
        yield f"    {name} = {text}"
        line = line.replace(f"{name} := {text}", name)
    yield line
    yield f'        raise ProxyError("no score: {AT_LIMIT}")'
    yield f"    return {name}"


def _role(reduction: Formula) -> str:
    return next(arg.kind.role for arg in reduction.args if arg.kind.level == "matrix")


def _matrix_lines(
    group: Sequence[Formula], needs: Needs, tables: Mapping[Formula, str], names: _Names
) -> Iterator[str]:
    """Yield the lines that reduce the matrices of one layer to a number for each reduction of the group."""
    lines = _Lines(names, group, {})
    for node in dict.fromkeys(node for reduction in group for node in reduction.nodes()):
        if isinstance(node.head, Terminal):
            name, probe = node.head.statistic.name, node.head.probe
            if name == "weight" and needs.checked_slots:
                lines.names[node] = "checked[row][slot]"
                continue
            stem = name if probe in ("", "data") else f"{name}_{probe}"
            lines.assign(node, names.usable(stem), matrix_text(node.head))
    lines.device = next(iter(lines.names.values()))
    for reduction in group:
        text = lines.call(reduction)
        yield from lines.taken()
        yield f"{tables[reduction]}[row, column] = {text}"


def _network_lines(formula: Formula, needs: Needs, tables: Mapping[Formula, str], names: _Names) -> Iterator[str]:
    """Yield the lines that compute the formula, in float64, from the tables of its reductions; last, its value."""
    lines = _Lines(names, [formula], tables)
    for node in formula.nodes():
        if isinstance(node.head, Terminal) and node.kind.level == "layer":
            name, role = node.head.statistic.name, node.head.role
            slots = needs.slots_text(role_slots(role))
            variable = names.usable(name if role == "all" else f"{name}_{role}")
            number = f"lambda row, block, slot: {LAYER[name]}"
            lines.assign(node, variable, _fitting(variable, "per_layer", ["blocks", slots, number]))
        elif isinstance(node.head, Terminal) and node.kind.level == "net":
            name = node.head.statistic.name
            variable = names.usable(name)
            lines.assign(node, variable, _fitting(variable, "torch.tensor", [NET[name], "dtype=torch.float64"]))
    text = lines.names.get(formula) or lines.call(formula)
    yield from lines.taken()
    yield text


def _fitting(variable: str, function: str, arguments: Sequence[str]) -> str:
    """Return a call that is assigned to a variable of `score`, on as many lines as the formatter gives it."""
    inside = ", ".join(arguments)
    if len(f"    {variable} = {function}({inside})") <= LINE:
        return f"{function}({inside})"
    if len(inside) + 8 <= LINE:
        return f"{function}(\n        {inside}\n    )"
    return f"{function}(\n" + "".join(f"        {argument},\n" for argument in arguments) + "    )"


class _Names:
    """Names for variables; none is a name that the file has already."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.given: Counter[str] = Counter()

    def fresh(self, stem: str) -> str:
        """Return a new name: fro_1, fro_2, ..."""
        self.given[stem] += 1
        return self.usable(f"{stem}_{self.given[stem]}")

    def usable(self, name: str) -> str:
        """Return the name, or a similar one where the file has it already."""
        while name in self.taken:
            name += "_"
        return name


class _Lines:
    """Lines of code in the making: each operation is a call, and a short argument used once stays inside its call.

    `roots` are the values to compute, and `known` those that have names already. Constants are made on the device of
    the variable `device`, or on the CPU where there is none.
    """

    def __init__(self, variables: _Names, roots: Sequence[Formula], known: Mapping[Formula, str]) -> None:
        self.variables = variables
        self.device = ""
        self.names = dict(known)
        self.uses: Counter[Formula] = Counter()
        self.lines: list[str] = []
        nodes = dict.fromkeys(node for root in roots for node in root.nodes())
        for node in nodes:
            self.uses.update(node.args)

    def assign(self, node: Formula, name: str, text: str) -> str:
        """Give a value its name."""
        self.names[node] = name
        self.lines.append(f"{name} = {text}")
        return name

    def taken(self) -> list[str]:
        """Return the lines since the last time that they were taken."""
        lines, self.lines = self.lines, []
        return lines

    def call(self, node: Formula) -> str:
        """Return the call that computes an operation; arguments that do not fit in it get lines of their own."""
        assert isinstance(node.head, Operation)
        function = call_text(node.head.function)
        texts = [self.argument(arg) for arg in node.args]
        for _, place in sorted((-len(text), place) for place, text in enumerate(texts)):
            arg = node.args[place]
            if sum(map(len, texts)) > _CALL and arg not in self.names and not arg.is_constant:
                texts[place] = self.assign(arg, self.variables.fresh(_stem(arg)), texts[place])
        if node.head.per_sample:
            texts.append(samples_text(node.terminals()[0]))
        return f"{function}({', '.join(texts)})"

    def argument(self, node: Formula) -> str:
        """Return what stands for a value inside a call: its name, or the call that computes it."""
        if node in self.names:
            return self.names[node]
        if node.is_constant:
            number = f"torch.tensor({node.head!r}, dtype=torch.float64"
            if not self.device:
                return f"{number})"
            return self.assign(node, self.variables.fresh("constant"), f"{number}, device={self.device}.device)")
        text = self.call(node)
        if self.uses[node] > 1 or len(text) > _INLINE:
            return self.assign(node, self.variables.fresh(_stem(node)), text)
        return text


def _stem(node: Formula) -> str:
    """Return the first part of the names of an operation's variables."""
    assert isinstance(node.head, Operation)
    return node.head.name


def imports_text(imports: Iterable[Import]) -> str:
    """Return the imports in the order that isort gives them."""

    def section(module: str) -> int:
        return 0 if module == "__future__" else 2 if module.partition(".")[0] == "torch" else 1

    sections = []
    by_section = sorted(imports, key=lambda i: (section(i.module), bool(i.name), i.module, _member_order(i)))
    for _, group in itertools.groupby(by_section, key=lambda i: section(i.module)):
        lines = []
        for (module, plain), members in itertools.groupby(group, key=lambda i: (i.module, not i.name)):
            if plain:
                lines += [str(member) for member in members]
            else:
                names = [str(member).partition(" import ")[2] for member in members]
                line = f"from {module} import {', '.join(names)}"
                wrapped = f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"
                lines.append(line if len(line) <= LINE else wrapped)
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _member_order(imported: Import) -> tuple[int, str]:
    """Return the key that sorts the names of one import: constants, then classes, then functions."""
    name = imported.name
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def definitions_text(definitions: Sequence[Definition]) -> list[str]:
    """Return the paragraphs of the file: each function or class alone, successive constants together."""
    paragraphs = []
    for constant, group in itertools.groupby(definitions, key=lambda d: d.is_constant):
        sources = [definition.source for definition in group]
        paragraphs += ["\n".join(sources)] if constant else sources
    return paragraphs


def _docstring(proxy: Proxy, runs: bool) -> str:
    """Return the docstring of the file. The proxy's name and provenance are text of unknown origin."""
    lines = [f"A zero-cost proxy for vision transformers, exported by autoprox {__version__}. It needs only torch.", ""]
    lines += _wrapped(f"Name: {proxy.name}", "") if proxy.name else []
    lines += _wrapped(f"Formula: {proxy.formula.text}", "")
    call = "score(model, inputs, targets)" if runs else "score(model)"
    lines += ["Usage, with this file as my_proxy.py:", "    from my_proxy import score", f"    value = {call}"]
    if proxy.provenance:
        lines += ["Provenance:", *_outline(proxy.provenance, "    ")]
    return '"""' + "\n".join(_escaped(line) for line in lines) + '\n"""'


def _outline(value: Mapping[str, object], indent: str) -> Iterator[str]:
    """Yield `key: value` lines, nested objects further in."""
    for key, entry in value.items():
        if isinstance(entry, Mapping) and entry:
            yield from _wrapped(f"{key}:", indent)
            yield from _outline(entry, (indent + "    ")[:40])
        else:
            yield from _wrapped(f"{key}: {_shown(entry)}", indent)


def _shown(value: object) -> str:
    """Return a value on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_shown(entry)}" for key, entry in value.items())
    return str(value)


def _wrapped(text: str, indent: str) -> list[str]:
    """Return the text on lines that fit into the file once they are escaped; what does not print is written \\x.. ."""
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    lines: list[str] = []
    for width in (LINE, 60, 20):  # escapes and East Asian characters take more than one column
        inner = indent + "    "
        lines = textwrap.wrap(visible, width, initial_indent=indent, subsequent_indent=inner, break_on_hyphens=False)
        if all(_columns(_escaped(line)) <= LINE for line in lines):
            break
    return lines


def _columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def _escaped(line: str) -> str:
    """Return the line as it must be written inside three double quotes."""
    return line.replace("\\", "\\\\").replace('"', '\\"')
