"""Graph: questions about a record that finding blocks asks: what is near, what mixes tokens, what is a residual."""

from __future__ import annotations

from functools import cached_property

from autoprox.primitives.find_blocks.record import Record, Softmax, Use

#: More nearest linears and convolutions than this reach a tensor only where it is a residual stream.
FEW = 3


class Graph:
    """A record with the questions about it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.uses = record.uses
        self.readers: dict[int, list[Use]] = {use.number: [] for use in self.uses}
        for use in self.uses:
            for source in record.members(use.sources):
                self.readers[source.number].append(use)
        self._mixing: dict[int, bool] = {}

    def is_product(self, use: Use) -> bool:
        return use.kind in ("product", "fused")

    def is_projection(self, use: Use) -> bool:
        """Return whether it makes new features of every token by itself."""
        return use.kind == "linear" and not self.is_mixing(use)

    def is_mixing(self, use: Use) -> bool:
        """Return whether it has a weight that mixes tokens: a larger kernel, or tokens where features are otherwise."""
        if use.number not in self._mixing:
            self._mixing[use.number] = use.kind in ("convolution", "recurrent") or (
                use.kind == "linear" and self._over_tokens(use)
            )
        return self._mixing[use.number]

    def _over_tokens(self, use: Use) -> bool:
        sources = list(self.record.members(use.sources))
        if any(self.is_product(source) for source in sources):
            return False
        if use.transposed:
            features = {
                source.features[1] for source in sources if source.kind != "linear" or not self.is_mixing(source)
            }
            return use.features[0] not in features or all(s.kind == "linear" for s in sources)
        if not sources or sources[0].made[-1:] not in (use.given[-1:], (2 * use.features[0],)):
            return False
        # the second of two linears over tokens: nothing was turned round in between
        return all(s.kind == "linear" and s.rows == use.rows and self.is_mixing(s) for s in sources)

    def softmaxes_of(self, mask: int) -> list[Softmax]:
        """Return the softmaxes of a set."""
        return [softmax for softmax in self.record.softmaxes if mask >> softmax.number & 1]

    def few(self, mask: int) -> bool:
        """Return whether a set of nodes is too small to be a residual stream of some depth."""
        return mask.bit_count() <= FEW

    def projections_behind(self, mask: int, inside: int = 0) -> tuple[list[Use], bool]:
        """Return the nearest projections that reach a tensor, and whether mixing layers were looked through.

        A mixing layer that reads a residual stream ends the search: it is taken itself. Nodes of `inside` are
        ignored.
        """
        found: dict[int, Use] = {}
        mixed = False
        todo, seen = [mask & ~inside], 0
        while todo:
            for use in self.record.members(todo.pop()):
                if use.bit & seen:
                    continue
                seen |= use.bit
                if self.is_projection(use):
                    found[use.number] = use
                elif self.is_mixing(use):
                    behind = use.sources & ~inside
                    if behind and self.few(behind) and self._near(behind):
                        mixed = True
                        todo.append(behind)
                    else:
                        found[use.number] = use
        return [found[number] for number in sorted(found)], mixed

    def _near(self, mask: int) -> bool:
        """Return whether a set has a projection and no product: something made for the reader."""
        kinds = list(self.record.members(mask))
        return any(self.is_projection(u) for u in kinds) and not any(self.is_product(u) for u in kinds)

    @cached_property
    def products(self) -> int:
        """Return the set of all products."""
        return sum(use.bit for use in self.uses if self.is_product(use))

    @cached_property
    def streams(self) -> list[int]:
        """Return every set of nodes that some node, or the result, reads."""
        return list(dict.fromkeys([side for use in self.uses for side in use.sides] + [self.record.outputs]))

    def is_residual(self, before: int, last: Use) -> bool:
        """Return whether what was there before is added to what a node makes: both reach something later together.

        A shortcut may have a projection of its own, which reads the same.
        """
        if not before:
            return False
        later = [stream for stream in self.streams if stream & last.bit]
        if any(stream & before == before for stream in later):
            return True
        readers = [
            u
            for u in self.readers[before.bit_length() - 1]
            if u.sources == before and u.kind in ("linear", "convolution")
        ]
        shortcuts = sum(u.bit for u in readers if u.rows == last.rows and not self._leads_to(u, last))
        return any(stream & shortcuts for stream in later)

    def _leads_to(self, use: Use, last: Use) -> bool:
        """Return whether a node's results reach another before they become part of a residual stream."""
        todo, seen = [last], set()
        while todo:
            node = todo.pop()
            if node.number == use.number:
                return True
            if node.number < use.number or node.number in seen:
                continue
            seen.add(node.number)
            todo += list(self.record.members(node.sources))
        return False
