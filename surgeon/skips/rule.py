"""The rule: an operand is a skip when its origin reaches the other operand only through lower resolutions.

Operand `s` of a merge is a skip against operand `d` when walking back from `s` without leaving about the
merge's resolution reaches an ancestor `k` of `d`, every path from `k` to `d` dips below that resolution,
and `d` has been lower than anything that `s` has seen since `k`.

Links shadow one another: where an encoder passes several tensors of one resolution, the outer ones also
reach the decoder through the inner links. Found links are therefore taken out and the search repeated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import Enum

from . import operations as ops
from .anatomy import Merge
from .axes import ABOUT
from .reach import Reach
from .view import Edge, GraphView, MergeSite, bits, members


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
    bridged: dict[int, int] = field(default_factory=dict)  # sums of parallel levels, and what they take up

    @property
    def edges(self) -> frozenset[Edge]:
        """The edges to take out: where each link enters the decoder, and each bridge its level."""
        links = frozenset((link.leaf, _entry(link)) for link in self.links)
        return links | {(shared, merge) for merge, shared in self.bridged.items()}

    def accept(self, link: Link) -> None:
        """Keep a link; what was said against its merge before no longer counts."""
        self.links.append(link)
        self.reasons.pop(link.merge.index, None)
        if link.leaf != link.operand:
            self.consumed.add(link.operand)


def _entry(link: Link) -> int:
    return link.merge.index if link.leaf == link.operand else link.operand


class Reason(Enum):
    """Why a merge is no skip, the most telling last."""

    NO_ORIGIN = "neither side has an origin at this resolution that the other side passes"
    DIRECT = "a path that keeps the resolution joins both sides: a residual or a branch"
    SAME_LOWEST = "same lowest resolution on both sides: a residual or a side output"
    RAW = "the raw input again"
    NO_SIBLING = "an addition around an inner U that is no sibling of a link: a residual"
    PARALLEL = "sums of several levels, none of which builds on another: residuals around a bridge"
    GATE = "it only feeds a gate or a summary"
    OUTPUTS = "nothing with weights follows: it only gathers outputs"


_TELLING = {reason: rank for rank, reason in enumerate(Reason)}


@dataclass(frozen=True, slots=True)
class _Round:
    """One search: the graph, who reaches whom without the links found so far, and whether it is the first."""

    view: GraphView
    reach: Reach
    findings: Findings
    first: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two operands of a merge: the one that may be a skip, and the one it would meet."""

    site: MergeSite
    operand: int
    place: int
    decoder: int


def apply_rule(view: GraphView, findings: Findings) -> None:
    """Find links round by round until a round finds none."""
    first = not findings.links
    while True:
        search = _Round(view, Reach(view, findings.edges), findings, first)
        found = [link for site in view.merges for link in _links_of(search, site)]
        prepared = {link.operand for link in found if link.leaf != link.operand}
        found = [link for link in found if link.merge.index not in prepared]
        bridged = _parallel_sums(view, search.reach, found)
        findings.bridged.update(bridged)
        found = [link for link in found if link.merge.index not in bridged]
        for link in found:
            findings.accept(link)
        if not found and not bridged:
            return
        first = first and not found


def _parallel_sums(view: GraphView, reach: Reach, found: list[Link]) -> dict[int, int]:
    """Return the merges that add at several levels without one leading to another, and what each takes up.

    The sums of a U nest. Where a bridge mixes all levels and hands each its share back, they do not.
    """
    sums = [link for link in found if link.merge.merge is Merge.ADD]

    def lead(a: Link, b: Link) -> bool:
        return bool((reach.ancestors[b.decoder] | (1 << b.decoder)) >> a.merge.index & 1)

    return {
        link.merge.index: link.decoder
        for link in sums
        if any(not view.same_resolution(link.merge.index, other.merge.index) for other in sums)
        and not any(lead(link, other) or lead(other, link) for other in sums if other is not link)
    }


def _links_of(search: _Round, site: MergeSite) -> list[Link]:
    """List the links that enter a merge, or write down why there is none."""
    view, findings = search.view, search.findings
    if site.index in findings.consumed or (site.merge is Merge.CAT and view.names[site.index] == "stack"):
        return []
    unfit = _unfit(view, findings, site)
    if unfit:
        findings.reasons[site.index] = unfit.value
        return []
    links: list[Link] = []
    reasons = [Reason.NO_ORIGIN]
    for operand, place in zip(site.operands, site.places, strict=True):
        outcomes = [
            (decoder, _judge(search, _Pair(site, operand, place, tensor)))
            for decoder in site.operands
            if decoder != operand
            for tensor in leaves_of(view, decoder, site.index)
        ]
        found = next(((d, outcome) for d, outcome in outcomes if not isinstance(outcome, Reason)), None)
        if found is not None:
            links.extend(replace(link, decoder=found[0]) for link in found[1])
        reasons += [outcome for _, outcome in outcomes if isinstance(outcome, Reason)]
    links = _without_mixtures(search, site, links)
    if not links and site.index not in {link.merge.index for link in findings.links}:
        findings.reasons[site.index] = max(reasons, key=_TELLING.__getitem__).value
    return links


def _without_mixtures(search: _Round, site: MergeSite, links: list[Link]) -> list[Link]:
    """Leave out what deeper levels weigh, where what they weigh enters the merge by itself as well.

    There the product is a mixture of both sides, as in a bilinear fusion, and no way of its own.
    """
    view, high = search.view, search.reach.high(search.view.resolution[site.index])
    there = [*links, *(link for link in search.findings.links if link.merge.index == site.index)]
    seen = {link.leaf: high[link.leaf] | (1 << link.leaf) for link in there}
    plain = [own for own in seen.values() if not own & view.weighed]

    def is_mixture(own: int) -> bool:
        shared = (members(own & other) for other in plain)
        return any(view.same_resolution(i, site.index) for common in shared for i in common)

    return [link for link in links if not (seen[link.leaf] & view.weighed and is_mixture(seen[link.leaf]))]


def _unfit(view: GraphView, findings: Findings, site: MergeSite) -> Reason | None:
    """Say what rules a merge out whatever its operands are."""
    if not view.output_reach >> site.index & 1:
        return Reason.GATE
    if site.index in findings.bridged:
        return Reason.PARALLEL
    if site.merge is not Merge.ADD and not _weights_follow(view, site.index):
        return Reason.OUTPUTS
    return None


def _judge(search: _Round, pair: _Pair) -> list[Link] | Reason:
    """Judge all tensors behind one operand against another operand."""
    view, site = search.view, pair.site
    known = {(link.merge.index, link.leaf) for link in search.findings.links}
    links, reason = [], Reason.NO_ORIGIN
    gathered = leaves_of(view, pair.operand, site.index)
    leaves = [leaf for leaf in gathered if (site.index, leaf) not in known]
    for leaf in leaves:
        origin = _origin(search, leaf, pair)
        if origin is Reason.DIRECT and site.merge is not Merge.CAT:
            return origin  # an addition takes up the whole concatenation, and this is a residual around it
        if not isinstance(origin, Reason) and _holds_decoder(search, origin, gathered, pair):
            origin = Reason.SAME_LOWEST
        if isinstance(origin, Reason):
            reason = max(reason, origin, key=_TELLING.__getitem__)
            continue
        lower = search.reach.lowest(origin, leaf) < ABOUT * view.resolution[site.index]
        source = _source(view, origin, leaf, lower)
        aggregated = lower or len(leaves) > 1
        links.append(Link(site, pair.operand, pair.place, leaf, source, pair.decoder, aggregated))
    return links or reason


def _holds_decoder(search: _Round, origin: int, gathered: list[int], pair: _Pair) -> bool:
    """Tell whether one of the tensors gathered in an operand comes from deeper than the other operand."""
    deepest = search.reach.lowest(origin, pair.decoder)
    return any(search.reach.lowest(origin, leaf) < ABOUT * deepest for leaf in gathered)


def leaves_of(view: GraphView, operand: int, user: int) -> list[int]:
    """List the tensors concatenated into an operand that is made for this merge alone."""
    sites = {site.index: site for site in view.merges}
    site = sites.get(operand)
    alone = view.users[operand] == [user]
    if site is None or site.merge is not Merge.CAT or not alone:
        return [operand]
    return [leaf for inner in site.operands for leaf in leaves_of(view, inner, operand)]


def _origin(search: _Round, leaf: int, pair: _Pair) -> int | Reason:
    """Return the nearest origin of `leaf` that reaches the decoder only through lower resolutions."""
    reach, resolution = search.reach, search.view.resolution[pair.site.index]
    high = reach.high(resolution)
    own = high[leaf] | (1 << leaf)
    if not own & reach.ancestors[pair.decoder] or search.view.resolution[leaf] < ABOUT * resolution:
        return Reason.NO_ORIGIN
    origins = own & reach.ancestors[pair.decoder] & ~(high[pair.decoder] | (1 << pair.decoder))
    if not origins:
        return Reason.DIRECT
    origin = reach.nearest(origins, high)[-1]
    if reach.lowest(origin, pair.decoder) >= ABOUT * reach.lowest(origin, leaf):
        return Reason.SAME_LOWEST
    return _objection(search, pair.site, leaf) or origin


def _objection(search: _Round, site: MergeSite, leaf: int) -> Reason | None:
    """Say what speaks against a link although its paths are right."""
    added = site.merge is not Merge.CAT
    if (added or not search.first) and not _has_weights_before(search.view, leaf):
        return Reason.RAW
    # Once inner links are taken out, what appears may be a residual around a whole inner U.
    siblings = (is_sibling(search.view, site, link.merge) for link in search.findings.links)
    return Reason.NO_SIBLING if added and not search.first and not any(siblings) else None


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
    """Tell whether two merges are written alike.

    By the same line, by lines of one forward that differ in numbers alone (`x4 = x4 + t4`, `x5 = x5 + t5`),
    or in modules whose names do.
    """
    if site.merge is not other.merge or site.index == other.index:
        return False
    if view.site(site.index) and view.site(site.index) == view.site(other.index):
        return True
    lines = [view.line(i.index) for i in (site, other)]
    if view.module(site.index) == view.module(other.index) and lines[0] != lines[1]:
        return _numbered(lines[0]) == _numbered(lines[1])
    names = [view.module(i.index).split(".") for i in (site, other)]
    if len(names[0]) != len(names[1]) or not names[0][0]:
        return False
    differing = [(a, b) for a, b in zip(*names, strict=True) if a != b]
    return bool(differing) and all(_numbered(a) == _numbered(b) for a, b in differing)


def _numbered(name: str) -> str:
    digits = re.sub(r"\d+", "#", name)
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
