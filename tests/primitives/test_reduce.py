"""Reducing layers: small matrices that are kept, stacked or computed anew change no bit."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import formulas, reading

from autoprox.primitives import Formula, Reading, parse
from autoprox.primitives.evaluate import reductions
from autoprox.primitives.reduce import Graph, SmallMatrices, is_small, nodes_above, read_by, reduce_layers, role_of

BLOCKS = 4


def block_by_block(part: Formula, statistics: Reading) -> list[float]:
    """Compute a reduction in the plainest way: alone, one block after another."""
    graph = Graph([part], statistics.samples)
    leaves = [statistics.matrices[leaf.head.statistic.name, leaf.head.probe, role_of(part)] for leaf in graph.leaves]
    return [float(graph.values(at_block)[0]) for at_block in zip(*leaves, strict=True)]


@settings(max_examples=80)
@given(many=st.lists(formulas(), min_size=1, max_size=8), seed=st.integers(0, 3))
def test_numbers_are_those_of_one_block_after_another(many: list[Formula], seed: int) -> None:
    statistics = reading(seed, blocks=BLOCKS, dtype=torch.float32)
    for part, numbers in reduce_layers(reductions(many), statistics).items():
        assert numbers == block_by_block(part, statistics)


@settings(max_examples=80)
@given(
    before=st.lists(formulas(), max_size=5),
    many=st.lists(formulas(), min_size=1, max_size=5),
    seed=st.integers(0, 3),
    forgotten=st.integers(0, 3),
)
def test_what_is_known_of_small_matrices_changes_nothing(
    before: list[Formula], many: list[Formula], seed: int, forgotten: int
) -> None:
    """With what earlier formulas left, of which some is gone, and no more large matrices than `read_by` names."""
    statistics, small = reading(seed, blocks=BLOCKS, dtype=torch.float32), SmallMatrices()
    reduce_layers(reductions(before), statistics, small=small)
    for part in list(small.parts)[:forgotten]:
        del small.parts[part]
    wanted = reductions(many)
    needed = {(t.statistic.name, t.probe, t.role) for t in read_by(wanted, small.parts)}
    fewer = Reading(
        {key: blocks for key, blocks in statistics.matrices.items() if key in needed},
        {pair: count for pair, count in statistics.samples.items() if pair in {key[:2] for key in needed}},
        statistics.layers,
        statistics.net,
    )
    assert reduce_layers(wanted, fewer, small=small) == reduce_layers(wanted, statistics)


def test_small_matrices_are_kept_and_large_ones_are_not_read_for_them_again() -> None:
    statistics, small = reading(0), SmallMatrices()
    first = reductions([parse("sum(fro(log(column_norm(sample_sum(act[fc1])))))")])
    reduce_layers(first, statistics, small=small)
    assert [part.text for part in small.parts] == ["sample_sum(act[fc1])", "column_norm(sample_sum(act[fc1]))"]
    assert all(is_small(part) for part in small.parts)
    then = reductions([parse("sum(std(row_norm(sample_sum(act[fc1]))))"), parse("sum(mean(act[fc1]))")])
    assert read_by(then[:1], small.parts) == []
    assert read_by(then, small.parts) == [*then[1].terminals()]
    assert not any(is_small(node) for node in nodes_above(then[1:], ()))
