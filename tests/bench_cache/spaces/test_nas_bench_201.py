"""nas-bench-201: its networks against the paper's cell, its sizes against the published ones, its functions counted."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from public_files import reference
from torch import Tensor, nn

from autoprox.bench_cache.benchmarks.readers import read_benchmark
from autoprox.bench_cache.spaces.nas_bench_201 import (
    Cell,
    NasBench201Arch,
    cell_function,
    published_flops,
)
from autoprox.bench_cache.spaces.registry import SPACES, ArchitectureError, InputSpec

SPACE: Any = SPACES["nas-bench-201"]
CIFAR_10 = InputSpec(image_size=32, num_classes=10)


def arch(text: str) -> NasBench201Arch:
    """Return the cell of six letters: skip, none, 3 (conv3x3), 1 (conv1x1), pool."""
    names = {name[4] if name.startswith("conv") else name[0]: name for name in SPACE.choices()["operations"]}
    return NasBench201Arch(tuple(names[letter] for letter in text))


def test_a_cell_is_the_sum_over_the_nodes_before_each_node() -> None:
    cell = Cell(arch("3p1n1s").operations, 4).eval()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))

    def conv(edge: int, given: Tensor) -> Tensor:
        weight = cell.edges[edge][1].weight
        made = nn.functional.conv2d(given.relu(), weight, padding=weight.shape[-1] // 2)
        return made / (1 + cell.edges[edge][2].eps) ** 0.5

    ones = nn.functional.avg_pool2d(torch.ones_like(x), 3, 1, 1)
    pooled = nn.functional.avg_pool2d(x, 3, 1, 1) / ones  # the padding does not count
    first = conv(0, x)
    expected = conv(2, x) + conv(4, first) + pooled  # the edge of zeros adds nothing, the last edge is a skip
    torch.testing.assert_close(cell(x), expected)


def test_sizes_by_hand() -> None:
    # 73,306 without convolutions; one edge of 3 × 3 in five cells of 16, 32 and 64 channels, each with a batch norm.
    empty, one = arch("nnnnnn"), arch("3nnnnn")
    assert SPACE.params(empty, CIFAR_10) == 73_306
    assert SPACE.params(one, CIFAR_10) == 73_306 + 5 * (9 * 256 + 32 + 9 * 1024 + 64 + 9 * 4096 + 128)
    assert (SPACE.depth(empty), SPACE.depth(one)) == (8, 23)
    assert SPACE.min_params(CIFAR_10) == 73_306
    largest = max(SPACE.params(each, CIFAR_10) for each in SPACE.architectures())
    assert largest == SPACE.params(arch("333333"), CIFAR_10) == 1_531_546


def test_sizes_as_published() -> None:
    benchmark = read_benchmark(reference("nas-bench-suite-zero", "zc_nasbench201.json"))
    for cell, flops in zip(benchmark.architectures, benchmark.columns["published_flops"], strict=True):
        assert published_flops(SPACE, cell) == flops


def test_cells_of_one_function() -> None:
    groups = [
        ["nn3nnn", "nn3333", "ss3nnn"],  # x ↦ 3(x): what is applied to zeros is zeros, and not every node is read
        ["sn3n1n", "sn1n3n", "ns1nn3"],  # x ↦ 3(x) + 1(x)
        ["nnnnnn", "33nnnn"],
    ]
    for group in groups:
        assert len({cell_function(arch(text)) for text in group}) == 1, group
    assert len({cell_function(arch(group[0])) for group in groups}) == len(groups)


def test_the_functions_of_all_cells_are_counted() -> None:
    everything = list(SPACE.architectures())
    assert (len(everything), len({cell_function(each) for each in everything})) == (15_625, 4_930)


def test_cells_of_one_function_compute_the_same_with_the_same_weights() -> None:
    a, b = Cell(arch("sn3n1n").operations, 4).eval(), Cell(arch("ns1nn3").operations, 4).eval()
    b.edges[2].load_state_dict(a.edges[4].state_dict())
    b.edges[5].load_state_dict(a.edges[2].state_dict())
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(a(x), b(x))


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (("skip",) * 5, "nas-bench-201: operations .* is not a sequence of 6, one per edge"),
        (("skip",) * 5 + ("conv5x5",), r"nas-bench-201: operations\[5\] 'conv5x5' is not one of skip, none, conv3x3"),
        (["skip"] * 6, "nas-bench-201: operations .* is not a sequence of 6"),
    ],
)
def test_what_is_no_cell_is_refused(operations: Any, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.validate(replace(arch("nnnnnn"), operations=operations))


def test_an_image_that_cannot_be_halved_twice_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="nas-bench-201: image_size 30 is not a multiple of 4"):
        SPACE.build(arch("nnnnnn"), replace(CIFAR_10, image_size=30))


def test_weights_follow_from_seed_and_architecture_and_batch_norm_starts_fresh() -> None:
    torch.manual_seed(1)
    one = SPACE.build(arch("3s1p3n"), CIFAR_10, 7)
    torch.manual_seed(2)
    two = SPACE.build(arch("3s1p3n"), CIFAR_10, 7)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    norms = [module for module in one.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 6 + 15 * 3  # stem, two in each residual block, the last; three edges of 15 cells
    for norm in norms:
        assert (norm.weight == 1).all()
        assert (norm.running_var == 1).all()
        assert not any(zeros.any() for zeros in (norm.bias, norm.running_mean, norm.num_batches_tracked))
