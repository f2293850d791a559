"""The rule: an operand is a skip when its origin reaches the other operand only through lower resolutions.

Operand `s` of a merge is a skip against operand `d` when walking back from `s` without leaving about the
merge's resolution reaches an ancestor `k` of `d`, every path from `k` to `d` dips below that resolution,
and `d` has been lower than anything that `s` has seen since `k`.

Links shadow one another: where an encoder passes several tensors of one resolution, the outer ones also
reach the decoder through the inner links. Found links are therefore taken out and the search repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import operations as ops
from .anatomy import Merge
from .reach import Reach
from .view import ABOUT, Edge, GraphView, MergeSite, bits, members


@dataclass(frozen=True, slots=True)
class Link:
    """A skip in the numbers of a `GraphView`.

    Attributes:
        merge: the merge it enters.
        operand: the operand of that merge through which it enters.
        place: where that operand stands in the merge.
        leaf: the operand itself, or one of the tensors concatenated into it.
        source: where the tensor leaves the encoder.
        decoder: the operand that it meets.
        aggregated: it has seen lower resolutions itself, or other tensors share its operand.
    """

    merge: MergeSite
    operand: int
    place: int
    leaf: int
    source: int
    decoder: int
    aggregated: bool


@dataclass(slots=True)
class Findings:
    """Links found so far, and why other merges were refused."""

    links: list[Link] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    consumed: set[int] = field(default_factory=set)  # concatenations that only prepare an operand

    @property
    def edges(self) -> frozenset[Edge]:
        """The edges to take out: where each link enters the decoder."""
        return frozenset((link.leaf, _entry(link)) for link in self.links)

    def accept(self, link: Link) -> None:
        """Keep a link; what was said against its merge before no longer counts."""
        self.links.append(link)
        self.reasons.pop(link.merge.index, None)
        if link.leaf != link.operand:
            self.consumed.add(link.operand)


def _entry(link: Link) -> int:
    return link.merge.index if link.leaf == link.operand else link.operand


def apply_rule(view: GraphView, findings: Findings) -> None:
    """Find links round by round until a round finds none."""
    first_round = not findings.links
    while True:
        reach = Reach(view, findings.edges)
        found = [link for site in view.merges for link in _links_of(view, reach, site, findings, first_round)]
        found = [link for link in found if link.merge.index not in _prepared(view, found)]
        for link in found:
            findings.accept(link)
        if not found:
            return
        first_round = False


def _prepared(view: GraphView, found: list[Link]) -> set[int]:
    """List the concatenations that are an operand of a found link themselves."""
    del view
    return {link.operand for link in found if link.leaf != link.operand}


def _links_of(
    view: GraphView, reach: Reach, site: MergeSite, findings: Findings, first_round: bool
) -> list[Link]:
    if site.index in findings.consumed or view.names[site.index] == "stack":
        return []
    if not view.output_reach >> site.index & 1:
        findings.reasons.setdefault(site.index, "it only feeds a gate or a summary")
        return []
    if site.merge is Merge.CAT and not _weights_follow(view, site.index):
        findings.reasons.setdefault(site.index, "nothing with weights follows: it only gathers outputs")
        return []
    links, reasons = [], []
    for operand, place in zip(site.operands, site.places, strict=True):
        for decoder in site.operands:
            if decoder == operand:
                continue
            outcome = _judge(view, reach, site, operand, place, decoder, findings, first_round)
            if isinstance(outcome, str):
                reasons.append(outcome)
            elif outcome:
                links.extend(outcome)
                break
    if not links and reasons and not any(link.merge.index == site.index for link in findings.links):
        findings.reasons[site.index] = max(set(reasons), key=lambda reason: (_WEIGHT.get(reason, 9), reason))
    return links


_NO_ORIGIN = "neither side has an origin at this resolution that the other side passes"
_DIRECT = "a path that keeps the resolution joins both sides: a residual or a branch"
_SAME_LOWEST = "same lowest resolution on both sides: a residual or a side output"
_SIBLING = "an addition around an inner U that is no sibling of a link: a residual"
_RAW = "the raw input again"
_WEIGHT = {_NO_ORIGIN: 0, _DIRECT: 1, _SAME_LOWEST: 2, _RAW: 3, _SIBLING: 4}


def _judge(
    view: GraphView, reach: Reach, site: MergeSite, operand: int, place: int, decoder: int, findings: Findings, first_round: bool
) -> list[Link] | str:
    """Judge all tensors behind one operand against another operand; a string is the reason against."""
    known = {(link.merge.index, link.leaf) for link in findings.links}
    links, reason = [], _NO_ORIGIN
    leaves = [leaf for leaf in leaves_of(view, operand, site.index) if (site.index, leaf) not in known]
    for leaf in leaves:
        outcome = _origin(view, reach, leaf, decoder, view.resolution[site.index])
        if isinstance(outcome, str):
            reason = max(reason, outcome, key=lambda r: _WEIGHT[r])
            continue
        if not first_round:
            objection = _objection(view, site, leaf, findings)
            if objection:
                reason = objection
                continue
        seen_lower = reach.lowest(outcome, leaf) < ABOUT * view.resolution[site.index]
        source = _source(view, outcome, leaf, seen_lower)
        links.append(Link(site, operand, place, leaf, source, decoder, seen_lower or len(leaves) > 1))
    return links or reason


def leaves_of(view: GraphView, operand: int, user: int) -> list[int]:
    """List the tensors concatenated into an operand that is made for this merge alone."""
    sites = {site.index: site for site in view.merges}
    site = sites.get(operand)
    alone = view.users[operand] == [user]
    if site is None or site.merge is not Merge.CAT or not alone:
        return [operand]
    return [leaf for inner in site.operands for leaf in leaves_of(view, inner, operand)]


def _origin(view: GraphView, reach: Reach, leaf: int, decoder: int, resolution: int) -> int | str:
    """Return the nearest origin of `leaf` that reaches `decoder` only through lower resolutions."""
    high = reach.high(resolution)
    own = high[leaf] | (1 << leaf)
    if not own & reach.ancestors[decoder] or view.resolution[leaf] < ABOUT * resolution:
        return _NO_ORIGIN
    origins = own & reach.ancestors[decoder] & ~(high[decoder] | (1 << decoder))
    if not origins:
        return _DIRECT
    origin = reach.nearest(origins, high)[-1]
    if reach.lowest(origin, decoder) >= ABOUT * reach.lowest(origin, leaf):
        return _SAME_LOWEST
    return origin


def _objection(view: GraphView, site: MergeSite, leaf: int, findings: Findings) -> str:
    """Say what speaks against a link that only appears once inner links are taken out."""
    if not _has_weights_before(view, leaf):
        return _RAW
    if site.merge is Merge.ADD and not any(is_sibling(view, site, link.merge) for link in findings.links):
        return _SIBLING
    return ""


def _has_weights_before(view: GraphView, leaf: int) -> bool:
    stack, seen = [leaf], 0
    while stack:
        i = stack.pop()
        if view.weights[i]:
            return True
        if not seen >> i & 1:
            seen |= 1 << i
            stack.extend(view.sources[i])
    return False


def _weights_follow(view: GraphView, merge: int) -> bool:
    reached = bits(view.users[merge])
    for i in range(merge, len(view.nodes)):
        if not reached >> i & 1:
            continue
        if view.weights[i]:
            return True
        reached |= bits(view.users[i])
    return False


def _source(view: GraphView, origin: int, leaf: int, seen_lower: bool) -> int:
    """Return the tensor that leaves the encoder: the origin, unless the leaf was made beside the trunk."""
    if seen_lower or view.nodes[origin].op == "placeholder" or not _has_weights_before(view, origin):
        return leaf
    return origin


def is_sibling(view: GraphView, site: MergeSite, other: MergeSite) -> bool:
    """Tell whether two merges are written by the same line, or in modules that differ in a number alone."""
    if site.merge is not other.merge or site.index == other.index:
        return False
    if view.site(site.index) and view.site(site.index) == view.site(other.index):
        return True
    names = [view.module(i.index).split(".") for i in (site, other)]
    if len(names[0]) != len(names[1]) or not names[0][0]:
        return False
    differing = [(a, b) for a, b in zip(*names, strict=True) if a != b]
    return bool(differing) and all(_numbered(a) == _numbered(b) for a, b in differing)


def _numbered(name: str) -> str:
    digits = "".join("#" if c.isdigit() else c for c in name)
    return digits if "#" in digits else name + "!"


def resizes_between(view: GraphView, start: int, end: int, reach: Reach) -> bool:
    """Tell whether a resize without weights stands right before `end`, seen from `start`."""
    within = reach.between(start, end)
    i = end
    while within >> i & 1 and not view.weights[i]:
        if ops.is_any(view.names[i], ops.RESIZES):
            return True
        inputs = [source for source in view.sources[i] if within >> source & 1]
        if len(inputs) != 1:
            return False
        i = inputs[0]
    return False


def weights_between(view: GraphView, start: int, end: int, reach: Reach) -> bool:
    """Tell whether any path from `start` to `end` applies weights after `start`."""
    return any(view.weights[i] for i in members(reach.between(start, end)) if i != start)
