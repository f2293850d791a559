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


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of label files.

    Attributes:
        classes: names, background first.
        regions: the label values of each foreground class, where classes overlap.
        ignore: the value in the files of voxels that are not labelled (nnU-Net's `ignore`); they count
            neither in a loss nor in a score.
    """

    classes: tuple[str, ...]
    regions: LabelRegions | None = None
    ignore: int | None = None

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
        }

    def _read(self, values: NDArray[np.int64], where: str, binarise: bool) -> NDArray[np.int64]:
        if binarise:
            return (values > 0).astype(np.int64)
        if self.regions is None:
            return _as_classes(values, self.classes, where)
        unknown = sorted({int(value) for value in np.unique(values)} - self.regions.known)
        if unknown:
            raise DataError(
                f"the label holds values of no region: {_listed(unknown)}",
                where=where,
                fix=f"dataset.json names {', '.join(map(str, sorted(self.regions.known)))}",
            )
        return values


def _as_classes(values: NDArray[np.int64], classes: tuple[str, ...], where: str) -> NDArray[np.int64]:
    # Two classes are often written as black and white.
    if len(classes) == 2 and not ((values != 0) & (values != 255)).any():
        return (values > 0).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() >= len(classes)):
        unknown = sorted({int(v) for v in np.unique(values)} - set(range(len(classes))))
        named = ", ".join(f"{index} {name}" for index, name in enumerate(classes))
        raise DataError(
            f"the label holds unknown classes: {_listed(unknown)} (known: {named})",
            where=where,
            fix="name every class with classes, or make all above 0 foreground with binarise (--binarise)",
        )
    return np.ascontiguousarray(values)


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
