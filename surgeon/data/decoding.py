"""The files of one case decoded: channels stacked and scaled, label values turned to classes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from surgeon.errors import DataError

from .intensities import Region, cut_and_scale, within
from .legend import Legend
from .preparation import Preparation
from .reading import ARRAYS, PICTURES, as_signal, read_image, read_label, suffix_of
from .resampling import Limits, coarse_axis
from .volumes import Raw


@dataclass(frozen=True, slots=True)
class Decoded:
    """A case on the grid of its files.

    Attributes:
        image: float32 `(C, *spatial)`, intensities prepared, cut to the box.
        label: int64 `(*spatial)`, cut to the box, or None.
        truth: the label as it is in its file, or None.
        spacing: size of a pixel or voxel in mm.
        box: the part of the files' grid that image and label are.
        size: of the files' grid.
        limits: lowest and highest value of the whole image, of each channel, for a slice.
    """

    image: Tensor
    label: Tensor | None
    truth: Tensor | None
    spacing: tuple[float, ...]
    box: Region
    size: tuple[int, ...]
    limits: Limits | None = None


def take_slice(volume: Decoded, axis: int, index: int) -> Decoded:
    """Return one slice of a volume, by its index on the files' grid.

    A slice outside the box is all zeros, and its own box is empty.
    """
    start, stop = volume.box[axis]
    is_inside = start <= index < stop
    place = index - start if is_inside else 0

    def cut(tensor: Tensor | None, at: int, where: int) -> Tensor | None:
        # A copy: a view would keep the whole volume in memory.
        return None if tensor is None else tensor.select(at, where).clone()

    image, label = cut(volume.image, axis + 1, place), cut(volume.label, axis, place)
    assert image is not None
    box = volume.box[:axis] + volume.box[axis + 1 :]
    if not is_inside:
        image, label = image * 0, None if label is None else label * 0
        box = ((0, 0),) * len(box)
    return Decoded(
        image,
        label,
        cut(volume.truth, axis, index),
        volume.spacing[:axis] + volume.spacing[axis + 1 :],
        box,
        volume.size[:axis] + volume.size[axis + 1 :],
        _limits(volume, axis),
    )


def _limits(volume: Decoded, axis: int) -> Limits | None:
    """Return the range of each channel; None where slices across the axis are resized one by one."""
    if coarse_axis(volume.spacing, volume.spacing) == axis:
        return None
    return tuple((float(channel.min()), float(channel.max())) for channel in volume.image)


def decode_case(
    images: tuple[Path, ...],
    labels: tuple[Path, ...],
    preparation: Preparation,
    legend: Legend,
) -> Decoded:
    """Decode image and label, on the grid they have in their files.

    Args:
        images: files of the channels, in order.
        labels: files of the label; where several overlap, the larger class counts.
        preparation: how intensities are scaled.
        legend: what the values of the label mean.

    Raises:
        DataError: a file cannot be decoded, sizes differ, or the label holds a value that is no class.
    """
    raws = [_read(read_image, path, preparation) for path in images]
    for path, raw in zip(images, raws, strict=True):
        if raw.array.shape[1:] != raws[0].array.shape[1:]:
            raise DataError(
                f"the channels of a case differ in size: {_size(raw.array.shape[1:])} against"
                f" {_size(raws[0].array.shape[1:])}",
                where=str(path),
            )
        _check_place(raw, raws[0], f"{images[0]} and {path}")
    array = raws[0].array if len(raws) == 1 else np.concatenate([raw.array for raw in raws])
    shape = tuple(array.shape[1:])
    image, box = cut_and_scale(array, preparation, str(images[0]))
    if not labels:
        return Decoded(image, None, None, raws[0].spacing, box, shape)
    read = [_read_classes(label, (images[0], raws[0]), preparation, legend) for label in labels]
    whole = functools.reduce(torch.maximum, read)
    return Decoded(image, whole[within(box)], whole, raws[0].spacing, box, shape)


def _read_classes(label: Path, image: tuple[Path, Raw], preparation: Preparation, legend: Legend) -> Tensor:
    """Read one file of a label that lies on the grid of its image."""
    file, raw = image
    truth = _read(read_label, label, preparation)
    values, shape = truth.array, tuple(raw.array.shape[1:])
    if values.shape != shape:
        raise DataError(
            f"image and label differ in size: {_size(shape)} against {_size(values.shape)}",
            where=f"{file} and {label}",
            fix="write the label on the image's grid; channels of an array come first",
        )
    _check_place(truth, raw, f"{file} and {label}")
    return torch.from_numpy(legend.read(values, str(label), binarise=preparation.binarise))


def _read(decode: Callable[..., Raw], path: Path, preparation: Preparation) -> Raw:
    raw = decode(path, preparation.axes, preparation.orientation)
    if preparation.signals and suffix_of(path) in ARRAYS:
        return as_signal(raw, 2 if decode is read_image else 1)
    if not preparation.transposed or suffix_of(path) not in PICTURES or len(raw.spacing) == 3:
        return raw
    return dataclasses.replace(raw, array=raw.array.swapaxes(-1, -2))


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
    images: tuple[Path, ...],
    labels: tuple[Path, ...],
    preparation: Preparation,
    legend: Legend,
) -> Decoded:
    """Decode a volume whose slices are read one after the other: the last two volumes are remembered.

    Raises:
        DataError: as `decode_case`.
    """
    changed = tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in (*images, *labels))
    return _decode_once(images, labels, preparation, legend, changed)


@functools.lru_cache(maxsize=2)
def _decode_once(
    images: tuple[Path, ...],
    labels: tuple[Path, ...],
    preparation: Preparation,
    legend: Legend,
    _changed: tuple[int, ...],
) -> Decoded:
    return decode_case(images, labels, preparation, legend)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
