"""What a fusion pass did, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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

    Attributes:
        name: the pass, as in `PASSES`.
        changed: how many places it rewrote.
        nodes_before: computing nodes (inputs, constants and the output not counted) it was given.
        nodes_after: computing nodes it gave back.
        details: one line for each place it rewrote.
        rejected: the places it looked at and left, with the reason.
    """

    name: str
    changed: int
    nodes_before: int
    nodes_after: int
    details: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        plain = asdict(self)
        return {**plain, "details": list(self.details), "rejected": [asdict(item) for item in self.rejected]}


def join_reports(first: PassReport, later: PassReport) -> PassReport:
    """Join two runs of the same pass; the later run knows best what could not be rewritten."""
    return PassReport(
        first.name,
        first.changed + later.changed,
        first.nodes_before,
        later.nodes_after if later.changed else first.nodes_after,
        first.details + later.details,
        later.rejected,
    )
