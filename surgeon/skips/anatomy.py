"""What was found in a host, as values that print, pickle and outlive the graph."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from surgeon.tracing import TraceSummary


class Kind(Enum):
    """What sort of link a skip is."""

    SKIP = "skip"
    DENSE = "dense"
    LATERAL = "lateral"
    FUSION = "fusion"


class Merge(Enum):
    """How a skip meets the decoder path."""

    CAT = "cat"
    ADD = "add"
    OTHER = "other"


class Layout(Enum):
    """Where the channels of a tensor are."""

    CHANNELS_FIRST = "channels_first"  # (N, C, *spatial)
    CHANNELS_LAST = "channels_last"  # (N, *spatial, C)
    TOKENS = "tokens"  # (N, L, C)


@dataclass(frozen=True, slots=True)
class Skip:
    """An encoder-to-decoder link of a host.

    Attributes:
        id: `s0`, `s1`, ..., highest resolution first.
        kind: skip, dense, lateral or fusion.
        merge: cat, add, or other: a product, a difference, a maximum, a stack, where neither joins the U.
        merge_module: qualified name of the module in whose forward the merge happens (`""` for the root).
        source_module: qualified name of the module that makes the source tensor.
        source_shape: shape where the tensor leaves the encoder, batch included.
        merge_shape: shape of the skip operand as it enters the merge, batch included.
        implantable: whether a cell can be spliced here; if not, `reason` says why.
        reason: why not.
        level: 0 for the skips of the highest resolution, counting down the U.
        stride: input size over the size at the merge, rounded, per spatial dimension.
        layout: where the channels of the operand are at the merge.
        decoder_shape: shape of the tensor that the skip meets.
        merge_node: name of the fx node of the merge.
        operand_node: name of the fx node of the skip operand.
        operand_index: place of that operand in the merge.
        decoder_node: name of the fx node that the skip meets.
        source_node: name of the fx node of the source.
    """

    id: str
    kind: Kind
    merge: Merge
    merge_module: str
    source_module: str
    source_shape: tuple[int, ...]
    merge_shape: tuple[int, ...]
    implantable: bool
    reason: str
    level: int
    stride: tuple[int, ...]
    layout: Layout
    decoder_shape: tuple[int, ...]
    merge_node: str
    operand_node: str
    operand_index: int
    decoder_node: str
    source_node: str

    @property
    def channels(self) -> int:
        """Channels of the skip operand at the merge."""
        return _channels(self.merge_shape, self.layout)

    @property
    def decoder_channels(self) -> int:
        """Channels of the tensor that the skip meets."""
        return _channels(self.decoder_shape, self.layout)

    @property
    def spatial(self) -> tuple[int, ...]:
        """Spatial size at the merge; `(L,)` for tokens."""
        if self.layout is Layout.CHANNELS_FIRST:
            return self.merge_shape[2:]
        return self.merge_shape[1:-1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "merge": self.merge.value,
            "merge_module": self.merge_module,
            "source_module": self.source_module,
            "source_shape": list(self.source_shape),
            "merge_shape": list(self.merge_shape),
            "implantable": self.implantable,
            "reason": self.reason,
            "level": self.level,
            "stride": list(self.stride),
            "channels": self.channels,
            "layout": self.layout.value,
            "decoder_shape": list(self.decoder_shape),
            "merge_node": self.merge_node,
            "source_node": self.source_node,
        }


def _channels(shape: tuple[int, ...], layout: Layout) -> int:
    return shape[1] if layout is Layout.CHANNELS_FIRST else shape[-1]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A merge that was considered and is not a skip, and why."""

    node: str
    merge: Merge
    module: str
    shape: tuple[int, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "node": self.node,
            "merge": self.merge.value,
            "module": self.module,
            "shape": list(self.shape),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The skips of a host and how they were found.

    Attributes:
        host: class name of the host.
        skips: highest resolution first.
        refusals: merges that were considered and refused, with the reason.
        notes: remarks in sentences, such as what was seen in a network without skips.
        parameters: number of parameters of the host.
        input_shapes: shapes of the example's tensors.
        output_shapes: shapes of the host's output tensors.
        trace: how the graph was made and what was tried.
    """

    host: str
    skips: tuple[Skip, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    parameters: int
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    trace: TraceSummary

    def __getitem__(self, skip_id: str) -> Skip:
        """Return the skip of that id; raises `KeyError` when there is none."""
        for skip in self.skips:
            if skip.id == skip_id:
                return skip
        raise KeyError(skip_id)

    @property
    def spatial_dims(self) -> int:
        """Spatial dimensions of the (first) input: 1, 2 or 3."""
        return len(self.input_shapes[0]) - 2

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "host": self.host,
            "parameters": self.parameters,
            "input_shapes": [list(shape) for shape in self.input_shapes],
            "output_shapes": [list(shape) for shape in self.output_shapes],
            "skips": [skip.to_dict() for skip in self.skips],
            "refusals": [refusal.to_dict() for refusal in self.refusals],
            "notes": list(self.notes),
            "trace": self.trace.to_dict(),
        }
