"""What to give in place of a path in which no labelled images can be found."""

from __future__ import annotations

import itertools
from pathlib import Path

from .naming import IMAGE_FOLDERS, LABEL_FOLDERS
from .reading import suffix_of

TURN_DICOM = "turn DICOM series into NIfTI, for instance with dcm2niix, with a label on the grid of each"
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def advise_instead_of(path: Path) -> str:
    """Say what to give in place of a path that is no folder."""
    if path.is_file() and suffix_of(path):
        return "give the folder that holds images/ and masks/, not one of its files"
    if path.is_file() and path.name.lower().endswith(_ARCHIVES):
        return "unpack it, and give the folder"
    return "give an existing folder, a datalist.json, or module:function with --data"


def advise_without_images(folder: Path) -> str:
    """Say what to do about a folder in which no images were found."""
    if folder.name.lower() in IMAGE_FOLDERS + LABEL_FOLDERS:
        return f"give the folder that holds {folder.name}/ and the other: {folder.absolute().parent}"
    if (folder / "imagesTr").is_dir():
        return 'write its dataset.json: {"channel_names": {"0": "CT"}, "labels": {"background": 0, ...}}'
    if any(is_dicom(file) for file in itertools.islice(folder.rglob("*"), 50)):
        return TURN_DICOM
    return (
        "give an nnU-Net raw folder, a Decathlon folder, a folder with images/ and masks/, or a datalist.json"
    )


def is_dicom(file: Path) -> bool:
    """Whether a file starts as those of DICOM do."""
    try:
        with file.open("rb") as content:
            return content.read(132)[128:] == b"DICM"
    except OSError:
        return False
