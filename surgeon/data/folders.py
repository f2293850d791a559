"""Folders of images and masks, flat or one folder for each subject."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from surgeon.errors import DataError

from .advice import TURN_DICOM, is_dicom
from .case import Case
from .channels import pairs_of_channels
from .choices import Scale
from .found import Found
from .functions import SPLITS
from .matching import Pair, folders_of_images, pairs_in_one_file, pairs_of, pairs_of_dates, pairs_side_by_side
from .naming import LABEL_FOLDERS, read_name
from .preparation import Preparation
from .reading import KNOWN, shape_of, stem_of, suffix_of
from .stacks import STACKS
from .volumes import VOLUMES

# The slices of a volume or the frames of a film, as case0005_slice012, belong into one split.
_PART = re.compile(r"(.*[^/_ -])[_ -]*(?:slice|frame)[_ -]*\d+$", re.IGNORECASE)
# Three splits need so many subjects.
_FEWEST = 3


def find_pairs(root: Path, channels: tuple[str, ...] | None = None) -> Found | None:
    """Pair images and masks below a folder; None where there are none.

    `root/images/a.png` pairs with `root/masks/a.png` (or `a_mask.png`); the folders may lie deeper, one
    pair for each subject, and may have subfolders for subjects themselves. Without such folders
    `root/A/a.png` and `root/B/a.png` are two dates of `root/label/a.png`, the channels of one image, or a
    label lies beside its image, or in the same archive. The outermost folder below `root`, or below `images`,
    is the subject; a file that lies flat is its own subject, or `case0005` where it is called
    `case0005_slice012`. Where the outermost folders are called train, validation and test, they are the
    splits and no subjects; one of the last two may be missing.

    Args:
        root: the folder.
        channels: words that the files of one image are told apart by, one for each channel.

    Raises:
        DataError: there is no folder of masks beside the images, an image has no mask, or two images have
            one name.
    """
    pairs = tuple(_pairs(root) if channels is None else pairs_of_channels(root, channels))
    if not pairs:
        return None
    split_of = _read_splits(pairs)
    cases: dict[str, Case] = {}
    for pair in pairs:
        case = _case(pair, has_splits=bool(split_of))
        if case.id in cases:
            raise DataError(
                f"two images are called {case.id!r}",
                where=f"{cases[case.id].images[0]} and {case.images[0]}",
                fix="keep one of them",
            )
        cases[case.id] = case
    ordered = _of_volumes(tuple(cases[name] for name in sorted(cases)))
    splits = {split: tuple(c.id for c in ordered if split_of.get(c.images[0]) == split) for split in SPLITS}
    declared = splits if splits["train"] and (splits["validation"] or splits["test"]) else None
    return Found("images and masks", ordered, None, _default(ordered), splits=declared)


def _pairs(root: Path) -> Iterable[Pair]:
    for find in (_labelled, pairs_of_dates, pairs_side_by_side, pairs_in_one_file):
        pairs = tuple(find(root))
        if pairs:
            return pairs
    return ()


def _labelled(root: Path) -> Iterator[Pair]:
    """Yield the pairs of folders of images beside folders of masks."""
    folders = tuple(folders_of_images(root))
    paired = [(images, masks) for images, masks in folders if masks is not None]
    for images, masks in folders:
        if masks is None and not (paired and _split(images.relative_to(root)) == "test"):
            raise DataError(
                "the data folder has no labels",
                where=str(images.parent),
                fix=f"put a folder {' or '.join(LABEL_FOLDERS[:3])} beside {images.name},"
                " with one mask an image",
            )
    pairs = list(itertools.chain.from_iterable(pairs_of(root, *pair) for pair in paired))
    if len(paired) == 1 and paired[0][0].parent == root and not any(_split(pair.inner) for pair in pairs):
        # The only folder of images tells nobody apart: `stare-images` is no subject.
        pairs = [replace(pair, inner=pair.image.relative_to(paired[0][0])) for pair in pairs]
    if paired and not pairs:
        raise _without_images(paired[0][0])
    for pair in pairs:
        if not pair.labels:
            masks = next(masks for images, masks in paired if pair.image.is_relative_to(images))
            raise DataError(
                "an image has no label",
                where=str(pair.image),
                fix=f"write its mask into {masks}, called as the image, or remove it",
            )
    yield from pairs


def _case(pair: Pair, *, has_splits: bool) -> Case:
    if not pair.labels:
        raise DataError(
            "an image has no label",
            where=str(pair.image),
            fix=f"write its mask beside it as {stem_of(pair.image)}_mask.png, or remove it",
        )
    inner = pair.inner
    name = unicodedata.normalize("NFC", str(inner.parent / stem_of(inner)))
    parts = inner.parts[1:] if has_splits else inner.parts
    subject = parts[0] if len(parts) > 1 else name
    return Case(name, subject, (pair.image, *pair.later), pair.labels, volume=name)


def _of_volumes(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Give the slices or frames that are told by their names the subject that they were taken of."""
    found = {
        case.id: match[1] for case in cases if case.subject == case.id and (match := _PART.match(case.id))
    }
    if len(set(found.values())) < _FEWEST:
        return cases  # all of one volume: they are what there is to be dealt out
    return tuple(replace(case, subject=found.get(case.id, case.subject)) for case in cases)


def _read_splits(pairs: tuple[Pair, ...]) -> dict[Path, str]:
    """Return the split of each image by its outermost folder; none unless each split has one such folder.

    Folders such as `test_patient_1` and `test_patient_2` are subjects.
    """
    found = {pair.image: _split(pair.inner) for pair in pairs}
    known = {image: split for image, split in found.items() if split is not None}
    folders = {(pair.inner.parts[0], found[pair.image]) for pair in pairs}
    is_clear = len(known) == len(found) and len(folders) == len(set(known.values()))
    return known if is_clear else {}


def _split(inner: Path) -> str | None:
    """Return the split that the outermost folder of a path is called after."""
    words = () if len(inner.parts) < 2 else read_name(inner.parts[0]).rest
    named = [split for split, keys in SPLITS.items() if not set(keys).isdisjoint(words)]
    return named[0] if len(named) == 1 else None


def _without_images(folder: Path) -> DataError:
    other = next((file for file in sorted(folder.rglob("*")) if file.is_file()), None)
    what = "the folder of images is empty" if other is None else "no image is of a kind that is read"
    fix = TURN_DICOM if other and is_dicom(other) else f"put files of {', '.join(KNOWN)}"
    return DataError(what, where=str(other or folder), fix=fix)


def _default(cases: tuple[Case, ...]) -> Preparation:
    if suffix_of(cases[0].images[0]) in VOLUMES:
        return Preparation(scale=Scale.ZSCORE, multiple=16)
    if len(shape_of(cases[0].images[0])) == 3 and suffix_of(cases[0].images[0]) in STACKS:
        return Preparation(scale=Scale.UNIT, multiple=16, axes="zyx")
    return Preparation(scale=Scale.UNIT, multiple=32)
