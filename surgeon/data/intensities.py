"""Channels and intensities brought to what a network was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgeon.errors import DataError

from .choices import Foreground, Scale
from .preparation import Preparation

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
    return scale_intensities(array, preparation, where)


def scale_intensities(array: NDArray[Any], preparation: Preparation, where: str) -> Tensor:
    """Return an image `(C, *spatial)` in float32, its intensities scaled as the preparation says.

    Raises:
        DataError: `mean` or `std` has another number of channels.
    """
    x = torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
    body = torch.from_numpy(_body(array)) if preparation.mask_nonzero else None
    if preparation.clip is not None:
        x = x.clamp(*preparation.clip)
    if body is not None and preparation.scale is Scale.ZSCORE:
        x = _scaled_within(x, body)
    else:
        x = _scaled(x, array.dtype, preparation.scale, preparation.together)
    if preparation.then is not None:
        x = _scaled(x, np.dtype(np.float32), preparation.then, preparation.together)
    if preparation.mean is not None:
        x = x - _per_channel(preparation.mean, x, "mean", where)
    if preparation.std is not None:
        x = x / _per_channel(preparation.std, x, "std", where)
    return x


def box_of(inside: NDArray[np.bool_] | Tensor) -> Region:
    """Return the box around what is true in some channel; the whole where nothing is.

    Args:
        inside: `(C, *spatial)`.
    """
    places: NDArray[Any] = np.atleast_1d(np.asarray(inside).any(axis=0))
    if not places.any():
        return tuple((0, side) for side in places.shape)
    box = []
    for axis in range(places.ndim):
        others = tuple(other for other in range(places.ndim) if other != axis)
        along = np.flatnonzero(places.any(axis=others))
        box.append((int(along[0]), int(along[-1]) + 1))
    return tuple(box)


def within(box: Region) -> tuple[slice, ...]:
    """Return the index of a box into the spatial axes."""
    return tuple(slice(start, stop) for start, stop in box)


def cut_and_scale(array: NDArray[Any], preparation: Preparation, where: str) -> tuple[Tensor, Region]:
    """Cut a raw image `(C, *spatial)` to its foreground and prepare its intensities, as the preparation says.

    Returns:
        the image, float32 `(C', *box)`, and the box of the raw image that it is.

    Raises:
        DataError: as `prepare_intensities`.
    """
    box = tuple((0, side) for side in array.shape[1:])
    if preparation.crop_nonzero:
        box = box_of(array != 0)
    elif preparation.crop_foreground is Foreground.RAW:
        box = box_of(array > 0)
    image = prepare_intensities(array[(slice(None), *within(box))], preparation, where)
    if preparation.crop_foreground is Foreground.SCALED and not preparation.scales_last:
        box = box_of(image > 0)
        image = image[(slice(None), *within(box))]
    return image, box


def _body(array: NDArray[Any]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_fill_holes

    filled: NDArray[np.bool_] = binary_fill_holes((array != 0).any(0))
    return filled


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


def _scaled(x: Tensor, dtype: np.dtype[Any], scale: Scale, together: bool) -> Tensor:
    axes = tuple(range(0 if together else 1, x.ndim))
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
    if scale is Scale.NONZERO:
        parts = [x] if together else list(x)
        return torch.stack([_scaled_nonzero(part) for part in parts]).reshape(x.shape)
    return x


def _scaled_nonzero(x: Tensor) -> Tensor:
    """Bring what is not zero to zero mean and unit deviation; where all of it is equal, to zero."""
    there = x != 0
    inside = x[there].double()
    if not inside.numel():
        return x
    deviation = float(inside.std(correction=0)) or 1.0
    return x.masked_scatter(there, ((inside - inside.mean()) / deviation).to(x.dtype))


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
