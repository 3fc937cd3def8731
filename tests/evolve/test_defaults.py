"""What evolution does where nothing is said depends on the networks: on whether they are small and of one size."""

import pytest

from autoprox.bench_cache.benchmarks.library import load_benchmarks
from autoprox.evolve.assembly import defaults


@pytest.mark.parametrize(
    ("grammar", "names", "expected"),
    [
        ("typed", ["micro-vit"], {"batch": 16, "costly": True, "refine": "sums", "founders": 10, "generations": 60}),
        ("typed", ["mini-vit"], {}),
        ("typed", ["micro-vit", "mini-vit"], {}),  # one of them has many sizes
        ("tabular", ["micro-vit"], {}),  # which runs no networks
    ],
)
def test_networks_of_one_size_have_defaults_of_their_own(
    grammar: str, names: list[str], expected: dict[str, object]
) -> None:
    assert dict(defaults(grammar, load_benchmarks(names))) == expected
