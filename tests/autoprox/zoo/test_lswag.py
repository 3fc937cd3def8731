"""L-SWAG: the gradients' profile by depth, the range chosen from it, and the parts of the proxy."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_vit import TinyVit, batch
from torch import nn
from zoo_references import LINEARS, halves, lswag_lambda

from autoprox.primitives import Reading, evaluate, parse
from autoprox.zoo import ZOO, ZooError
from autoprox.zoo.lswag import (
    FULL_DEPTH,
    LAMBDA,
    DepthRange,
    ablation,
    chosen_range,
    decile_means,
    gradient_profile,
    lambda_formula,
    lswag_formula,
)

ranges = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda ends: DepthRange(min(ends), max(ends)))


@given(chosen=ranges, depth=st.integers(1, 60))
def test_the_mask_is_the_range(chosen: DepthRange, depth: int) -> None:
    """In our language: 1 for each block in the range, 0 for each other, exactly."""
    numbers = [2.0**block for block in range(depth)]
    reading = Reading(net={"depth": float(depth)})
    for slot in ("fc1", "fc2"):
        reading.layers["fan_in", slot] = numbers
        reading.layers["position", slot] = [(block + 1) / depth for block in range(depth)]
    mask = chosen.mask("fc1")
    assert (mask == "") is (chosen == FULL_DEPTH)
    inside = [chosen.contains(block, depth) for block in range(depth)]
    if mask:
        found = evaluate(parse(f"sum(fan_in[fc1] * {mask})"), reading)
        assert found == sum(x for x, taken in zip(numbers, inside, strict=True) if taken)
    if depth == 10:
        assert inside == [chosen.first <= block <= chosen.last for block in range(10)]


def test_deciles_by_hand() -> None:
    """Blocks 0 to 11 of 12 begin at 0, 8, 16, 25, 33, 41, 50, 58, 66, 75, 83 and 91 percent."""
    blocks = [DepthRange(decile, decile) for decile in range(10)]
    inside = [[block for block in range(12) if chosen.contains(block, 12)] for chosen in blocks]
    assert inside == [[0, 1], [2], [3], [4], [5], [6, 7], [8], [9], [10], [11]]
    assert decile_means(np.arange(12.0)).tolist() == [0.5, 2, 3, 4, 5, 6.5, 8, 9, 10, 11]
    assert np.isnan(decile_means(np.array([1.0, 2.0]))).tolist() == [False] + [True] * 4 + [False] + [True] * 4


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        # median 0, maximum 4: above 2
        ([0, 0, 0, 3, 4, 2.5, 0, 0, 0, 0], DepthRange(3, 5)),
        ([0, 0, 0, 2, 4, 2.5, 0, 0, 3, 0], DepthRange(4, 5)),  # 2 is not above, and 3 is not next to the spike
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 4], DepthRange(9, 9)),
        ([5, 4, 3, 0, 0, 0, 0, 0, 0, 0], DepthRange(0, 2)),
        # median -8.5, maximum -2: above -5.25
        ([-9, -9, -8, -5, -2, -5.2, -9, -8, -9, -9], DepthRange(3, 5)),
        ([7.0] * 10, FULL_DEPTH),
    ],
)
def test_the_range_is_the_spike(profile: list[float], expected: DepthRange) -> None:
    assert chosen_range(np.array(profile)) == expected
    assert chosen_range(np.array(profile) * 2 - 30) == expected
    mirrored = DepthRange(9 - expected.last, 9 - expected.first)
    assert chosen_range(np.array(profile[::-1])) == mirrored


@pytest.mark.parametrize("profile", [[1.0] * 9, [math.nan] + [1.0] * 9, [math.inf] + [1.0] * 9])
def test_a_profile_is_ten_finite_numbers(profile: list[float]) -> None:
    with pytest.raises(ZooError, match="ten finite numbers"):
        chosen_range(np.array(profile))


@pytest.mark.parametrize("ends", [(-1, 3), (4, 3), (0, 10), (0.0, 9), (True, 9)])
def test_a_range_is_two_deciles(ends) -> None:
    with pytest.raises(ZooError, match="two deciles in order"):
        DepthRange(*ends)


def test_the_profile_is_of_the_deviations() -> None:
    """Two networks of ten blocks, one in each decile; one of them is built when its turn comes."""
    models = [TinyVit(seed, depth=10) for seed in (1, 2)]
    expected = []
    for model in models:
        logs = [math.log(np.std(pair, axis=0).mean()) for pair in halves(model)]
        expected.append(np.reshape(logs, (10, len(LINEARS))).mean(axis=1))
    found = gradient_profile([models[0], lambda: models[1]], *batch())
    assert found == pytest.approx(np.mean(expected, axis=0), rel=1e-5)
    assert chosen_range(found).last <= 9
    with pytest.raises(ZooError, match="at least one architecture"):
        gradient_profile([], *batch())
    inputs, targets = batch()
    with pytest.raises(ZooError, match="do not vary"):
        gradient_profile(models, inputs[[0, 0]], targets[[0, 0]])


def test_deciles_without_blocks_are_interpolated() -> None:
    """Three blocks begin in the deciles 0, 3 and 6: linear between them, constant after the last."""
    found = gradient_profile([TinyVit(depth=3)], *batch())
    assert found[[1, 2]] == pytest.approx(found[0] + np.array([1, 2]) * (found[3] - found[0]) / 3)
    assert found[7:].tolist() == [found[6]] * 3


def layer_lambdas(model: TinyVit) -> list[float]:
    deviations = [np.std(np.abs(pair), axis=0) for pair in halves(model)]
    return [math.log((1 / deviation[deviation > 0]).sum()) for deviation in deviations]


def test_the_parts_are_what_they_are_called() -> None:
    """On ten blocks, range 2 to 4: Λ of these blocks, Ψ of the union of their patterns, and the products."""
    model, (inputs, targets) = TinyVit(depth=10, hidden=2), batch()
    lambdas = layer_lambdas(model)
    entries = ablation(DepthRange(2, 4))
    assert list(entries) == ["zico", "lswag-lambda", "lswag-psi", "lswag",
                             "lswag-lambda-2-4", "lswag-psi-2-4", "lswag-2-4"]  # fmt: skip
    scores = {name: entry.score(model, inputs, targets) for name, entry in entries.items()}
    patterns: list[set[tuple[bool, ...]]] = []
    for block in model.blocks:
        block.mlp.fc1.register_forward_hook(
            lambda module, args, output: patterns.append({tuple(n) for n in (output > 0).flatten(1).T.tolist()})
        )
    model(inputs)
    seen = patterns[:10]
    assert scores["zico"] == ZOO["zico"].score(model, inputs, targets)
    assert scores["lswag-lambda"] == pytest.approx(lswag_lambda(model), rel=1e-5)
    assert scores["lswag-lambda-2-4"] == pytest.approx(sum(lambdas[8:20]), rel=1e-5)
    assert 1 < scores["lswag-psi-2-4"] < scores["lswag-psi"]
    assert scores["lswag-psi"] == len(set.union(*seen))
    assert scores["lswag-psi-2-4"] == len(set.union(*seen[2:5]))
    assert scores["lswag"] == pytest.approx(scores["lswag-lambda"] * scores["lswag-psi"], rel=1e-9)
    assert scores["lswag-2-4"] == pytest.approx(scores["lswag-lambda-2-4"] * scores["lswag-psi-2-4"], rel=1e-9)
    layers = evaluate_on(model, lswag_formula(DepthRange(2, 4)), inputs, targets)
    assert layers == pytest.approx(scores["lswag-lambda-2-4"] * sum(map(len, seen[2:5])), rel=1e-9)


def evaluate_on(model: nn.Module, formula: str, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    return dataclasses.replace(ZOO["zico"], formula=formula).score(model, inputs, targets)


def test_full_depth_is_the_zoo_s() -> None:
    assert lambda_formula() == f"sum({LAMBDA})" == ZOO["lswag-lambda"].formula
    assert lswag_formula() == ZOO["lswag-layers"].formula
    assert list(ablation(FULL_DEPTH)) == ["zico", "lswag-lambda", "lswag-psi", "lswag"]


def test_a_range_without_blocks_has_no_score() -> None:
    """Two blocks begin at 0 and 50 percent: none in the deciles 1 to 4."""
    for name in ("lswag-psi-1-4", "lswag-1-4"):
        with pytest.raises(ZooError, match=f"{name}: none of the 2 blocks"):
            ablation(DepthRange(1, 4))[name].score(TinyVit(), *batch())
