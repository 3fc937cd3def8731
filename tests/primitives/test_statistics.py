"""Statistics: what the records say holds for every statistic, and fits together."""

import pytest
from tiny_vit import TinyVit, batch

from autoprox.primitives import PROBES, STATISTICS, Statistic, find_blocks, read_statistics
from autoprox.primitives.kinds import ROLES, STACKED
from autoprox.primitives.probe import OF_BLOCK
from autoprox.primitives.statistics import terminal

MATRICES = [statistic for statistic in STATISTICS.values() if statistic.level == "matrix"]


@pytest.mark.parametrize("statistic", MATRICES, ids=lambda statistic: statistic.name)
def test_records_of_matrices_are_complete(statistic: Statistic) -> None:
    assert statistic.shape in STACKED
    assert all(STATISTICS[name].level == "layer" for name in statistic.sized_by)
    assert statistic.sized_at in ("", *ROLES["all"])
    assert terminal(statistic.name).kind.stacked is bool(statistic.stacks)


def test_statistics_of_one_place_have_their_size_from_the_same() -> None:
    """Shards stack the networks whose matrices of a place have one size."""
    sizes = {(slot, each.sized_at, each.sized_by) for each in MATRICES for slot in each.slots}
    assert len(sizes) == len({slot for slot, _, _ in sizes})


def test_what_has_one_role_is_read_from_the_block() -> None:
    assert {each.name for each in MATRICES if not each.takes_role} == set(OF_BLOCK)


@pytest.mark.parametrize("statistic", MATRICES, ids=lambda statistic: statistic.name)
def test_a_model_shows_every_statistic_at_its_places(statistic: Statistic) -> None:
    model = TinyVit()
    for probe in PROBES if statistic.probed else ("",):
        if probe == "synflow" and statistic.stacks == "batches":
            continue
        reading = read_statistics(model, find_blocks(model), [(statistic.name, probe)], *batch())
        assert [key[2] for key in reading.matrices] == [slot for slot in statistic.slots if slot != "conv"]
        assert {len(blocks) for blocks in reading.matrices.values()} == {len(model.blocks)}
