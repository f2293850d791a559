"""What a cell is built from, apart from its genotype."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from surgeon.errors import InputError

from ..genotype import CellMerge, Inputs, state_names
from ..operations import OPERATIONS

NARROWEST = 4
"""Fewest channels inside a cell: with less, partial channels and BatchNorm leave nothing to mix."""


@dataclass(frozen=True, slots=True)
class CellSpec:
    """The size and form of a cell on one skip.

    Attributes:
        channels: channels C of the skip, in and out.
        spatial_dims: 1, 2 or 3.
        decoder_channels: channels of the tensor that the skip meets; used with `inputs` both.
        width: channels inside the cell as a share of C (never fewer than 4).
        states: number of states.
        inputs: what the cell is given.
        merge: what the cell returns.
        partial: K; one channel in K goes through the operations while searching.
        operations: what an edge can be.
    """

    channels: int
    spatial_dims: int
    decoder_channels: int = 0
    width: float = 0.25
    states: int = 4
    inputs: Inputs = Inputs.ENCODER
    merge: CellMerge = CellMerge.RESIDUAL
    partial: int = 4
    operations: tuple[str, ...] = tuple(OPERATIONS)

    def __post_init__(self) -> None:
        least = {"channels": self.channels, "states": self.states, "partial": self.partial}
        if self.inputs is Inputs.BOTH:
            least["decoder_channels"] = self.decoder_channels
        for name, number in least.items():
            if number < 1:
                raise InputError(f"{name} is {number}", where="CellSpec", fix=f"give {name} of at least 1")
        if self.spatial_dims not in (1, 2, 3):
            raise InputError(f"spatial_dims is {self.spatial_dims}", where="CellSpec", fix="give 1, 2 or 3")
        if set(self.operations) <= {"none"}:
            raise InputError(
                "the operations hold nothing but none", where="CellSpec", fix="give one that computes"
            )
        if not self.width > 0:
            raise InputError(f"width is {self.width}", where="CellSpec", fix="give a share above 0")

    @property
    def inner(self) -> int:
        """Channels inside the cell."""
        return max(NARROWEST, round(self.channels * self.width))

    @property
    def operated(self) -> int:
        """Channels that go through the operations of an edge while searching; K need not divide `inner`."""
        return max(1, self.inner // self.partial)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the states, inputs first."""
        return state_names(self.inputs, self.states)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs (source, target) of indices into `names`, by target, then by source."""
        first = self.inputs.number
        return tuple(
            (source, target) for target in range(first, first + self.states) for source in range(target)
        )

    @property
    def incoming(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each state, its edges as (index into `edges`, source)."""
        first = self.inputs.number
        numbered = tuple(enumerate(self.edges))
        return tuple(
            tuple((index, source) for index, (source, target) in numbered if target == state)
            for state in range(first, first + self.states)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "operations": list(self.operations)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> CellSpec:
        """Read what `to_dict` returned."""
        return cls(
            **{
                **value,
                "inputs": Inputs(value["inputs"]),
                "merge": CellMerge(value["merge"]),
                "operations": tuple(value["operations"]),
            }
        )
