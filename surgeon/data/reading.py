"""Image and label files decoded to arrays: pictures, NPZ, NPY and volumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from surgeon.errors import DataError

from .stacks import STACKS, decode_stack, shape_of_stack
from .volumes import VOLUMES, Raw, decode_volume, shape_of_volume

PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pbm")
ARRAYS = (".npz", ".npy")
KNOWN = PICTURES + ARRAYS + VOLUMES
# What an archive calls an image and a label that it holds both.
_IMAGE_KEYS = ("image", "img")
_LABEL_KEYS = ("label", "mask", "seg")
_ROUNDING = 1e-4


def suffix_of(path: Path) -> str:
    """Return the known suffix of a file name in lower case, or an empty string."""
    name = path.name.lower()
    return next((suffix for suffix in KNOWN if name.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """Return a file's name without its known suffix: `a.b.nii.gz` gives `a.b`."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def read_image(path: Path, axes: str = "xyz", orientation: str | None = None) -> Raw:
    """Decode an image.

    Args:
        path: the file.
        axes: order of a volume's axes, such as `xyz` or `zyx`.
        orientation: axis codes a volume is turned to.

    Returns:
        an array `(C, *spatial)`.

    Raises:
        DataError: the file is missing or cannot be decoded, or holds numbers that are not finite.
    """
    suffix = _checked_suffix(path)
    if suffix in VOLUMES:
        raw = _read_volume(path, axes, orientation)
    elif suffix in STACKS:
        raw = _read_stack(path, axes, _channels_of)
    else:
        array = _decoded(path, _picture_channels if suffix in PICTURES else _image_array)
        raw = Raw(array, (1.0,) * (array.ndim - 1))
    if raw.array.dtype.kind == "f":
        check_finite(raw.array, path)
    return raw


def as_signal(raw: Raw, axes: int) -> Raw:
    """Take an array of one axis too many for a signal: what was read as a grey image are its channels.

    Args:
        raw: from `read_image` or `read_label`.
        axes: that a signal has: 2 with its channels, 1 without.
    """
    if raw.array.ndim != axes + 1 or raw.array.shape[0] != 1:
        return raw
    return dataclasses.replace(raw, array=raw.array[0], spacing=(1.0,))


def check_finite(array: NDArray[Any], path: Path | str) -> None:
    """Refuse an image with numbers that are not finite, or that a 32-bit number cannot hold.

    Raises:
        DataError: it holds some.
    """
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(
            "the image holds voxels that are not finite (NaN or infinite)",
            where=str(path),
            fix="replace them, for instance by the background's value, and write the file again",
        )
    if max(-low, high) > float(np.finfo(np.float32).max):
        raise DataError(
            f"the image holds numbers that are too large: {low:.3g} to {high:.3g}",
            where=str(path),
            fix="scale them to what a 32-bit number can hold",
        )


def read_label(path: Path, axes: str = "xyz", orientation: str | None = None) -> Raw:
    """Decode a label image.

    Returns:
        an int64 array `(*spatial)`, its values as they are in the file.

    Raises:
        DataError: the file is missing or cannot be decoded, its values are not whole numbers, or it has
            channels that differ.
    """
    suffix = _checked_suffix(path)
    if suffix in VOLUMES:
        raw = _read_volume(path, axes, orientation)
    elif suffix in STACKS:
        raw = _read_stack(path, axes, lambda page: _values_of(page, path))
    else:
        array = _decoded(path, _picture_values if suffix in PICTURES else _label_array)
        raw = Raw(array, (1.0,) * (array.ndim - 1))
    values = whole_numbers(raw.array, path)
    if (values != values[:1]).any():
        raise DataError(
            f"the label has {values.shape[0]} channels that differ",
            where=str(path),
            fix="write one channel whose values are the classes",
        )
    return dataclasses.replace(raw, array=values[0])


def whole_numbers(array: NDArray[Any], path: Path | str) -> NDArray[np.int64]:
    """Return the values of a label as whole numbers.

    Raises:
        DataError: they are none.
    """
    if array.dtype.kind != "f":
        return array.astype(np.int64)
    whole = np.round(array)
    # NaN, infinity and what an integer cannot hold fail the first comparison; a header's slope rounds.
    if not ((np.abs(array) < 2**53).all() and (np.abs(array - whole) <= _ROUNDING).all()):
        raise DataError(
            "the label holds values that are not whole numbers", where=str(path), fix="write class numbers"
        )
    return whole.astype(np.int64)


def shape_of(path: Path, axes: str = "xyz") -> tuple[int, ...]:
    """Return the spatial shape of an image without decoding it where the format allows.

    Raises:
        DataError: the file is missing or cannot be decoded.
    """
    shape: tuple[int, ...]
    if suffix_of(path) in VOLUMES + STACKS:
        find = shape_of_volume if _checked_suffix(path) in VOLUMES else shape_of_stack
        shape = _guarded(path, lambda file: find(file, axes))
        return shape
    return tuple(read_image(path).array.shape[1:])


def _checked_suffix(path: Path) -> str:
    suffix = suffix_of(path)
    if not suffix:
        raise DataError(
            "a file of a kind that is not read", where=str(path), fix=f"one of {', '.join(KNOWN)} is needed"
        )
    if not path.is_file():
        raise DataError("no such image file", where=str(path))
    return suffix


def _decoded(path: Path, decode: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    array: NDArray[Any] = _guarded(path, decode)
    check_array(array, path)
    return array


def check_array(array: NDArray[Any], path: Path | str) -> None:
    """Refuse what is no image `(C, *spatial)`: values that are no numbers, or none at all.

    Raises:
        DataError: it is none.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"the file holds values of type {array.dtype}, which are no numbers of pixels",
            where=str(path),
            fix="write whole or floating-point numbers",
        )
    if array.size == 0:
        raise DataError(f"the image is empty: its shape is {array.shape[1:]}", where=str(path))


def _guarded(path: Path, decode: Callable[[Path], Any]) -> Any:
    try:
        return decode(path)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they like on a broken file
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the file cannot be decoded: {first_line[:160]}",
            where=str(path),
            fix="write it again, or take the case out of the folder",
        ) from error


def _picture(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            raise DataError(
                f"the file holds {pages} pages, and one is read",
                where=str(path),
                fix="write volumes as NIfTI, and pages as files of their own",
            )
        picture.load()
    return picture


def _picture_channels(path: Path) -> NDArray[Any]:
    return _channels_of(_picture(path))


def _channels_of(picture: Image.Image) -> NDArray[Any]:
    plain = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LA": "L", "1": "L"}
    array = np.asarray(picture.convert(plain.get(picture.mode, picture.mode)))
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _picture_values(path: Path) -> NDArray[Any]:
    return _values_of(_picture(path), path)


def _values_of(picture: Image.Image, path: Path) -> NDArray[Any]:
    if picture.format == "JPEG":
        return _black_and_white(picture, path)
    if picture.mode == "P" and _is_black_and_white(picture):
        picture = picture.convert("L")
    # The numbers of any other palette image are its classes; the colours only show them.
    array = np.asarray(picture)
    if picture.mode in ("RGBA", "LA"):
        array = array[..., :-1]
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _is_black_and_white(picture: Image.Image) -> bool:
    used = picture.convert("RGB").getcolors()
    return used is not None and {colour for _, colour in used} <= {(0, 0, 0), (255, 255, 255)}


def _black_and_white(picture: Image.Image, path: Path) -> NDArray[Any]:
    """Return a mask of JPEG as 0 and 255: its compression blurs both.

    Raises:
        DataError: its values lie elsewhere, such as class numbers.
    """
    grey = np.asarray(picture.convert("L"))
    between = float(((grey >= 32) & (grey < 224)).mean())
    if 0 < grey.max() < 128 or between > 0.2:
        raise DataError(
            "the label is a JPEG whose values are not black and white: compression blurs class numbers",
            where=str(path),
            fix="write labels as PNG",
        )
    return ((grey >= 128) * np.uint8(255))[None]


def holds_both(path: Path) -> bool:
    """Tell whether an archive holds an image and its label, such as `image` and `label` of a slice.

    Raises:
        DataError: it cannot be decoded.
    """
    if suffix_of(path) != ".npz":
        return False
    names = _guarded(path, _names_in)
    return all(any(key in names for key in keys) for keys in (_IMAGE_KEYS, _LABEL_KEYS))


def _names_in(archive: Path) -> list[str]:
    with np.load(archive, allow_pickle=False) as arrays:
        return list(arrays.files)


def _image_array(path: Path) -> NDArray[Any]:
    return _array_channels(path, _IMAGE_KEYS)


def _label_array(path: Path) -> NDArray[Any]:
    return _array_channels(path, _LABEL_KEYS)


def _array_channels(path: Path, keys: tuple[str, ...]) -> NDArray[Any]:
    with path.open("rb") as content:
        loaded = np.load(content, allow_pickle=False)
        array: NDArray[Any] = loaded if isinstance(loaded, np.ndarray) else _one_array(loaded, path, keys)
    if not 1 <= array.ndim <= 4:
        raise DataError(f"an array of {array.ndim} axes, and 1 to 4 are read", where=str(path))
    if array.ndim == 2:
        return array[None]
    # Channels come first where there are few of them, else the array is a volume of one channel.
    return array if array.ndim in (3, 4) and array.shape[0] <= 8 else array[None]


def _one_array(archive: Any, path: Path, keys: tuple[str, ...]) -> NDArray[Any]:
    """Return the only array of an archive, else the one of several that is called like what is wanted."""
    named = [name for name in archive.files if name in keys]
    if len(archive.files) != 1 and len(named) != 1:
        held = (
            f"{len(archive.files)} arrays ({', '.join(archive.files[:4])})" if archive.files else "no array"
        )
        raise DataError(
            f"the archive holds {held}, and one is read", where=str(path), fix="write one array a file"
        )
    array: NDArray[Any] = archive[named[0] if named else archive.files[0]]
    return array


def _read_volume(path: Path, axes: str, orientation: str | None) -> Raw:
    raw: Raw = _guarded(path, lambda file: decode_volume(file, axes, orientation))
    check_array(raw.array, path)
    return raw


def _read_stack(path: Path, axes: str, decode: Callable[[Image.Image], NDArray[Any]]) -> Raw:
    raw: Raw = _guarded(path, lambda file: decode_stack(file, axes, decode))
    check_array(raw.array, path)
    return raw
