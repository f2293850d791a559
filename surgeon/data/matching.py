"""Which folder of labels belongs to a folder of images, and which label file to an image."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from surgeon.errors import DataError

from .naming import DATE_FOLDERS, IMAGE_FOLDERS, LABEL_FOLDERS, Role, read_name
from .reading import stem_of, suffix_of

_LABEL_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_seg", "_segmentation")
_LIST = "or list images and labels in a datalist.json (an image may be a list of channels)"


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its label.

    Attributes:
        image: the file.
        labels: the file, or one file for each object of the image; none without a label.
        inner: the image's path as a subject is told by it: without the folder that says images.
        later: the image of a second date, whose channels follow those of the first; none for most.
    """

    image: Path
    labels: tuple[Path, ...]
    inner: Path
    later: tuple[Path, ...] = ()


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, sorted; links to folders are not followed, hidden files skipped."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(filter(_is_visible, folders))
        for name in sorted(names):
            if not name.startswith(".") and suffix_of(Path(name)):
                yield Path(here) / name


def folders_of_images(root: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield each folder of images below a folder, and the folder beside it that holds its labels.

    `images` goes with `masks` or `labels`, `train_images` with `train_masks`, `train` with `train_masks`,
    `Original` with `Ground Truth`. A folder that is called just like images and has none beside it comes with
    None; any other is searched inside.

    Raises:
        DataError: several folders beside one of images may hold the labels.
    """
    for here, folders, _ in os.walk(root):
        folders[:] = sorted(filter(_is_visible, folders))
        taken: set[str] = set()
        for images, masks in _siblings(Path(here), folders):
            taken |= {images.name} if masks is None else {images.name, masks.name}
            yield images, masks
        folders[:] = [name for name in folders if name not in taken and not _is_plain(name)]


def pairs_of(root: Path, images: Path, masks: Path) -> Iterator[Pair]:
    """Yield the images of a folder with their labels, which are called alike.

    `a.png` goes with `a.png` or `a_mask.png`; and where names differ in more, by what they have in common
    (`image_07.png` and `mask_07.png`), if no other has that. The one image of a subject's folder goes with
    all labels there, if none is called like it: each holds one object.
    """
    labels = {_key(file, masks): file for file in files_below(masks)}
    by_rest = _by_rest(labels)
    files = [(_key(file, images), file) for file in files_below(images)]
    alone = _by_rest(key for key, _ in files)
    prefix = images.parent.relative_to(root)
    if not _is_plain(images.name) and read_name(images.name).rest:
        prefix /= images.name
    for key, file in files:
        label = next((labels[key + ending] for ending in _LABEL_ENDINGS if key + ending in labels), None)
        rest = _rest(key)
        if label is None and len(alone[rest]) == len(by_rest.get(rest, ())) == 1:
            label = labels[by_rest[rest][0]]
        found: tuple[Path, ...] = () if label is None else (label,)
        if label is None and len(files) == 1 and images.parent != root:
            found = tuple(labels.values())
        yield Pair(file, found, prefix / file.relative_to(images))


def pairs_of_dates(root: Path) -> Iterator[Pair]:
    """Yield images of two dates with their labels: `A/x.png`, `B/x.png`, `label/x.png` (LEVIR-CD).

    Raises:
        DataError: an image has none of the second date, or no label.
    """
    for here, folders, _ in os.walk(root):
        folders[:] = sorted(filter(_is_visible, folders))
        by_name = {name.lower(): Path(here) / name for name in folders}
        labels = [by_name[name] for name in LABEL_FOLDERS if name in by_name]
        dates = [pair for pair in DATE_FOLDERS if set(pair) <= by_name.keys()]
        if len(dates) == len(labels) == 1:
            folders[:] = []
            first, second = (by_name[name] for name in dates[0])
            yield from _dated(root, first, second, labels[0])


def _dated(root: Path, first: Path, second: Path, labels: Path) -> Iterator[Pair]:
    later = {_key(file, second): file for file in files_below(second)}
    for pair in pairs_of(root, first, labels):
        found = later.get(_key(pair.image, first))
        if found is None or not pair.labels:
            raise _lacking(pair.image, labels if found else second)
        inner = first.parent.relative_to(root) / pair.image.relative_to(first)
        yield replace(pair, inner=inner, later=(found,))


def _lacking(image: Path, folder: Path) -> DataError:
    return DataError(
        f"an image has no file in {folder.name}",
        where=str(image),
        fix=f"write one into {folder}, called as the image, or remove the image",
    )


def pairs_side_by_side(root: Path) -> Iterator[Pair]:
    """Yield images whose labels lie in the same folder, such as `a.tif` and `a_mask.tif`.

    `a_mask_1.tif`, where no other image has that number, is one more object of `a.tif`.
    Nothing comes of files none of which is called like a label, or of a folder of labels alone.

    Raises:
        DataError: a label has no image, or more than one.
    """
    for here, group in _folders_with_files(root):
        names = {name: read_name(stem_of(Path(name))) for name in group}
        labels = [name for name in group if names[name].role == Role.LABEL]
        images = [name for name in group if names[name].role != Role.LABEL]
        found: dict[str, tuple[Path, ...]] = {}
        whole: set[str] = set()
        for label in labels:
            fitting = [name for name in images if names[name].rest == names[label].rest]
            is_part = not fitting and names[label].number is not None
            if is_part:
                fitting = [name for name in images if names[name].rest == names[label].rest[:-1]]
            if len(fitting) != 1 or (not is_part and fitting[0] in whole):
                raise _unfit(here, label, fitting)
            whole |= set() if is_part else {fitting[0]}
            found[fitting[0]] = (*found.get(fitting[0], ()), here / label)
        for name in images:
            yield Pair(here / name, found.get(name, ()), (here / name).relative_to(root))


def _folders_with_files(root: Path) -> list[tuple[Path, list[str]]]:
    """Return each folder with the files in it; none if no file at all is called like a label."""
    groups: dict[Path, list[str]] = {}
    for file in files_below(root):
        groups.setdefault(file.parent, []).append(file.name)
    every = (name for group in groups.values() for name in group)
    has_labels = any(read_name(stem_of(Path(name))).role == Role.LABEL for name in every)
    return list(groups.items()) if has_labels and root.name.lower() not in LABEL_FOLDERS else []


def _unfit(here: Path, label: str, fitting: list[str]) -> DataError:
    if fitting:
        return DataError(
            "a label may be that of several images, or an image has several labels",
            where=f"{here / label}: {', '.join(fitting)}",
            fix=f"write one label an image, called as the image with _mask behind; {_LIST}",
        )
    return DataError(
        "a label has no image beside it",
        where=str(here / label),
        fix=f"call it as its image with _mask behind; {_LIST}",
    )


def _siblings(here: Path, folders: list[str]) -> Iterator[tuple[Path, Path | None]]:
    """Yield the folders of images among siblings, with those of their labels.

    Labels belong to one folder: beside `images`, one called `original` holds the same images once more.
    """
    names = {name: read_name(name) for name in folders}
    labels = [name for name in folders if names[name].role == Role.LABEL]
    taken: set[str] = set()
    for name in sorted(set(folders).difference(labels), key=lambda name: (not _is_plain(name), name)):
        rest = names[name].rest
        fitting = [label for label in labels if names[label].rest == rest]
        if rest or not _is_plain(name):
            fitting = [label for label in fitting if _share_files(here / name, here / label)]
        elif len(fitting) > 1:
            fitting = [label for label in fitting if any(files_below(here / label))]
        if len(fitting) > 1:
            raise DataError(
                f"several folders may hold the labels of {name}: {', '.join(fitting)}",
                where=str(here),
                fix=f"leave one of them there, {_LIST}",
            )
        if taken.isdisjoint(fitting) and (fitting or name.lower() in IMAGE_FOLDERS):
            taken.update(fitting)
            yield here / name, here / fitting[0] if fitting else None


def _share_files(images: Path, masks: Path) -> bool:
    return any(pair.labels for pair in pairs_of(images.parent, images, masks))


def _is_plain(name: str) -> bool:
    return name.lower() in IMAGE_FOLDERS + LABEL_FOLDERS


def _is_visible(name: str) -> bool:
    # Hidden folders, and what an archive of macOS brings along, hold no images.
    return not name.startswith((".", "__MACOSX"))


def _key(file: Path, folder: Path) -> str:
    """Return what image and label are paired by; an umlaut may be one character or two."""
    return unicodedata.normalize("NFC", str(file.relative_to(folder).parent / stem_of(file)))


def _rest(key: str) -> tuple[str, ...]:
    """Return what a key has besides the words for image and label; folders count as they are."""
    path = Path(key)
    return (str(path.parent), *read_name(path.name).rest)


def _by_rest(keys: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        found.setdefault(_rest(key), []).append(key)
    return found
