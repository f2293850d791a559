"""What the rule cannot see: the deepest link of a U that keeps its resolution, and isotropic encoders."""

from __future__ import annotations

from dataclasses import dataclass

from .anatomy import Merge
from .axes import ABOUT
from .reach import Reach
from .rule import Findings, Link, is_sibling, leaves_of
from .view import GraphView, MergeSite, enlarged_from, members


def find_deepest(view: GraphView, findings: Findings) -> bool:
    """Find links at the bottom of the U, where source and merge have the same resolution.

    Such a merge is told from a residual by its siblings: it is written by the same line as a found link,
    or stands in a module whose name differs from that link's in a number alone.

    Returns:
        whether any was found.
    """
    if not findings.links:
        return False
    reach = Reach(view, frozenset())
    trunk = Reach(view, findings.edges)
    bottom = min(
        trunk.narrowest(link.source, link.decoder) for link in findings.links if link.source != link.decoder
    )
    found = []
    for site in view.merges:
        if site.index in findings.consumed or any(link.merge.index == site.index for link in findings.links):
            continue
        at_bottom = view.resolution[site.index] * ABOUT <= bottom
        siblings = [link for link in findings.links if is_sibling(view, site, link.merge)]
        if len(site.operands) == 2 and at_bottom and siblings and view.output_reach >> site.index & 1:
            found.extend(_same_level(view, reach, site))
    for link in found:
        findings.accept(link)
    return bool(found)


def _same_level(view: GraphView, reach: Reach, site: MergeSite) -> list[Link]:
    """Return the link of a merge whose sides part at its own resolution: the decoder's side is the deeper."""
    first, second = site.operands
    shared = (reach.ancestors[first] | (1 << first)) & (reach.ancestors[second] | (1 << second))
    if not shared:
        return []
    origin = reach.nearest(shared, reach.ancestors)[-1]
    depths = [_depth(view, reach, origin, operand) for operand in site.operands]
    k = depths.index(min(depths))
    decoder = site.operands[1 - k]
    if depths[0] == depths[1] or not view.same_resolution(origin, site.index) or origin == decoder:
        return []
    return [Link(site, site.operands[k], site.places[k], site.operands[k], origin, decoder, aggregated=False)]


def _depth(view: GraphView, reach: Reach, origin: int, end: int) -> int:
    """Count the operations with weights on the paths from an origin to a tensor."""
    return sum(view.weights[i] for i in members(reach.between(origin, end)) if i != origin)


@dataclass(frozen=True, slots=True)
class _Rung:
    """A merge whose both sides were enlarged from tensors of one resolution."""

    link: Link
    origin: int


def find_isotropic(view: GraphView, findings: Findings) -> bool:
    """Find links from an encoder that never changes its resolution, such as a transformer's hidden states.

    The sides of such a merge part at an origin below the merge's resolution. One alone could be a residual
    around an upsampling; a U shows in their nesting: the deeper the origin, the earlier the merge, and the
    merges grow while the origins keep their resolution.

    Returns:
        whether any was found.
    """
    reach = Reach(view, findings.edges)
    taken = {link.merge.index for link in findings.links}
    rungs = [
        rung
        for site in view.merges
        if site.index not in taken and site.index not in findings.consumed and len(site.operands) == 2
        if view.output_reach >> site.index & 1
        for rung in _rungs(view, reach, site)
    ]
    nested = [rung for rung in rungs if any(_nests(view, reach, rung, other) for other in rungs)]
    for rung in nested:
        findings.accept(rung.link)
    return bool(nested)


def _rungs(view: GraphView, reach: Reach, site: MergeSite) -> list[_Rung]:
    for k, other in ((0, 1), (1, 0)):
        operand, decoder = site.operands[k], site.operands[other]
        shared = (reach.ancestors[operand] | (1 << operand)) & reach.ancestors[decoder]
        if not shared:
            continue
        origin = reach.nearest(shared, reach.ancestors)[-1]
        low = view.resolution[origin] < ABOUT * view.resolution[site.index]
        if (
            low
            and leaves_of(view, operand, site.index) == [operand]
            and _deepens(view, reach, origin, decoder, operand)
        ):
            link = Link(site, operand, site.places[k], operand, origin, decoder, aggregated=False)
            return [_Rung(link, origin)]
    return []


def _deepens(view: GraphView, reach: Reach, origin: int, decoder: int, operand: int) -> bool:
    """Tell whether the trunk goes on at the origin's resolution on the decoder's side alone."""

    def depth(end: int) -> int:
        flat = [
            i for i in members(reach.between(origin, end)) if view.same_resolution(i, origin) and i != origin
        ]
        return sum(view.weights[i] for i in flat)

    return depth(decoder) > depth(operand) + 1


def _nests(view: GraphView, reach: Reach, a: _Rung, b: _Rung) -> bool:
    if a.link.merge.index == b.link.merge.index or not view.same_resolution(a.origin, b.origin):
        return False
    outer, inner = (a, b) if a.link.merge.index > b.link.merge.index else (b, a)
    return bool(
        reach.ancestors[inner.origin] >> outer.origin & 1
        and reach.ancestors[outer.link.decoder] >> inner.link.merge.index & 1
        and view.resolution[outer.link.merge.index] > view.resolution[inner.link.merge.index]
    )


def find_fusions(view: GraphView, findings: Findings) -> list[MergeSite]:
    """Find heads that resize several levels to one resolution and join them all at once."""
    taken = {link.merge.index for link in findings.links} | findings.consumed
    return [
        site
        for site in view.merges
        if site.merge is Merge.CAT and site.index not in taken and len(set(site.operands)) >= 3
        if view.output_reach >> site.index & 1 and len(enlarged_from(view, site.operands)) >= 2
    ]
