"""Hippocampus volumes: as they are, and after what a host was not trained on."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from surgeon.data import Cohort, Preparation, open_data

ARCHIVE = "hippocampus_task04_260.tar"
CLASSES = ("background", "anterior", "posterior")

Volume = NDArray[np.float32]
Shift = Callable[[Volume, np.random.Generator], Volume]


def change_intensity(image: Volume, generator: np.random.Generator) -> Volume:
    """Bend the intensities, and lay a smooth field over them, as another coil would."""
    low, high = image.min(), image.max()
    bent = ((image - low) / max(float(high - low), 1e-6)) ** generator.uniform(1.8, 2.4)
    field = gaussian_filter(generator.normal(size=image.shape), [side / 4 for side in image.shape])
    return np.asarray(bent * np.exp(0.6 * field / max(float(np.abs(field).max()), 1e-6)), dtype=np.float32)


def add_noise(image: Volume, generator: np.random.Generator) -> Volume:
    """Add noise as that of a magnitude image, half of the image's deviation and more."""
    size = float(image.std()) * generator.uniform(0.5, 0.8)
    real, imaginary = (generator.normal(0, size, image.shape) for _ in range(2))
    return np.asarray(np.hypot(image + real, imaginary), dtype=np.float32)


def widen_voxels(image: Volume, generator: np.random.Generator) -> Volume:
    """Do nothing to the values: the voxels are made larger for image and label alike."""
    del generator
    return image


SHIFTS: MappingProxyType[str, Shift] = MappingProxyType(
    {"intensity": change_intensity, "noise": add_noise, "spacing": widen_voxels}
)
_WIDER = 0.7


def open_volumes(folder: Path, data: Path, *, dims: int, shift: str = "") -> Cohort:
    """Unpack the volumes, change them if asked, and open them for networks of 2 or 3 dimensions.

    Args:
        folder: to write in.
        data: holds the archive.
        dims: 2 cuts volumes into slices along the last axis.
        shift: a key of `SHIFTS`, or empty.
    """
    root = folder / f"hippocampus-{shift or 'plain'}"
    if not root.exists():
        with tarfile.open(data / ARCHIVE) as archive:
            archive.extractall(root, filter="data")
        if shift:
            for number, path in enumerate(sorted((root / "images").glob("*.nii.gz"))):
                _change(path, root / "labels" / path.name, shift, np.random.default_rng(number))
    how = Preparation(scale="zscore", multiple=16)  # type: ignore[arg-type]
    return open_data(root, preparation=how, classes=CLASSES, spatial_dims=dims)


def _change(path: Path, label: Path, shift: str, generator: np.random.Generator) -> None:
    image = nibabel.load(path)
    values = SHIFTS[shift](np.asarray(image.dataobj, dtype=np.float32), generator)
    affine = image.affine
    if shift == "spacing":
        known = nibabel.load(label)
        small = zoom(np.asarray(known.dataobj), _WIDER, order=0)
        values = zoom(values, _WIDER, order=1)
        affine = affine @ np.diag([*[1 / _WIDER] * 3, 1.0])
        nibabel.save(nibabel.Nifti1Image(small.astype(np.uint8), affine), label)
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
