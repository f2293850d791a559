"""Folders of images and masks, flat or one folder for each subject."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from surgeon.errors import DataError

from .advice import IMAGE_FOLDERS, LABEL_FOLDERS, TURN_DICOM, is_dicom
from .case import Case
from .choices import Scale
from .found import Found
from .preparation import Preparation
from .reading import KNOWN, stem_of, suffix_of
from .volumes import VOLUMES

_LABEL_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_seg", "_segmentation")


def find_pairs(root: Path) -> Found | None:
    """Pair images and masks below a folder; None where there is no folder of images.

    `root/images/a.png` pairs with `root/masks/a.png` (or `a_mask.png`); the folders may lie deeper, one
    pair for each subject, and may have subfolders for subjects themselves. The outermost folder below
    `root`, or below `images`, is the subject; a file that lies flat is its own subject.

    Raises:
        DataError: there is no folder of masks beside the images, an image has no mask, or two images have
            one name.
    """
    folders = tuple(_image_folders(root))
    if not folders:
        return None
    cases: dict[str, Case] = {}
    for images in folders:
        for case in _cases_of(root, images):
            if case.id in cases:
                raise DataError(
                    f"two images are called {case.id!r}",
                    where=f"{cases[case.id].images[0]} and {case.images[0]}",
                    fix="keep one of them",
                )
            cases[case.id] = case
    if not cases:
        raise _without_images(folders[0])
    ordered = tuple(cases[name] for name in sorted(cases))
    volumes = suffix_of(ordered[0].images[0]) in VOLUMES
    preparation = (
        Preparation(scale=Scale.ZSCORE, multiple=16)
        if volumes
        else Preparation(scale=Scale.UNIT, multiple=32)
    )
    return Found("images and masks", ordered, None, preparation)


def _without_images(folder: Path) -> DataError:
    other = next((file for file in sorted(folder.rglob("*")) if file.is_file()), None)
    what = "the folder of images is empty" if other is None else "no image is of a kind that is read"
    fix = TURN_DICOM if other and is_dicom(other) else f"put files of {', '.join(KNOWN)}"
    return DataError(what, where=str(other or folder), fix=fix)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, sorted; links to folders are not followed, hidden files skipped."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and suffix_of(Path(name)):
                yield Path(here) / name


def _image_folders(root: Path) -> Iterator[Path]:
    for here, folders, _ in os.walk(root):
        # Hidden folders, and what an archive of macOS brings along, hold no images.
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        named = [name for name in folders if name.lower() in IMAGE_FOLDERS]
        if named:
            yield Path(here) / named[0]
        # Subfolders of images and masks are theirs.
        folders[:] = [name for name in folders if name.lower() not in IMAGE_FOLDERS + LABEL_FOLDERS]


def _cases_of(root: Path, images: Path) -> Iterator[Case]:
    masks = next((f for f in sorted(images.parent.iterdir()) if f.name.lower() in LABEL_FOLDERS), None)
    if masks is None:
        raise DataError(
            "the data folder has no labels",
            where=str(images.parent),
            fix=f"put a folder {' or '.join(LABEL_FOLDERS[:3])} beside {images.name}, with one mask an image",
        )
    labels = {_key(file, masks): file for file in files_below(masks)}
    prefix = images.parent.relative_to(root)
    for file in files_below(images):
        inner = file.relative_to(images)
        key = _key(file, images)
        label = next((labels[key + ending] for ending in _LABEL_ENDINGS if key + ending in labels), None)
        if label is None:
            raise DataError(
                "an image has no label",
                where=str(file),
                fix=f"write its mask to {masks / inner}, or remove it",
            )
        name = unicodedata.normalize("NFC", str(prefix / key))
        subject = (prefix / inner).parts[0] if len((prefix / inner).parts) > 1 else name
        yield Case(name, subject, (file,), label, volume=name)


def _key(file: Path, folder: Path) -> str:
    """Return what image and label are paired by; an umlaut may be one character or two."""
    return unicodedata.normalize("NFC", str(file.relative_to(folder).parent / stem_of(file)))
