"""Small data folders, written for a test."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image


def disc(size: tuple[int, ...] = (24, 20), radius: float = 6.0, shift: int = 0) -> np.ndarray:
    grid = np.indices(size).astype(float)
    centre = [side / 2 + shift for side in size]
    distance = sum((axis - at) ** 2 for axis, at in zip(grid, centre, strict=True))
    return (distance < radius**2).astype(np.uint8)


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def picture_folder(root: Path, count: int = 4, size: tuple[int, int] = (24, 20)) -> Path:
    for index in range(count):
        mask = disc(size, shift=index)
        picture(root / "images" / f"case{index}.png", (mask * 100 + 50 + index).astype(np.uint8))
        picture(root / "masks" / f"case{index}.png", mask * 255)
    return root


def volume(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 2.0, 3.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.diag([*spacing, 1.0]))
    nibabel.save(image, path)
    return path


def ball(size: tuple[int, ...] = (10, 12, 14)) -> np.ndarray:
    return disc(size, radius=4.0)


def nnunet_folder(root: Path, channels: int = 2, count: int = 3) -> Path:
    label = ball() + (np.indices(ball().shape)[0] > 5) * ball()
    for index in range(count):
        for channel in range(channels):
            volume(
                root / "imagesTr" / f"ct{index}_{channel:04d}.nii.gz", (label * 9 + channel).astype(np.int16)
            )
        volume(root / "labelsTr" / f"ct{index}.nii.gz", label.astype(np.uint8))
    write_json(
        root / "dataset.json",
        {
            "channel_names": {str(c): f"m{c}" for c in range(channels)},
            "labels": {"background": 0, "front": 1, "back": 2},
            "numTraining": count,
            "file_ending": ".nii.gz",
        },
    )
    return root


def decathlon_folder(root: Path, count: int = 3) -> Path:
    entries = []
    for index in range(count):
        volume(root / "imagesTr" / f"brain{index}.nii.gz", (ball() * 7).astype(np.float32))
        volume(root / "labelsTr" / f"brain{index}.nii.gz", ball())
        entries.append(
            {"image": f"./imagesTr/brain{index}.nii.gz", "label": f"./labelsTr/brain{index}.nii.gz"}
        )
    write_json(root / "dataset.json", {"labels": {"0": "background", "1": "part"}, "training": entries})
    return root


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
