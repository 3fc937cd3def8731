"""The command line: one file a command; `root` has their table and says errors in one line."""

from autoprox.cli.root import main

__all__ = ["main"]
