"""Volumes decoded: NIfTI, and what SimpleITK reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgeon.errors import DataError

NIFTI = (".nii.gz", ".nii")
OF_ITK = (".mha", ".mhd", ".nrrd")
VOLUMES = NIFTI + OF_ITK


@dataclass(frozen=True, slots=True)
class Raw:
    """A decoded file.

    Attributes:
        array: `(C, *spatial)` for an image, `(*spatial)` for a label.
        spacing: size of a pixel or voxel in mm, one number for each spatial axis; 1 where a file says none.
        directions: where the axes of a volume point in the body, such as `RAS`; empty where a file says none.
    """

    array: NDArray[Any]
    spacing: tuple[float, ...]
    directions: str = ""

    def lies_as(self, other: Raw) -> bool:
        """Whether two files have voxels of one size (within 1 %) and axes that point the same way."""
        same_size = np.allclose(self.spacing, other.spacing, rtol=0.01)
        return same_size and self.directions == other.directions


def open_volume(path: Path) -> Any:
    """Open a volume as an image of nibabel; NIfTI voxels are read when they are asked for.

    Raises:
        DataError: the library that reads the file is not installed.
        Exception: whatever that library raises on a broken file.
    """
    import nibabel

    if not path.name.lower().endswith(NIFTI):
        return _open_with_itk(path)
    image = nibabel.load(path)  # type: ignore[attr-defined]
    if image.ndim != 2:
        return image
    # An image in NIfTI is a volume of one slice.
    return nibabel.Nifti1Image(np.asanyarray(image.dataobj)[..., None], image.affine)  # type: ignore[no-untyped-call]


def _open_with_itk(path: Path) -> Any:
    import nibabel

    try:
        import SimpleITK
    except ImportError as error:
        raise DataError(
            f"{path.suffix} files are read with a library that is not installed: SimpleITK",
            where=str(path),
            fix="pip install SimpleITK, or write NIfTI files",
        ) from error
    image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() == 2:
        image = SimpleITK.JoinSeries(image)
    # Axes come last one first, channels after them.
    array = SimpleITK.GetArrayViewFromImage(image)
    dims = image.GetDimension()
    array = array.transpose(*range(dims - 1, -1, -1), *range(dims, array.ndim))
    if dims not in (3, 4):
        raise DataError(f"a volume of {dims} axes, and 3 or 4 are read", where=str(path))
    directions = np.array(image.GetDirection()).reshape(dims, dims)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    # ITK's first two axes point the other way: to the left and to the back.
    affine[:2] *= -1
    return nibabel.Nifti1Image(np.array(array), affine)  # type: ignore[no-untyped-call]


def shape_of_volume(path: Path, axes: str) -> tuple[int, ...]:
    """Return the spatial shape of a volume.

    Raises:
        DataError: it has too few axes.
        Exception: as `open_volume`.
    """
    shape = tuple(int(side) for side in open_volume(path).shape[:3])
    if len(shape) < 3:
        raise DataError(f"a volume of {len(shape)} axes, and 3 or 4 are read", where=str(path))
    return tuple(shape["xyz".index(axis)] for axis in axes)


def decode_volume(path: Path, axes: str, orientation: str | None) -> Raw:
    """Decode a volume `(C, *spatial)`, its axes in the order asked for.

    Raises:
        DataError: it has too few axes, or its voxel size is none.
        Exception: as `open_volume`.
    """
    import nibabel

    image = open_volume(path)
    if orientation is not None:
        target = nibabel.orientations.axcodes2ornt(orientation)
        turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), target)
        image = image.as_reoriented(turn)
    spacing = tuple(float(size) for size in image.header.get_zooms()[:3])
    if len(spacing) < 3 or image.ndim not in (3, 4):
        raise DataError(f"a volume of {image.ndim} axes, and 3 or 4 are read", where=str(path))
    _check_voxel_size(spacing, image.affine, path)
    array = np.asanyarray(image.dataobj)
    array = array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0)
    directions = nibabel.aff2axcodes(image.affine)
    order = ["xyz".index(axis) for axis in axes]
    return Raw(
        array.transpose(0, *(axis + 1 for axis in order)),
        tuple(spacing[axis] for axis in order),
        "".join(str(directions[axis]) for axis in order),
    )


def _check_voxel_size(spacing: tuple[float, ...], affine: NDArray[Any], path: Path) -> None:
    if not all(0 < size < np.inf for size in spacing) or not np.isfinite(affine).all():
        raise DataError(
            f"the voxel size {spacing} is no size", where=str(path), fix="write the file with its spacing"
        )
    edges = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    if not np.allclose(edges, spacing, rtol=0.01):
        raise DataError(
            f"the file says two voxel sizes: {_sizes(spacing)} mm in its header, {_sizes(edges)} mm in its"
            " affine",
            where=str(path),
            fix="write the file again with one of them",
        )


def _sizes(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{size:.3g}" for size in spacing)
