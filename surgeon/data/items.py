"""Cases that are items of somebody's dataset: arrays and tensors instead of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from surgeon.errors import DataError

from .decoding import Decoded
from .intensities import cut_and_scale, within
from .legend import Legend
from .preparation import Preparation
from .reading import check_array, check_finite, whole_numbers

SUBJECT_KEYS = ("subject", "patient", "group")
NAME_KEYS = ("id", "name", "case")


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a dataset, taken apart.

    Attributes:
        image: array `(C, *spatial)`, tensor, or names of files.
        label: array `(*spatial)` or `(1, *spatial)`, tensor, or name of a file.
        subject: where the entry says it.
        name: where the entry says it.
        spacing: in mm, where the entry says it.
    """

    image: Any
    label: Any
    subject: str | None = None
    name: str | None = None
    spacing: tuple[float, ...] | None = None


def read_item(entry: Any, where: str) -> Item:
    """Take an entry of a dataset apart.

    Args:
        entry: `{"image": ..., "label": ..., "subject": ..., "name": ..., "spacing": ...}`, or a tuple of
            image, label and maybe subject.
        where: named in an error.

    Raises:
        DataError: it is neither, or lacks an image or a label.
    """
    if isinstance(entry, tuple | list) and len(entry) in (2, 3):
        return Item(entry[0], entry[1], None if len(entry) == 2 else str(entry[2]))
    if isinstance(entry, Mapping) and entry.get("image") is not None and entry.get("label") is not None:
        spacing = entry.get("spacing")
        return Item(
            entry["image"],
            entry["label"],
            _first(entry, SUBJECT_KEYS),
            _first(entry, NAME_KEYS),
            None if spacing is None else tuple(float(size) for size in spacing),
        )
    raise DataError(
        f"an item of the dataset is no pair of image and label, but a {type(entry).__name__}",
        where=where,
        fix='return {"image": array, "label": array, "subject": name}, or a tuple of image and label',
    )


def _first(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(entry[key]) for key in keys if entry.get(key) is not None), None)


class Items:
    """The items of one or more datasets, read when they are needed.

    Args:
        entries: the items, by place: anything with a length and items.
        place: where they come from, named in an error.
    """

    def __init__(self, entries: Any, place: str) -> None:
        self.entries = entries
        self.place = place
        # The slices of a volume are read one after the other.
        self._last: tuple[Any, Decoded] | None = None

    def where(self, index: int) -> str:
        """Name an item in an error."""
        return f"{self.place}, item {index}"

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the spatial shape of an item."""
        return tuple(self._arrays(index)[0].shape[1:])

    def decode(self, index: int, preparation: Preparation, legend: Legend) -> Decoded:
        """Read an item as a file would be read; see `decode_case`.

        Raises:
            DataError: image and label do not fit each other, or hold what cannot be used.
        """
        key = (index, preparation, legend)
        if self._last is None or self._last[0] != key:
            self._last = (key, self._decoded(index, preparation, legend))
        return self._last[1]

    def entry(self, index: int) -> Any:
        """Return an item as the dataset gives it.

        Raises:
            DataError: the dataset fails.
        """
        try:
            return self.entries[index]
        except Exception as error:  # a dataset raises whatever it likes
            first = (str(error).strip().splitlines() or [""])[0][:160]
            raise DataError(
                f"the dataset failed: {type(error).__name__}: {first}", where=self.where(index)
            ) from error

    def _decoded(self, index: int, preparation: Preparation, legend: Legend) -> Decoded:
        array, values, spacing = self._arrays(index)
        where = self.where(index)
        image, box = cut_and_scale(array, preparation, where)
        truth = torch.from_numpy(legend.read(values, where, binarise=preparation.binarise))
        return Decoded(image, truth[within(box)], truth, spacing, box, tuple(array.shape[1:]))

    def _arrays(self, index: int) -> tuple[NDArray[Any], NDArray[np.int64], tuple[float, ...]]:
        where = self.where(index)
        item = read_item(self.entry(index), where)
        image, label = np.asarray(item.image), np.asarray(item.label)
        for array in (image, label):
            check_array(array, where)
        if label.ndim == image.ndim and label.shape[0] == 1:
            label = label[0]
        image = image[None] if image.ndim == label.ndim else image
        if image.shape[1:] != label.shape:
            raise DataError(
                f"image and label differ in size: {image.shape} against {label.shape}",
                where=where,
                fix="return an image (C, *spatial) and a label (*spatial)",
            )
        if image.dtype.kind == "f":
            check_finite(image, where)
        spacing = item.spacing or (1.0,) * label.ndim
        if len(spacing) != label.ndim:
            raise DataError(f"a spacing of {spacing} for {label.ndim} axes", where=where)
        return image, whole_numbers(label, where), spacing
