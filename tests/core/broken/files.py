"""Ways to spoil one file, and small data folders of every suffix to spoil it in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from tests.core.data.builders import ball, disc

SUFFIXES = (".png", ".tif", ".jpg", ".bmp", ".npz", ".npy", ".nii", ".nii.gz")


def write_array(path: Path, array: np.ndarray) -> Path:
    """Write an array in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, array)
    elif path.suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    elif path.suffix in (".nii", ".gz"):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    else:
        Image.fromarray(array).save(path)
    return path


def pairs(root: Path, suffix: str, count: int = 3) -> Path:
    """Write images and labels of one suffix; JPEG images have PNG labels."""
    shape = ball() if suffix.startswith(".nii") else disc((40, 36), 12)
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 90, shape.shape)
        write_array(root / "images" / f"case{index}{suffix}", (shape * 100 + noise).astype(np.uint8))
        write_array(root / "labels" / f"case{index}{'.png' if suffix == '.jpg' else suffix}", shape)
    return root


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 5])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def web_page(file: Path) -> None:
    file.write_bytes(b"<!DOCTYPE html><html><body>404 not found</body></html>" * 20)


def git_lfs_pointer(file: Path) -> None:
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n")


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link_to_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "moved away")


def link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def gone(file: Path) -> None:
    file.unlink()


def scrambled(file: Path) -> None:
    content = file.read_bytes()
    noise = np.random.default_rng(1).integers(0, 256, len(content), dtype=np.uint8).tobytes()
    file.write_bytes(content[:8] + noise[8:])


DAMAGES: tuple[Callable[[Path], None], ...] = (
    truncated,
    emptied,
    zeroed,
    web_page,
    git_lfs_pointer,
    folder_instead,
    link_to_nowhere,
    link_to_itself,
    gone,
    scrambled,
)
