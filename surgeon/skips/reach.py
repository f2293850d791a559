"""Who reaches whom in the data flow, with some edges taken away, and at which resolution."""

from __future__ import annotations

from .axes import ABOUT
from .view import Edge, GraphView, members


class Reach:
    """Ancestors of every node, overall and without leaving a resolution.

    Args:
        view: the graph.
        removed: edges (source, user) that do not count.
    """

    def __init__(self, view: GraphView, removed: frozenset[Edge]) -> None:
        self.view = view
        self.sources = [
            [source for source in inputs if (source, i) not in removed]
            for i, inputs in enumerate(view.sources)
        ]
        self.ancestors = self._accumulate(-1)
        self._high: dict[int, list[int]] = {}
        self._descendants: list[int] | None = None

    def _accumulate(self, within: int) -> list[int]:
        ancestors = [0] * len(self.sources)
        for i, inputs in enumerate(self.sources):
            if not within >> i & 1:
                continue
            for source in inputs:
                if within >> source & 1:
                    ancestors[i] |= ancestors[source] | (1 << source)
        return ancestors

    def high(self, resolution: int) -> list[int]:
        """Return the ancestors of each node on paths that stay at about `resolution` or above."""
        if resolution not in self._high:
            within = 0
            for i, own in enumerate(self.view.resolution):
                if own >= ABOUT * resolution:
                    within |= 1 << i
            self._high[resolution] = self._accumulate(within)
        return self._high[resolution]

    @property
    def descendants(self) -> list[int]:
        """The descendants of each node."""
        if self._descendants is None:
            down = [0] * len(self.sources)
            for i in range(len(self.sources) - 1, -1, -1):
                for source in self.sources[i]:
                    down[source] |= down[i] | (1 << i)
            self._descendants = down
        return self._descendants

    def between(self, start: int, end: int) -> int:
        """Return the nodes on all paths from `start` to `end`, both included."""
        both = (1 << start) | (1 << end)
        return (self.descendants[start] & self.ancestors[end]) | both

    def lowest(self, start: int, end: int) -> int:
        """Return the lowest resolution on any path from `start` to `end`."""
        return min(self.view.resolution[i] for i in members(self.between(start, end)))

    def narrowest(self, start: int, end: int) -> int:
        """Return the lowest resolution that every path from `start` to `end` goes through.

        Side paths do not count: an attention that sums over all positions is passed by its residual.
        """
        kept = dict.fromkeys(members(self.between(start, end)), 0)
        for i in kept:
            before = max((kept.get(source, 0) for source in self.sources[i]), default=0)
            kept[i] = self.view.resolution[i] if i == start else min(before, self.view.resolution[i])
        return kept[end]

    def nearest(self, candidates: int, ancestors: list[int]) -> list[int]:
        """Return the candidates that are not ancestors of another candidate."""
        shadowed = 0
        for i in members(candidates):
            shadowed |= ancestors[i]
        return list(members(candidates & ~shadowed))
