"""A preparation applied: raw arrays to network inputs and labels of the same geometry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from surgeon.errors import DataError

from .preparation import Preparation, Resampling, Scale
from .resampling import Limits, resample, resample_from_origin, size_from_origin

Region = tuple[tuple[int, int], ...]


def prepare_intensities(array: NDArray[Any], preparation: Preparation, where: str) -> Tensor:
    """Bring the channels and intensities of a raw image to what the network was trained on.

    Args:
        array: `(C, *spatial)`.
        preparation: its `channels`, `clip`, `scale`, `mask_nonzero`, `mean` and `std` are used.
        where: named in an error.

    Returns:
        float32 `(C', *spatial)`.

    Raises:
        DataError: the channels cannot be turned into those asked for, or `mean` has another number of them.
    """
    array = _convert_channels(array, preparation.channels, where)
    if preparation.scales_last:
        return torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
    return _scale_intensities(array, preparation, where)


def _scale_intensities(array: NDArray[Any], preparation: Preparation, where: str) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
    body = torch.from_numpy(_body(array)) if preparation.mask_nonzero else None
    if preparation.clip is not None:
        x = x.clamp(*preparation.clip)
    if body is not None and preparation.scale is Scale.ZSCORE:
        x = _scaled_within(x, body)
    else:
        x = _scaled(x, array.dtype, preparation.scale)
    if preparation.mean is not None:
        x = x - _per_channel(preparation.mean, x, "mean", where)
    if preparation.std is not None:
        x = x / _per_channel(preparation.std, x, "std", where)
    return x


def box_of_nonzero(array: NDArray[Any]) -> Region:
    """Return the box around what is not zero in some channel; the whole where all is zero.

    Args:
        array: `(C, *spatial)`.
    """
    inside = (array != 0).any(0)
    if not inside.any():
        return tuple((0, side) for side in inside.shape)
    box = []
    for axis in range(inside.ndim):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        places = np.flatnonzero(inside.any(others))
        box.append((int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def _body(array: NDArray[Any]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_fill_holes

    filled: NDArray[np.bool_] = binary_fill_holes((array != 0).any(0))
    return filled


def prepare_geometry(
    image: Tensor,
    label: Tensor | None,
    preparation: Preparation,
    spacing: tuple[float, ...],
    limits: Limits | None = None,
) -> tuple[Tensor, Tensor | None, tuple[float, ...], Region]:
    """Resample, fit and pad an image and its label alike.

    Args:
        image: `(C, *spatial)`.
        label: `(*spatial)`, or None.
        preparation: its `spacing`, `resize_fit` and `multiple` are used.
        spacing: size of a pixel or voxel in mm.
        limits: of the volume that a slice is of, which its splines must not leave; None for the image's own.

    Returns:
        image, label, the new spacing, and the region `((start, stop), ...)` that is image and not padding.
    """
    size = tuple(image.shape[1:])
    target = _target_size(size, preparation, spacing)
    if target != size:
        image, label = _resize(image, label, target, spacing, preparation, limits=limits)
        spacing = tuple(mm * a / b for mm, a, b in zip(spacing, size, target, strict=True))
    if preparation.scales_last:
        image = _scale_intensities(image.numpy(), preparation, "")
    before, whole = _placement(target, preparation)
    widths = [(b, w - b - t) for b, w, t in zip(before, whole, target, strict=True)]
    # torch.nn.functional.pad counts from the last axis.
    flat = [width for pair in reversed(widths) for width in pair]
    if any(flat):
        image = F.pad(image, flat)
        label = None if label is None else F.pad(label, flat)
    return image, label, spacing, tuple((b, b + t) for b, t in zip(before, target, strict=True))


def _convert_channels(array: NDArray[Any], channels: int | None, where: str) -> NDArray[Any]:
    found = array.shape[0]
    if channels in (None, found):
        return array
    if channels == 1 and found == 3:
        return _grey(array)
    if channels == 3 and found == 1:
        return np.repeat(array, 3, axis=0)
    raise DataError(
        f"the image has {found} channels, the preparation asks for {channels}",
        where=where,
        fix="set channels in the preparation to what the files hold",
    )


def _grey(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.uint8:
        # The integers of ITU-R 601 as Pillow has them, so that grey here is grey in other tools to the bit.
        r, g, b = array.astype(np.uint32)
        grey: NDArray[Any] = ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).astype(np.uint8)[None]
        return grey
    weights = np.array([0.299, 0.587, 0.114]).reshape(3, *[1] * (array.ndim - 1))
    mixed: NDArray[Any] = (array * weights).sum(0, keepdims=True).astype(array.dtype)
    return mixed


def _scaled(x: Tensor, dtype: np.dtype[Any], scale: Scale) -> Tensor:
    axes = tuple(range(1, x.ndim))
    if scale is Scale.UNIT:
        if dtype.kind in "iu":
            return x / float(np.iinfo(dtype).max)
        return x
    if scale is Scale.MINMAX:
        low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
        return (x - low) / (high - low).clamp_min(1e-8)
    if scale is Scale.ZSCORE:
        wide = x.double()
        mean, deviation = wide.mean(axes, keepdim=True), wide.std(axes, keepdim=True, correction=0)
        return ((wide - mean) / deviation.clamp_min(1e-8)).float()
    return x


def _scaled_within(x: Tensor, body: Tensor) -> Tensor:
    """Bring each channel to zero mean and unit deviation inside a mask `(*spatial)`."""
    if not body.any():
        return x
    inside = x[:, body].double()  # (C, voxels)
    deviation = inside.std(1, keepdim=True, correction=0).clamp_min(1e-8)
    scaled = x.clone()
    scaled[:, body] = ((inside - inside.mean(1, keepdim=True)) / deviation).float()
    return scaled


def _per_channel(values: tuple[float, ...], x: Tensor, name: str, where: str) -> Tensor:
    if len(values) not in (1, x.shape[0]):
        raise DataError(
            f"the preparation has {len(values)} values of {name}, the image {x.shape[0]} channels",
            where=where,
            fix=f"give {name} one value, or one for each channel",
        )
    return torch.tensor(values, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _target_size(
    size: tuple[int, ...], preparation: Preparation, spacing: tuple[float, ...]
) -> tuple[int, ...]:
    if preparation.spacing is not None and len(preparation.spacing) == len(size):
        if preparation.resampling is Resampling.ORIGIN:
            return size_from_origin(size, spacing, preparation.spacing)
        pairs = zip(size, spacing, preparation.spacing, strict=True)
        size = tuple(max(1, round(side * mm / wanted)) for side, mm, wanted in pairs)
    if preparation.resize_fit is None:
        return size
    box = preparation.resize_fit
    if len(box) != len(size):
        raise DataError(
            f"resize_fit has {len(box)} sides, the image {len(size)}",
            where="preparation: resize_fit",
            fix="give one side for each spatial axis",
        )
    factor = min(b / s for b, s in zip(box, size, strict=True))
    return tuple(min(b, max(1, round(s * factor))) for b, s in zip(box, size, strict=True))


def _placement(size: tuple[int, ...], preparation: Preparation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where the image starts in its padded frame, and the size of the frame."""
    frame = preparation.resize_fit or size
    before = tuple((f - s) // 2 for f, s in zip(frame, size, strict=True))
    step = preparation.multiple
    return before, tuple(math.ceil(f / step) * step for f in frame)


def _resize(
    image: Tensor,
    label: Tensor | None,
    target: tuple[int, ...],
    spacing: tuple[float, ...],
    preparation: Preparation,
    *,
    limits: Limits | None,
) -> tuple[Tensor, Tensor | None]:
    flat = image.ndim == 3
    if preparation.resampling is Resampling.ORIGIN and preparation.spacing is not None:
        there = preparation.spacing
        moved = resample_from_origin(image, target, spacing, there)
        if label is None:
            return moved, None
        return moved, resample_from_origin(label[None], target, spacing, there, nearest=True)[0]
    if preparation.resampling is Resampling.CUBIC:
        resized = resample(image, target, spacing, preparation.spacing or spacing, 3, limits=limits)
    else:
        resized = F.interpolate(
            image[None],
            size=target,
            mode="bilinear" if flat else "trilinear",
            align_corners=False,
            antialias=flat,
        )[0]
    if label is None:
        return resized, None
    near = F.interpolate(label[None, None].double(), size=target, mode="nearest-exact")[0, 0]
    return resized, near.to(label.dtype)
