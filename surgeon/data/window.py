"""The window that a large image is seen through, piece by piece."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from surgeon.errors import DataError


class Placing(StrEnum):
    """Where windows lie on an image."""

    EVEN = "even"  # at equal distances from border to border, as nnU-Net
    STRIDE = "stride"  # a fixed stride apart, the last one moved back to the border, as MONAI


class Padding(StrEnum):
    """What an image is padded with that is smaller than the window."""

    CONSTANT = "constant"  # zeros
    REPLICATE = "replicate"  # its last voxel
    REFLECT = "reflect"


class Weighting(StrEnum):
    """What a voxel counts for, by its place in the window."""

    GAUSSIAN = "gaussian"  # a deviation of an eighth of the window
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window; what overlapping windows say is averaged.

    Attributes:
        size: of the window; a smaller image is padded on both sides.
        overlap: share of the window by which neighbours overlap, at least.
        mirror: spatial axes along which the window is flipped too; all combinations are averaged.
        placing: where windows lie.
        weights: what a voxel counts for.
        padding: what smaller images are padded with.

    Raises:
        DataError: a value is out of its range.
    """

    size: tuple[int, ...]
    overlap: float = 0.5
    mirror: tuple[int, ...] = ()
    placing: Placing = Placing.EVEN
    weights: Weighting = Weighting.GAUSSIAN
    padding: Padding = Padding.CONSTANT

    def __post_init__(self) -> None:
        rules = (
            ("size", _are_counts(self.size, least=1) and len(self.size) > 0, "sides of at least 1"),
            ("overlap", _is_share(self.overlap), "at least 0 and below 1"),
            ("mirror", _are_counts(self.mirror, least=0), "a list of axes, the first is 0"),
            ("placing", self.placing in tuple(Placing), f"one of {', '.join(Placing)}"),
            ("weights", self.weights in tuple(Weighting), f"one of {', '.join(Weighting)}"),
            ("padding", self.padding in tuple(Padding), f"one of {', '.join(Padding)}"),
        )
        for name, holds, fix in rules:
            if not holds:
                value = getattr(self, name)
                raise DataError(
                    f"{name} of {value!r} cannot be used", where=f"preparation: window.{name}", fix=fix
                )
        if any(axis >= len(self.size) for axis in self.mirror):
            raise DataError(
                f"mirror axes {list(self.mirror)} of a window with {len(self.size)} axes",
                where="preparation: window.mirror",
                fix="count the spatial axes from 0",
            )
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "mirror", tuple(self.mirror))
        object.__setattr__(self, "placing", Placing(self.placing))
        object.__setattr__(self, "weights", Weighting(self.weights))
        object.__setattr__(self, "padding", Padding(self.padding))

    def unmirrored(self) -> Window:
        """Return the window without mirroring: to follow a training, where every second counts."""
        return dataclasses.replace(self, mirror=())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "size": list(self.size),
            "overlap": self.overlap,
            "mirror": list(self.mirror),
            "placing": str(self.placing),
            "weights": str(self.weights),
            **({} if self.padding is Padding.CONSTANT else {"padding": str(self.padding)}),
        }

    @classmethod
    def from_dict(cls, values: Any, where: str = "preparation") -> Window:
        """Build from plain JSON or TOML.

        Raises:
            DataError: it is no table, a key is unknown, `size` is missing, or a value is out of its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or "size" not in values or set(values) - set(known):
            raise DataError(
                "the window of the preparation cannot be used",
                where=where,
                fix=f"a table of {', '.join(known)}",
            )
        return cls(**values)


def _are_counts(values: Any, least: int) -> bool:
    return isinstance(values, tuple | list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= least for value in values
    )


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
