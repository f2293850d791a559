"""What the names of folders and files say: which hold images, which labels, and what belongs together."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
LABEL_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "segmentations")
# Two dates of one place, or two images of one subject, each in a folder of its own beside the labels.
DATE_FOLDERS = (
    ("a", "b"),
    ("t1", "t2"),
    ("time1", "time2"),
    ("im1", "im2"),
    ("before", "after"),
    ("pre", "post"),
)
_IMAGE_WORDS = frozenset((*IMAGE_FOLDERS, "original", "originals", "input", "inputs"))
_LABEL_WORDS = frozenset(
    (*LABEL_FOLDERS, "annotation", "anno", "segmentation", "seg", "groundtruth", "gt", "gts", "manual")
)
_ORDINALS = frozenset(("1st", "2nd"))
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")  # TrainImages, JPEGImages
_WORD = re.compile(r"1st|2nd|[^\W\d_]+|\d+")
_GROUND_TRUTH = re.compile(r"ground[ _-]?truths?")


class Role(StrEnum):
    """What a folder or a file is for, by its name."""

    IMAGE = "image"
    LABEL = "label"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Name:
    """A name read word by word.

    Attributes:
        role: label if a word says so, else image if one does, else open.
        rest: the other words, in order: what an image and its label have in common.
        number: the last word where it is a number behind the word for a label, as in `a_mask_1`.
        is_first: it is called the first of several labels of the same images, as `1st_manual`.
    """

    role: Role
    rest: tuple[str, ...]
    number: str | None = None
    is_first: bool = False


def read_name(name: str) -> Name:
    """Read the name of a folder, or of a file without its suffix.

    `train_images` and `train_masks` have the rest `train` in common, `image_07` and `mask_07` the rest `07`,
    `ISIC_0000001` and `ISIC_0000001_segmentation` the rest `isic 0000001`.
    """
    spaced = _HUMP.sub(" ", unicodedata.normalize("NFC", name)).lower()
    words = _WORD.findall(_GROUND_TRUTH.sub("groundtruth", spaced))
    if not _LABEL_WORDS.isdisjoint(words):
        rest = tuple(word for word in words if word not in _LABEL_WORDS | _ORDINALS)
        is_numbered = len(words) > 1 and words[-1].isdigit() and words[-2] in _LABEL_WORDS
        return Name(Role.LABEL, rest, words[-1] if is_numbered else None, "1st" in words)
    role = Role.OPEN if _IMAGE_WORDS.isdisjoint(words) else Role.IMAGE
    return Name(role, tuple(word for word in words if word not in _IMAGE_WORDS))


def without_shared_words(names: Iterable[Name]) -> list[Name]:
    """Leave out of names the words that all of them have: they do not tell one from another.

    Where `volume-0` and `volume-1` are the images, and `0_sat` and `1_sat`, the numbers are left. A number
    stays, unless it stands behind the word for a label in all of them (`21_manual1`), and so does all of a
    single name.
    """
    names = list(names)
    if len(names) < 2:
        return names
    if names[0].number is not None and len({name.number for name in names}) == 1:
        names = [replace(name, rest=name.rest[:-1], number=None) for name in names]
    shared = set.intersection(*(set(name.rest) for name in names))
    told = {word for word in shared if not word.isdigit()}
    return [replace(name, rest=tuple(word for word in name.rest if word not in told)) for name in names]
