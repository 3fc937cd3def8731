"""YAML: genes as a text that every reader of YAML 1.1 or 1.2 reads back as the same values.

It is our own because no dependency of autoprox writes YAML, and genes are scalars and lists of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

#: Names that can stand without quotes; YAML 1.1 reads some short words as truth values, so these are left out.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9_]*", re.IGNORECASE)


def to_yaml(record: Mapping[str, Any]) -> str:
    """Return an object as YAML: a line for each name, lists in brackets, every text in double quotes.

    Values are null, truth values, finite numbers, texts, and lists of these.
    """
    return "".join(f"{_name(name)}: {_value(value)}\n" for name, value in record.items())


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")  # YAML 1.1 reads 1e-05 as a text
    return text


def _text(text: str) -> str:
    """Return a text in double quotes; what does not print is escaped, so that nothing in it ends the line."""
    escaped = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escaped.get(c, c if c.isprintable() else f"\\U{ord(c):08X}") for c in text) + '"'
