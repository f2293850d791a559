"""Which kind of link each found one is."""

from __future__ import annotations

from collections import defaultdict

from .anatomy import Kind, Merge
from .reach import Reach
from .rule import Findings, Link, resizes_between, weights_between
from .view import GraphView, MergeSite, enlarged_from


def kinds_of(view: GraphView, findings: Findings) -> dict[Link, Kind]:
    """Tell skips, dense arcs, lateral links and fusions apart.

    - A merge that joins three or more tensors is a fusion when it is the only one of its sort, else dense.
    - A merge that an aggregate enters is dense: several tensors, or one that has been lower itself. A
      concatenation made for another one alone belongs to that one's merge.
    - An addition is lateral when its skip is projected by weights and what it meets is only resized.
    """
    reach = Reach(view, frozenset())
    by_merge: dict[int, list[Link]] = defaultdict(list)
    for link in findings.links:
        by_merge[link.merge.index].append(link)
    merges = {site.index: site for site in view.merges}
    chained = {index: _chained(view, merges, by_merge, index) for index in by_merge}
    wide = {index for index, links in by_merge.items() if _joins_levels(view, links[0])}
    of_wide = Kind.FUSION if len(wide) == 1 else Kind.DENSE
    return {
        link: of_wide if index in wide else _kind(view, reach, link, chained[index])
        for index, links in by_merge.items()
        for link in links
    }


def _chained(
    view: GraphView, merges: dict[int, MergeSite], by_merge: dict[int, list[Link]], index: int
) -> list[Link]:
    """List the links of a merge and of the concatenations that take up its result and nothing else does."""
    links: list[Link] = []
    while index in by_merge:
        links += by_merge[index]
        users = view.users[index]
        if len(users) != 1 or users[0] not in merges or merges[users[0]].merge is not Merge.CAT:
            break
        index = users[0]
    return links


def _kind(view: GraphView, reach: Reach, link: Link, links: list[Link]) -> Kind:
    if (len(links) > 1 and _sources_differ(view, links)) or any(other.aggregated for other in links):
        return Kind.DENSE
    if link.merge.merge is Merge.ADD and _is_lateral(view, reach, link):
        return Kind.LATERAL
    return Kind.SKIP


def _sources_differ(view: GraphView, links: list[Link]) -> bool:
    return (
        len({link.source for link in links}) > 1 and len({view.resolution[link.source] for link in links}) > 1
    )


def _joins_levels(view: GraphView, link: Link) -> bool:
    """Tell whether a merge joins tensors enlarged from two or more lower levels."""
    operands = [operand for operand in link.merge.operands if operand != link.operand]
    return len(enlarged_from(view, operands)) >= 2


def _is_lateral(view: GraphView, reach: Reach, link: Link) -> bool:
    return weights_between(view, link.source, link.leaf, reach) and resizes_between(
        view, link.source, link.decoder, reach
    )
