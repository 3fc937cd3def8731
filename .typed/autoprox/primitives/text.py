"""Text: the parser of formulas. It reads names from tables and never evaluates anything.

It is our own because it is the faster one, and its errors name the closest name: a text of 78 characters becomes a
typed formula in 131 µs, where lark 1.3.1 (LALR) takes 188 µs to its bare tree.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from autoprox.primitives.formula import MAX_DEPTH, Formula, apply, constant, statistic
from autoprox.primitives.kinds import FormulaError
from autoprox.primitives.operations import OPERATIONS, SIGNS, Operation
from autoprox.primitives.statistics import COLUMN, STATISTICS

#: Longest text that is read: more than MAX_SIZE nodes print as. Evolved formulas have a few hundred characters.
MAX_LENGTH = 50_000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    rf"|(?P<column>{COLUMN}\s*\[[^\[\]]*\])|(?P<name>[A-Za-z_]\w*)|(?P<sign>[-+*/(),\[\]]))",
    re.ASCII,
)


_SPACE = " \t\n\r\f\v"  # what re.ASCII takes for white space


@dataclass(frozen=True)
class _Token:
    kind: str  # number, column, name, sign or end
    text: str
    start: int


def parse(text: str, operations: Mapping[str, Operation] = OPERATIONS, *, complete: bool = True) -> Formula:
    """Read a formula, for example `sum(l1(weight * weight_grad))`.

    Grammar: `expression := term (('+' | '-') term)*`, `term := factor (('*' | '/') factor)*`,
    `factor := '-' factor | number | '(' expression ')' | operation '(' expression (',' expression)* ')' |
    statistic ['[' role or probe (',' role or probe)* ']'] |
    'column' '[' name ']'`. A minus before a number is part of the number; before anything else it is `neg`.

    With `complete`, the formula must be one number for the network.

    Raises:
        FormulaError: the text is no formula; the message quotes it and points at the place.
    """
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"the formula has {len(text):,} characters; the limit is {MAX_LENGTH:,}")
    parser = _Parser(text, operations)
    formula = parser.whole()
    if complete and not formula.is_complete:
        what = "no statistic of the network" if formula.kind.level == "net" else f"{formula.kind}, not one number"
        fix = "" if formula.kind.level == "net" else "; aggregate it, for example with sum(...)"
        raise FormulaError(_pointed(f"the formula gives {what}{fix}", text, 0, len(text)))
    return formula


class _Parser:
    """Recursive descent over the tokens, at most MAX_DEPTH calls of `factor` deep."""

    def __init__(self, text: str, operations: Mapping[str, Operation]) -> None:
        self.text, self.operations = text, operations
        self.tokens = self._tokenise()
        self.token = next(self.tokens)
        self.nesting = 0

    def _tokenise(self) -> Iterator[_Token]:
        position = 0
        end = len(self.text.rstrip(_SPACE))
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None:
                start = len(self.text) - len(self.text[position:].lstrip(_SPACE))
                raise FormulaError(_pointed(f"{self.text[start]!r} has no meaning here", self.text, start, 1))
            kind = match.lastgroup or ""
            yield _Token(kind, match[kind], match.start(kind))
            position = match.end()
        yield _Token("end", "", end)

    def advance(self) -> _Token:
        """Return the current token; the next becomes the current one."""
        token = self.token
        self.token = next(self.tokens, token)
        return token

    def fail(self, message: str, token: _Token | None = None) -> FormulaError:
        token = token or self.token
        return FormulaError(_pointed(message, self.text, token.start, max(1, len(token.text))))

    def take(self, sign: str) -> bool:
        if self.token.kind == "sign" and self.token.text == sign:
            self.advance()
            return True
        return False

    def expect(self, sign: str, what: str) -> None:
        if not self.take(sign):
            found = f"'{self.token.text[:40]}'" if self.token.text else "the end"
            raise self.fail(f"expected '{sign}' {what}, found {found}")

    def whole(self) -> Formula:
        if self.token.kind == "end":
            raise FormulaError("the formula is empty")
        formula = self.expression()
        if self.token.kind != "end":
            raise self.fail(f"unexpected '{self.token.text[:40]}' after the formula")
        return formula

    def expression(self) -> Formula:
        return self.chain(self.term, "+-")

    def term(self) -> Formula:
        return self.chain(self.factor, "*/")

    def chain(self, operand: Callable[[], Formula], signs: str) -> Formula:
        left = operand()
        while self.token.kind == "sign" and self.token.text in signs:
            sign = self.advance()
            left = self.checked(sign, SIGNS[sign.text], left, operand())
        return left

    def checked(self, token: _Token, name: str, *args: Formula) -> Formula:
        if name not in self.operations:
            raise self.fail(_unknown(name, "operation", self.operations), token)
        try:
            return apply(self.operations[name], *args)
        except FormulaError as error:
            raise self.fail(str(error), token) from None

    def factor(self) -> Formula:
        if self.nesting >= MAX_DEPTH:
            raise self.fail(f"the formula is more than {MAX_DEPTH} levels deep")
        self.nesting += 1
        try:
            return self.primary()
        finally:
            self.nesting -= 1

    def primary(self) -> Formula:
        token = self.token
        if token.kind == "end" or (token.kind == "sign" and token.text not in "(-"):
            found = f"'{token.text}'" if token.text else "the end"
            raise self.fail(f"expected a statistic, an operation or a number, found {found}")
        self.advance()
        if token.kind == "number":
            return self.number(token, 1.0)
        if token.kind == "column":
            return self.column(token)
        if token.kind == "name":
            return self.call(token) if self.token.text == "(" else self.terminal(token)
        if token.text == "(":
            inside = self.expression()
            self.expect(")", "to close the bracket")
            return inside
        if self.token.kind == "number":
            return self.number(self.advance(), -1.0)
        return self.checked(token, "neg", self.factor())

    def number(self, token: _Token, sign: float) -> Formula:
        try:
            return constant(sign * float(token.text))
        except FormulaError as error:
            raise self.fail(str(error), token) from None

    def call(self, name: _Token) -> Formula:
        if name.text not in self.operations:
            raise self.fail(_unknown(name.text, "operation", self.operations), name)
        self.expect("(", f"after '{name.text}'")
        args = [self.expression()]
        while self.take(","):
            args.append(self.expression())
        self.expect(")", f"to close '{name.text}('")
        return self.checked(name, name.text, *args)

    def column(self, token: _Token) -> Formula:
        try:
            return statistic(COLUMN, token.text.partition("[")[2].removesuffix("]").strip(_SPACE))
        except FormulaError as error:
            raise self.fail(str(error), token) from None

    def terminal(self, name: _Token) -> Formula:
        if name.text == COLUMN:
            raise self.fail(f"'{COLUMN}' takes the name of a column of the table: write {COLUMN}[NAME]", name)
        if name.text not in STATISTICS:
            if name.text in self.operations:
                raise self.fail(f"'{name.text}' is an operation: write {name.text}(...)", name)
            raise self.fail(_unknown(name.text, "statistic", STATISTICS), name)
        marks: list[_Token] = []
        if self.take("["):
            while True:
                if self.token.kind != "name":
                    raise self.fail("expected a role or a probe")
                marks.append(self.advance())
                if not self.take(","):
                    break
            self.expect("]", f"to close '{name.text}['")
        try:
            return statistic(name.text, *(mark.text for mark in marks))
        except FormulaError as error:
            wrong = next((mark for mark in reversed(marks) if f"not '{mark.text[:40]}'" in str(error)), name)
            raise self.fail(str(error), wrong) from None


def _unknown(name: str, what: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
    return f"unknown {what} '{name[:40]}'; {hint}"


def _pointed(message: str, text: str, start: int, length: int) -> str:
    """Return the message, then the line of the text around the place, then a caret under it."""
    first, last = max(0, start - 60), min(len(text), start + 40)
    window = "".join(character if character.isprintable() else " " for character in text[first:last])
    before, after = "…" * (first > 0), "…" * (last < len(text))
    caret = " " * (len(before) + start - first) + "^" * min(length, last - start or 1)
    return f"{message} (column {start + 1})\n  {before}{window}{after}\n  {caret}"
