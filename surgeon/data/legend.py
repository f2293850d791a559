"""What the values of a label file mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgeon.errors import DataError

from .regions import LabelRegions

# What a voxel holds that nobody has labelled, once a label is read; the largest number of one byte.
IGNORED = 255
# Two classes are often written as black and white, of one byte or of two.
_WHITES = (255, 65535)


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of label files.

    Attributes:
        classes: names, background first.
        regions: the label values of each foreground class, where classes overlap.
        ignore: the value in the files of voxels that are not labelled (nnU-Net's `ignore`); they count
            neither in a loss nor in a score.
        values: the value of each class in the files; None where it is the class's place.
    """

    classes: tuple[str, ...]
    regions: LabelRegions | None = None
    ignore: int | None = None
    values: tuple[int, ...] | None = None

    def read(self, values: NDArray[np.int64], where: str, *, binarise: bool = False) -> NDArray[np.int64]:
        """Turn the values of a label file into class numbers, or check that each is in a region.

        Args:
            values: `(*spatial)`.
            where: named in an error.
            binarise: every value above 0 is class 1.

        Returns:
            `(*spatial)`, with `IGNORED` where the file says so.

        Raises:
            DataError: a value is no class and in no region.
        """
        if self.ignore is None:
            return self._read(values, where, binarise)
        unknown = values == self.ignore
        return np.where(unknown, IGNORED, self._read(np.where(unknown, 0, values), where, binarise))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "classes": list(self.classes),
            "regions": None if self.regions is None else self.regions.to_dict(),
            "ignore": self.ignore,
            "values": None if self.values is None else list(self.values),
        }

    def _read(self, values: NDArray[np.int64], where: str, binarise: bool) -> NDArray[np.int64]:
        if binarise:
            return (values > 0).astype(np.int64)
        if self.regions is None:
            return self._as_classes(values, where)
        unknown = sorted({int(value) for value in np.unique(values)} - self.regions.known)
        if unknown:
            raise DataError(
                f"the label holds values of no region: {_listed(unknown)}",
                where=where,
                fix=f"dataset.json names {', '.join(map(str, sorted(self.regions.known)))}",
            )
        return values

    def _as_classes(self, values: NDArray[np.int64], where: str) -> NDArray[np.int64]:
        known = self.values or tuple(range(len(self.classes)))
        if known == (0, 1) and any(((values == 0) | (values == white)).all() for white in _WHITES):
            return (values > 0).astype(np.int64)
        if self.values is None and values.size and values.min() >= 0 and values.max() < len(known):
            return np.ascontiguousarray(values)
        unknown = sorted({int(value) for value in np.unique(values)} - set(known))
        if unknown:
            named = ", ".join(f"{value} {name}" for value, name in zip(known, self.classes, strict=True))
            raise DataError(
                f"the label holds unknown classes: {_listed(unknown)} (known: {named})",
                where=where,
                fix='name every class with --classes, or with its value in a dataset.json ("labels": '
                '{"background": 0, "cell": 128}), or make all above 0 foreground with --binarise',
            )
        order = np.argsort(known)
        placed: NDArray[np.int64] = order[np.searchsorted(np.asarray(known)[order], values)]
        return placed


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
