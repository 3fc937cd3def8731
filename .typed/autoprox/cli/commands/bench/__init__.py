"""Benchmarks: import, show, download, list, train, clean."""

import click

from autoprox.cli.folder import FolderGroup


@click.group("bench", cls=FolderGroup, package=__name__)
def command() -> None:
    """Import, download, list and show benchmarks: architectures with their trained accuracies."""
