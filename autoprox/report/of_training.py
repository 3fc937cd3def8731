"""The report of a run of `autoprox train`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from autoprox.report.figures import curves
from autoprox.report.page import Figure, Page, Section, Table
from autoprox.report.tellers import Teller, read_json, settings_rows, shown
from autoprox.train.plan import JOURNAL, TrainJournal
from autoprox.train.run import RESULT


def tell(run: Path) -> Page:
    """Return the page of a training's directory."""
    record, journal = read_json(run / RESULT), TrainJournal.open(run / JOURNAL)
    networks, settings = record["networks"], record["settings"]
    images, epochs = settings["images"], settings["recipe"]["epochs"]
    measure = "mean test accuracy over the classes" if images["balanced"] else "test accuracy"
    rows = [network["accuracy"] for network in networks if not network["name"].startswith("random")]
    of = f"{networks[0]['name']} has" if len(rows) == 1 else f"The {len(rows)} rows have, as a mean,"
    summary = [
        *record["words"],
        f"{of} a {measure} of {shown(float(np.mean(rows)), 2)} %, from {_seeds(settings)}.",
        "It is that of the last epoch: nothing is chosen by the curves.",
    ]
    sections = [
        Section("Over the epochs", list(_curves(journal.records, networks, epochs))),
        Section("Networks", [_table(networks)]),
        Section("Settings and versions", [_settings(settings, record["versions"])]),
    ]
    return Page(
        f"Training on {images['name']}",
        f"{images['training']:,} images for training, {images['test']:,} for the test",
        summary,
        [section for section in sections if section.parts],
    )


def _seeds(settings: Mapping[str, Any]) -> str:
    return "one seed" if settings["seeds"] == 1 else f"{settings['seeds']} seeds"


def _curves(
    records: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]], epochs: int
) -> Iterator[Figure]:
    """Yield pictures of test accuracy and of training loss over the epochs: of each network, or of both groups."""
    if epochs < 2:
        return
    names = [network["name"] for network in networks]
    groups = {name: [name] for name in names}
    if len(names) > 4:  # more lines than a picture can tell apart
        random = [name for name in names if name.startswith("random")]
        groups = {"rows of the search": [name for name in names if name not in random], "random": random}
    for field, label in (("test_accuracy", "test accuracy, %"), ("loss", "training loss")):
        of_network = {name: _means(records, name, field) for name in names}
        lines = {
            group: np.mean([of_network[name] for name in members], axis=0).tolist()
            for group, members in groups.items()
            if members
        }
        ends = ", ".join(f"{group} {shown(values[-1], 2)}" for group, values in lines.items())
        yield Figure(
            field.replace("_", "-"),
            f"{label[0].upper()}{label[1:]} after each epoch, as a mean over the seeds"
            f"{' and networks' if len(groups) < len(names) else ''}.",
            f"Curves of {label} over {epochs} epochs. At the end: {ends}.",
            partial(curves, range(1, epochs + 1), lines, "epoch", label),
        )


def _means(records: Sequence[Mapping[str, Any]], network: str, field: str) -> list[float]:
    return [float(np.mean(record[field])) for record in records if record["network"] == network]


def _table(networks: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for network in networks:
        own = np.array(network["accuracies"], dtype=float)
        spread = shown(float(own.std(ddof=1)), 2) if len(own) > 1 else "–"
        sizes = ["–" if network[name] is None else f"{network[name]:,}" for name in ("params", "flops")]
        genes = orjson.dumps(network["genes"]).decode()
        mean, low, high = (shown(float(value), 2) for value in (own.mean(), own.min(), own.max()))
        rows.append([network["name"], *sizes, mean, spread, low, high, genes])
    heads = ("network", "params", "FLOPs", "test accuracy, %", "deviation over seeds", "lowest", "highest", "genes")
    return Table("Test accuracy after the last epoch", heads, rows)


def _settings(settings: Mapping[str, Any], versions: Mapping[str, str]) -> Table:
    band = settings["band"]
    told = {
        **{name: value for name, value in settings.items() if name not in ("networks", "band")},
        "band": "" if band is None else f"{100 * band:g} % of the parameters",
    }
    rows = settings_rows({name: value for name, value in told.items() if value != ""})
    return Table("What the result depends on", ("setting", "value"), [*rows, *map(list, versions.items())])


TELLER = Teller("train", RESULT, tell)
