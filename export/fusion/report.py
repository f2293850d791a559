"""What a fusion pass did, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Rejected:
    """A place that a pass looked at and left as it was.

    Attributes:
        node: name of the fx node.
        reason: why it was left.
    """

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass changed.

    Where it ran several times, with others in between, "before" is what it was given first and "after" that
    less what it took away each time: the difference is its own.

    Attributes:
        name: the pass, as in `PASSES`.
        changed: how many places it rewrote.
        nodes_before: computing nodes (inputs, constants and the output not counted) it was given.
        nodes_after: computing nodes it gave back.
        flops_before: floating-point operations of the graph it was given, at the example's size; None where
            there was no example.
        flops_after: those of the graph it gave back.
        milliseconds_before: median time of a run of the graph it was given; None where that was not measured.
        milliseconds_after: the same of the graph it gave back.
        details: one line for each place it rewrote.
        rejected: the places it looked at and left, with the reason.
    """

    name: str
    changed: int
    nodes_before: int
    nodes_after: int
    details: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    flops_before: int | None = None
    flops_after: int | None = None
    milliseconds_before: float | None = None
    milliseconds_after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        plain = asdict(self)
        return {**plain, "details": list(self.details), "rejected": [asdict(item) for item in self.rejected]}


def join_reports(first: PassReport, later: PassReport) -> PassReport:
    """Join two runs of the same pass; the later run knows best what could not be rewritten."""
    flops = first.flops_after
    if flops is not None and later.flops_before is not None and later.flops_after is not None:
        flops += later.flops_after - later.flops_before
    return replace(
        first,
        changed=first.changed + later.changed,
        nodes_after=first.nodes_after + later.nodes_after - later.nodes_before,
        details=first.details + later.details,
        rejected=later.rejected,
        flops_after=flops,
    )
