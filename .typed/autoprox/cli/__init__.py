"""The command line. `commands` holds the commands, one file each; `root` runs them and reports errors."""

from autoprox.cli.root import main

__all__ = ["main"]
