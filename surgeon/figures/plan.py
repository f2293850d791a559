"""What a table or a drawing shows of an anatomy, read from the value or from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

from surgeon.rendering import format_shape, format_stride

if TYPE_CHECKING:
    from surgeon.skips import Anatomy

AnatomyLike: TypeAlias = "Anatomy | Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class Link:
    """A skip as it is drawn.

    Attributes:
        id: `s0`, `s1`, ...
        kind: skip, dense, lateral or fusion.
        merge: cat, add or other.
        source: module that makes the source tensor.
        target: module in whose forward the merge happens.
        channels: of the operand at the merge.
        size: spatial size at the merge in words, such as `64×64`.
        source_size: the same where the tensor leaves the encoder; empty when it is equal.
        stride: in words.
        level: 0 for the highest resolution.
        reason: why no cell can be implanted; empty when one can.
    """

    id: str
    kind: str
    merge: str
    source: str
    target: str
    channels: int
    size: str
    source_size: str
    stride: str
    level: int
    reason: str

    @property
    def implantable(self) -> bool:
        """Whether a cell can be spliced here."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Plan:
    """An anatomy as it is drawn: its links gathered by level."""

    host: str
    parameters: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    levels: tuple[tuple[Link, ...], ...]
    notes: tuple[str, ...]
    refusals: tuple[Mapping[str, Any], ...]
    trace: Mapping[str, Any]

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, highest resolution first."""
        return tuple(link for level in self.levels for link in level)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What the head of a report says of the host, as names and sentences."""
        rows = [("input", ", ".join(self.inputs)), ("output", ", ".join(self.outputs))]
        if self.trace.get("free_sizes"):
            stride = self.trace.get("graph_stride") or 1
            sizes = f"in steps of {stride}" if stride > 1 else "any"
            rows.append(
                ("sizes", sizes + (", any batch" if self.trace.get("free_batch") else ", this batch"))
            )
        elif self.trace:
            batch = "any batch" if self.trace.get("free_batch") else "this batch"
            rows.append(("sizes", f"those of the example, {batch}"))
        if self.trace:
            rows.append(("traced by", str(self.trace["way"])))
        return tuple(row for row in rows if row[1])


def plan_of(anatomy: AnatomyLike) -> Plan:
    """Read what is drawn from an `Anatomy` or from its `to_dict()`.

    Raises:
        KeyError: the mapping is not the JSON of an anatomy.
    """
    record = anatomy if isinstance(anatomy, Mapping) else anatomy.to_dict()
    links = sorted((_link(skip) for skip in record["skips"]), key=lambda link: link.level)
    return Plan(
        host=record["host"],
        parameters=record["parameters"],
        inputs=tuple(format_shape(shape) for shape in record["input_shapes"]),
        outputs=tuple(format_shape(shape) for shape in record["output_shapes"]),
        levels=tuple(tuple(group) for _, group in groupby(links, key=lambda link: link.level)),
        notes=tuple(record["notes"]),
        refusals=tuple(record["refusals"]),
        trace=record["trace"],
    )


def _link(skip: Mapping[str, Any]) -> Link:
    size, source_size = _size(skip, "merge_shape"), _size(skip, "source_shape")
    same_rank = len(skip["merge_shape"]) == len(skip["source_shape"])
    return Link(
        id=skip["id"],
        kind=skip["kind"],
        merge=skip["merge"],
        source=skip["source_module"],
        target=skip["merge_module"],
        channels=skip["channels"],
        size=size,
        source_size=source_size if same_rank and source_size != size else "",
        stride=format_stride(skip["stride"]) if skip["stride"] else "",
        level=skip["level"],
        reason="" if skip["implantable"] else skip["reason"] or "refused",
    )


def _size(skip: Mapping[str, Any], key: str) -> str:
    shape = skip[key]
    if skip["layout"] == "tokens":
        return f"{shape[1]} tokens"
    return format_shape(shape[2:] if skip["layout"] == "channels_first" else shape[1:-1])
