"""Voxels brought to another grid by splines, as nnU-Net does it.

nnU-Net resizes with scikit-image: splines of an order, the border continued by its last voxel, the centres of
the corner voxels not aligned, and no value outside the range of the image. Where voxels are more than three
times longer along one axis than along another, the slices across that axis are resized one by one, and
along it the nearest slice is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .choices import Resampling

_ANISOTROPY = 3.0
Limits = tuple[tuple[float, float], ...]


def resample(
    image: Tensor,
    size: tuple[int, ...],
    before: Sequence[float],
    after: Sequence[float],
    order: int,
    *,
    limits: Limits | None = None,
) -> Tensor:
    """Bring an image to another size.

    Args:
        image: `(C, *spatial)`.
        size: the spatial size wanted.
        before: voxel size of the image in mm.
        after: voxel size wanted.
        order: of the splines: 3 for images, 1 for what a network says of them.
        limits: lowest and highest value of each channel of the result; None for the image's own.

    Returns:
        float32 `(C, *size)`.
    """
    if tuple(image.shape[1:]) == tuple(size):
        return image.float()
    axis = coarse_axis(before, after)
    if order == 1 and axis is None:
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        return F.interpolate(image[None].float(), size=size, mode=mode, align_corners=False)[0]
    channels = [
        _resize_apart(channel, size, axis, order, None if limits is None else limits[index])
        for index, channel in enumerate(image.double().numpy())
    ]
    return torch.from_numpy(np.stack(channels).astype(np.float32))


def size_from_origin(size: Sequence[int], before: Sequence[float], after: Sequence[float]) -> tuple[int, ...]:
    """Return the size at another voxel size, counted from the centre of the first voxel to the last."""
    sides = zip(size, before, after, strict=True)
    return tuple(max(1, round((side - 1) * old / new + 1)) for side, old, new in sides)


def resample_from_origin(
    image: Tensor,
    size: tuple[int, ...],
    before: Sequence[float],
    after: Sequence[float],
    *,
    nearest: bool = False,
) -> Tensor:
    """Bring an image to another voxel size, with the centres of the first voxels on each other.

    Args:
        image: `(C, *spatial)`.
        size: the spatial size wanted; what lies beyond the last voxel repeats it.
        before: voxel size of the image in mm.
        after: voxel size wanted.
        nearest: take the nearest voxel instead of a mixture: for labels.

    Returns:
        `(C, *size)`.
    """
    for axis, (side, old, new) in enumerate(zip(size, before, after, strict=True), start=1):
        last = image.shape[axis] - 1
        places = (torch.arange(side, dtype=torch.float64) * (new / old)).clamp(max=last)
        if nearest:
            image = image.index_select(axis, places.round().long())
            continue
        low = places.floor().long()
        share = (places - low).to(image.dtype).reshape(-1, *[1] * (image.ndim - axis - 1))
        above = image.index_select(axis, (low + 1).clamp(max=last))
        image = image.index_select(axis, low) * (1 - share) + above * share
    return image


def resize_plainly(image: Tensor, size: tuple[int, ...], how: Resampling, *, nearest: bool = False) -> Tensor:
    """Bring an image `(C, *spatial)` to a size as MONAI's Resize does: no smoothing before it shrinks.

    Args:
        image: to resize.
        size: the spatial size wanted.
        how: by areas, else linearly.
        nearest: take the nearest pixel instead of a mixture: for labels.
    """
    if nearest:
        return F.interpolate(image[None], size=size, mode="nearest")[0]
    if how is Resampling.AREA:
        return F.interpolate(image[None], size=size, mode="area")[0]
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(image[None], size=size, mode=mode, align_corners=False)[0]


def coarse_axis(before: Sequence[float], after: Sequence[float]) -> int | None:
    """Return the axis along which voxels are far longer; None where there is none, or more than one."""
    for spacing in (before, after):
        if len(spacing) == 3 and max(spacing) / min(spacing) > _ANISOTROPY:
            longest = [axis for axis, length in enumerate(spacing) if length == max(spacing)]
            return longest[0] if len(longest) == 1 else None
    return None


def _resize_apart(
    channel: NDArray[Any],
    size: tuple[int, ...],
    axis: int | None,
    order: int,
    limits: tuple[float, float] | None,
) -> NDArray[Any]:
    if axis is None:
        return _resize(channel, size, order, limits)
    across = tuple(side for at, side in enumerate(size) if at != axis)
    slices = [_resize(part, across, order, limits) for part in np.moveaxis(channel, axis, 0)]
    # The nearest slice to each new centre.
    centres = (np.arange(size[axis]) + 0.5) * (len(slices) / size[axis]) - 0.5
    nearest = np.clip(np.floor(centres + 0.5), 0, len(slices) - 1).astype(int)
    return np.stack([slices[index] for index in nearest], axis)


def _resize(
    array: NDArray[Any], size: tuple[int, ...], order: int, limits: tuple[float, float] | None
) -> NDArray[Any]:
    from scipy.ndimage import zoom

    if array.shape == size:
        return array
    factors = [new / old for new, old in zip(size, array.shape, strict=True)]
    # A spline cannot be laid through fewer voxels than it bends over; scipy lays a lower one by itself.
    resized = zoom(array, factors, order=order, mode="nearest", grid_mode=True)
    clipped: NDArray[Any] = np.clip(resized, *(limits or (array.min(), array.max())))
    return clipped
