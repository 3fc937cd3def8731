"""What a command printed, wherever it did."""

from typing import Any


def everything(captured: Any) -> str:
    """Return what pytest's `capsys` or `capfd` caught since the last time: stderr, where progress is, then stdout."""
    out, err = captured.readouterr()
    return err + out
