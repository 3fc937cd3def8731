"""Small matrices that a process keeps of large networks, so as not to read the large matrices again."""

from __future__ import annotations

from collections.abc import Sequence

from autoprox.bench_cache.runtime.memory import memory_limit
from autoprox.primitives.formula import Formula
from autoprox.primitives.reduce import SmallMatrices, nodes_above

#: How much of the memory limit they take.
SHARE = 1 / 4

#: A network: the directory of its statistics, and its key there.
Network = tuple[str, str]


class HeldSmall:
    """The small matrices of the networks that a process has reduced, of each in the order of their last use."""

    def __init__(self) -> None:
        self._held: dict[Network, SmallMatrices] = {}
        self._bytes: dict[Network, int] = {}

    def of(self, network: Network, wanted: Sequence[Formula]) -> SmallMatrices:
        """Return a network's; those that the wanted reductions are made of become the last to go."""
        small = self._held.setdefault(network, SmallMatrices())
        for part in nodes_above(wanted, small.parts):
            if part in small.parts:
                small.parts[part] = small.parts.pop(part)
        return small

    def make_room(self, network: Network) -> None:
        """Count what a network has got, and let go beyond the limit what was used longest ago, where there is most."""
        self._bytes[network] = sum(blocks.nbytes for blocks in self._held[network].parts.values())
        limit = SHARE * memory_limit()
        while self.nbytes > limit:
            most = max(self._bytes, key=self._bytes.__getitem__)
            parts = self._held[most].parts
            self._bytes[most] -= parts.pop(next(iter(parts))).nbytes

    @property
    def nbytes(self) -> int:
        """The bytes of all of them."""
        return sum(self._bytes.values())

    def clear(self) -> None:
        """Let all go."""
        self._held.clear()
        self._bytes.clear()


#: The small matrices that this process holds.
HELD_SMALL = HeldSmall()
