"""The geometry of a preparation: images and labels resampled, cut and padded alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from surgeon.errors import DataError

from .choices import Foreground, Resampling
from .intensities import Region, box_of, scale_intensities, within
from .preparation import Preparation
from .resampling import Limits, resample, resample_from_origin, resize_plainly, size_from_origin


@dataclass(frozen=True, slots=True)
class Frame:
    """The grid that an image was cut out of, once it was resampled.

    Attributes:
        size: of the grid.
        box: the part of it that was kept.
    """

    size: tuple[int, ...]
    box: Region


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image and its label on the grid that a network sees.

    Attributes:
        image: `(C, *spatial)`.
        label: `(*spatial)`, or None.
        spacing: size of a pixel or voxel in mm.
        region: `((start, stop), ...)`: what is image and not padding.
        frame: what the region was cut out of; None where nothing was cut after resampling.
    """

    image: Tensor
    label: Tensor | None
    spacing: tuple[float, ...]
    region: Region
    frame: Frame | None = None


def prepare_geometry(
    image: Tensor,
    label: Tensor | None,
    preparation: Preparation,
    spacing: tuple[float, ...],
    limits: Limits | None = None,
) -> Prepared:
    """Resample, cut and pad an image and its label alike.

    Args:
        image: `(C, *spatial)`.
        label: `(*spatial)`, or None.
        preparation: its steps after the intensities are used, and those too where they come last.
        spacing: size of a pixel or voxel in mm.
        limits: of the volume that a slice is of, which its splines must not leave; None for the image's own.
    """
    size = tuple(image.shape[1:])
    target = _target_size(size, preparation, spacing)
    if target != size:
        image, label = _resize(image, label, target, spacing, preparation, limits=limits)
        spacing = tuple(mm * a / b for mm, a, b in zip(spacing, size, target, strict=True))
    frame = None
    if preparation.scales_last:
        image = scale_intensities(image.numpy(), preparation, "")
        if preparation.crop_foreground is Foreground.SCALED:
            frame = Frame(target, box_of(image > 0))
            image = image[(slice(None), *within(frame.box))]
            label = None if label is None else label[within(frame.box)]
    image, label, region = _padded(image, label, preparation)
    return Prepared(image, label, spacing, region, frame)


def _padded(
    image: Tensor, label: Tensor | None, preparation: Preparation
) -> tuple[Tensor, Tensor | None, Region]:
    size = tuple(image.shape[1:])
    before, whole = _placement(size, preparation)
    widths = [(b, w - b - t) for b, w, t in zip(before, whole, size, strict=True)]
    # torch.nn.functional.pad counts from the last axis.
    flat = [width for pair in reversed(widths) for width in pair]
    if any(flat):
        image = F.pad(image, flat)
        label = None if label is None else F.pad(label, flat)
    return image, label, tuple((b, b + t) for b, t in zip(before, size, strict=True))


def _target_size(
    size: tuple[int, ...], preparation: Preparation, spacing: tuple[float, ...]
) -> tuple[int, ...]:
    if preparation.spacing is not None and len(preparation.spacing) == len(size):
        if preparation.resampling is Resampling.ORIGIN:
            return size_from_origin(size, spacing, preparation.spacing)
        pairs = zip(size, spacing, preparation.spacing, strict=True)
        size = tuple(max(1, round(side * mm / wanted)) for side, mm, wanted in pairs)
    if preparation.resize is not None:
        return _checked_sides(preparation.resize, size, "resize")
    if preparation.resize_fit is None:
        return size
    box = _checked_sides(preparation.resize_fit, size, "resize_fit")
    factor = min(b / s for b, s in zip(box, size, strict=True))
    return tuple(min(b, max(1, round(s * factor))) for b, s in zip(box, size, strict=True))


def _checked_sides(sides: tuple[int, ...], size: tuple[int, ...], name: str) -> tuple[int, ...]:
    if len(sides) != len(size):
        raise DataError(
            f"{name} has {len(sides)} sides, the image {len(size)}",
            where=f"preparation: {name}",
            fix="give one side for each spatial axis",
        )
    return sides


def _placement(size: tuple[int, ...], preparation: Preparation) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where the image starts in its padded frame, and the size of the frame."""
    frame = preparation.resize_fit or size
    if preparation.pad_to is not None:
        least = _checked_sides(preparation.pad_to, size, "pad_to")
        frame = tuple(max(f, side) for f, side in zip(frame, least, strict=True))
    step = preparation.multiple
    whole = tuple(math.ceil(f / step) * step for f in frame)
    if preparation.pad_both:
        return tuple((w - s) // 2 for w, s in zip(whole, size, strict=True)), whole
    fitted = preparation.resize_fit or size
    return tuple((f - s) // 2 for f, s in zip(fitted, size, strict=True)), whole


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
    if preparation.resampling in (Resampling.ORIGIN, Resampling.AREA):
        resized = resize_plainly(image, target, preparation.resampling)
    elif preparation.resampling is Resampling.CUBIC:
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
