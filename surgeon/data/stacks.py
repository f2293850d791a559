"""Volumes as TIFF files of several pages, as microscopes write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from surgeon.errors import DataError

from .volumes import Raw

STACKS = (".tif", ".tiff")
_DESCRIPTION = 270  # the tag of TIFF in which programs say what pages are
_CHANNEL_FILE = re.compile(r"_\d{4}$")


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the pages of a file are.

    Attributes:
        channels: pages for each plane.
        planes: of the volume; 1 for a picture.
        channels_first: whether all planes of a channel follow one another; else all channels of a plane.
    """

    channels: int
    planes: int
    channels_first: bool = False


def shape_of_stack(path: Path, axes: str) -> tuple[int, ...]:
    """Return the spatial shape of a TIFF: of a volume in the order of axes asked for, else of a picture.

    Raises:
        DataError: its pages are a film of volumes.
        Exception: whatever the decoder raises on a broken file.
    """
    with Image.open(path) as picture:
        planes = _layout(picture, path).planes
        sides = (planes, picture.height, picture.width)
    return sides[1:] if planes == 1 else tuple(sides["zyx".index(axis)] for axis in axes)


def decode_stack(path: Path, axes: str, decode: Callable[[Image.Image], NDArray[Any]]) -> Raw:
    """Decode a TIFF: a picture, or a volume where it has several planes.

    Channels are those of a page, or pages of their own where ImageJ, OME or tifffile say so. nnU-Net writes
    the voxel size of `case_0000.tif` into `case.json` beside it; without that, a voxel is 1.

    Args:
        path: the file.
        axes: order of a volume's axes; the pages of a file are the planes along z.
        decode: turns a page into an array `(C, H, W)`.

    Returns:
        an array `(C, *spatial)`.

    Raises:
        DataError: pages differ in size, or are a film of volumes.
        Exception: whatever the decoder raises on a broken file.
    """
    with Image.open(path) as picture:
        layout = _layout(picture, path)
        pages = []
        for page in range(layout.planes * layout.channels):
            picture.seek(page)
            picture.load()
            pages.append(decode(picture))
    if len({page.shape for page in pages}) > 1:
        raise DataError("the pages of the file differ in size", where=str(path), fix="write one size a file")
    order = (layout.channels, layout.planes) if layout.channels_first else (layout.planes, layout.channels)
    array = np.stack(pages).reshape(*order, *pages[0].shape)
    array = array if layout.channels_first else array.swapaxes(0, 1)
    # (channels of pages, planes, channels of a page, H, W), of which one kind of channels is 1
    array = np.moveaxis(array, 1, 2).reshape(-1, layout.planes, *pages[0].shape[1:])
    if layout.planes == 1:
        return Raw(array[:, 0], (1.0, 1.0))
    places = ["zyx".index(axis) for axis in axes]
    spacing = _spacing(path)
    return Raw(
        array.transpose(0, *(1 + place for place in places)), tuple(spacing[place] for place in places)
    )


def _layout(picture: Image.Image, path: Path) -> _Layout:
    pages = int(getattr(picture, "n_frames", 1))
    said = _said(str(getattr(picture, "tag_v2", {}).get(_DESCRIPTION, "")), pages)
    if said is None:
        return _Layout(1, pages)
    channels, planes, times, channels_first = said
    if planes > 1 and times > 1:
        raise DataError(
            f"the file is a film of {times} volumes, and one volume is read",
            where=str(path),
            fix="write a file for each volume",
        )
    return _Layout(channels, planes * times, channels_first)


def _said(description: str, pages: int) -> tuple[int, int, int, bool] | None:
    """Return channels, planes, times, and whether channels come first, as a program says; None without."""
    if description.startswith("ImageJ="):
        found = dict(re.findall(r"^(channels|slices|frames)=(\d+)", description, re.MULTILINE))
        sizes = tuple(int(found.get(name, 1)) for name in ("channels", "slices", "frames"))
        first = False
    elif "<OME" in description:
        sizes = tuple(int(_attribute(f"Size{axis}", description) or 1) for axis in "CZT")
        order = _attribute("DimensionOrder", description) or "XYCZT"
        first = order.index("C") > order.index("Z")
    elif description.startswith("{"):
        sizes, first = _shaped(description), True
    else:
        return None
    return (sizes[0], sizes[1], sizes[2], first) if math.prod(sizes) == pages else None


def _attribute(name: str, description: str) -> str | None:
    found = re.search(rf'\b{name}="(\w+)"', description)
    return None if found is None else found[1]


def _shaped(description: str) -> tuple[int, ...]:
    """Return channels, planes and times of what tifffile says: the shape of the array that was written."""
    try:
        shape = json.loads(description).get("shape", ())
    except (ValueError, AttributeError):
        return (0, 0, 0)
    return (int(shape[0]), int(shape[1]), 1) if len(shape) == 4 else (0, 0, 0)


def _spacing(path: Path) -> tuple[float, ...]:
    stem = path.name[: path.name.rindex(".")]
    for name in (stem, _CHANNEL_FILE.sub("", stem)):
        beside = path.with_name(f"{name}.json")
        if beside.is_file():
            return _spacing_in(beside)
    return (1.0, 1.0, 1.0)


def _spacing_in(file: Path) -> tuple[float, ...]:
    try:
        spacing = tuple(float(size) for size in json.loads(file.read_text(encoding="utf-8"))["spacing"])
    except (ValueError, KeyError, TypeError):
        spacing = ()
    if len(spacing) != 3 or not all(0 < size < math.inf for size in spacing):
        raise DataError(
            "the file beside a TIFF says no voxel size",
            where=str(file),
            fix='write {"spacing": [z, y, x]} in mm, or remove it',
        )
    return spacing
