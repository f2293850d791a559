"""The files of one case decoded: channels stacked and scaled, label values turned to classes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgeon.errors import DataError

from .preparation import Preparation
from .preparing import prepare_intensities
from .reading import Raw, read_image, read_label

Decoded = tuple[Tensor, Tensor | None, tuple[float, ...]]


def decode_case(
    images: tuple[Path, ...], label: Path | None, preparation: Preparation, classes: tuple[str, ...]
) -> Decoded:
    """Decode image and label, on the grid they have in their files.

    Args:
        images: files of the channels, in order.
        label: file of the label, or None.
        preparation: how intensities are scaled.
        classes: names of the classes, background first.

    Returns:
        image float32 `(C, *spatial)`, label int64 `(*spatial)` or None, and the spacing in mm.

    Raises:
        DataError: a file cannot be decoded, sizes differ, or the label holds a value that is no class.
    """
    raws = [read_image(path, preparation.axes, preparation.orientation) for path in images]
    for path, raw in zip(images, raws, strict=True):
        if raw.array.shape[1:] != raws[0].array.shape[1:]:
            raise DataError(
                f"the channels of a case differ in size: {_size(raw.array.shape[1:])} against"
                f" {_size(raws[0].array.shape[1:])}",
                where=str(path),
            )
        _check_place(raw, raws[0], f"{images[0]} and {path}")
    array = raws[0].array if len(raws) == 1 else np.concatenate([raw.array for raw in raws])
    image = prepare_intensities(array, preparation, str(images[0]))
    if label is None:
        return image, None, raws[0].spacing
    truth = read_label(label, preparation.axes, preparation.orientation)
    values = truth.array
    if values.shape != array.shape[1:]:
        raise DataError(
            f"image and label differ in size: {_size(array.shape[1:])} against {_size(values.shape)}",
            where=f"{images[0]} and {label}",
            fix="write the label on the image's grid",
        )
    _check_place(truth, raws[0], f"{images[0]} and {label}")
    found = to_classes(values, classes, preparation.binarise, str(label))
    return image, torch.from_numpy(found), raws[0].spacing


def _check_place(one: Raw, other: Raw, where: str) -> None:
    """Refuse files of one case whose voxels are of other sizes, or that are turned against each other."""
    if one.directions and other.directions and not one.lies_as(other):
        raise DataError(
            f"two files of a case lie differently in space: axes {other.directions} of"
            f" {tuple(round(size, 3) for size in other.spacing)} mm against {one.directions} of"
            f" {tuple(round(size, 3) for size in one.spacing)} mm",
            where=where,
            fix="write both with the same affine; an orientation in the preparation turns both to one",
        )


def decode_volume_once(
    images: tuple[Path, ...], label: Path | None, preparation: Preparation, classes: tuple[str, ...]
) -> Decoded:
    """Decode a volume whose slices are read one after the other: the last two volumes are remembered.

    Raises:
        DataError: as `decode_case`.
    """
    files = images if label is None else (*images, label)
    changed = tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)
    return _decode_once(images, label, preparation, classes, changed)


@functools.lru_cache(maxsize=2)
def _decode_once(
    images: tuple[Path, ...],
    label: Path | None,
    preparation: Preparation,
    classes: tuple[str, ...],
    _changed: tuple[int, ...],
) -> Decoded:
    return decode_case(images, label, preparation, classes)


def to_classes(
    values: NDArray[Any], classes: tuple[str, ...], binarise: bool, where: str
) -> NDArray[np.int64]:
    """Turn the values of a label file into class numbers.

    Args:
        values: int64 `(*spatial)`.
        classes: names of the classes, background first.
        binarise: every value above 0 is class 1.
        where: named in an error.

    Raises:
        DataError: a value is no class.
    """
    if binarise:
        return (values > 0).astype(np.int64)
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


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
