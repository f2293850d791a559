"""Which folder of labels belongs to a folder of images, and which label file to an image."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from surgeon.errors import DataError

from .naming import DATE_FOLDERS, IMAGE_FOLDERS, LABEL_FOLDERS, Name, Role, read_name, without_shared_words
from .reading import holds_both, stem_of, suffix_of

_LABEL_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_seg", "_segmentation")
_SERIES = "_4d"
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
    `Original` with `Ground Truth`; else one called like images with the only one of labels beside it whose
    files are called like its own. Where `1st_manual` stands beside `mask`, the first label of the images is
    taken, and a `mask` elsewhere is no label either. A folder that is called just like images and has none
    beside it comes with None; any other is searched inside.

    Raises:
        DataError: several folders beside one of images may hold the labels.
    """
    found: list[tuple[Path, Path | None]] = []
    passed_over: set[str] = set()
    for here, folders, _ in os.walk(root):
        folders[:] = sorted(filter(_is_visible, folders))
        taken: set[str] = set()
        for images, fitting in _siblings(Path(here), folders):
            taken |= {images.name, *fitting}
            passed_over.update(fitting[1:])
            found.append((images, images.parent / fitting[0] if fitting else None))
        folders[:] = [name for name in folders if name not in taken and not _is_plain(name)]
    for images, masks in found:
        yield images, None if masks is None or masks.name in passed_over else masks


def pairs_of(root: Path, images: Path, masks: Path) -> Iterator[Pair]:
    """Yield the images of a folder with their labels, which are called alike.

    `a.png` goes with `a.png` or `a_mask.png`; and where names differ in more, by what they have in common
    (`image_07.png` and `mask_07.png`), if no other has that. The one image of a subject's folder goes with
    all labels there, if none is called like it: each holds one object.
    """
    labels = {_key(file, masks): file for file in files_below(masks)}
    files = [(_key(file, images), file) for file in files_below(images)]
    matched = _matched([key for key, _ in files], list(labels))
    prefix = images.parent.relative_to(root)
    if not _is_plain(images.name) and read_name(images.name).rest:
        prefix /= images.name
    for key, file in files:
        found: tuple[Path, ...] = (labels[matched[key]],) if key in matched else ()
        if not found and len(files) == 1 and images.parent != root:
            found = tuple(labels.values())
        yield Pair(file, found, prefix / file.relative_to(images))


def _matched(images: list[str], labels: list[str]) -> dict[str, str]:
    """Return the label of each image that has one, both as keys.

    Only where not one label fits, words that all images or all labels share are left out, as in `0_sat`.
    """
    endings = ((key, key + ending) for key in images for ending in reversed(_LABEL_ENDINGS))
    found = {key: label for key, label in endings if label in set(labels)}
    for rests in (_rests, _short_rests):
        by_rest = _turned(rests(labels))
        alone = _turned(rests(images))
        for rest, (key, *others) in alone.items():
            if not others and key not in found and len(by_rest.get(rest, ())) == 1:
                found[key] = by_rest[rest][0]
        if found:
            break
    return found


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

    `a_mask_1.tif`, where no other image has that number, is one more object of `a.tif`. Where not one label
    fits, words that all images or all labels share are left out: `volume-0.nii` and `segmentation-0.nii`.
    Nothing comes of files none of which is called like a label, or of a folder of labels alone. A series over
    time (`patient001_4d.nii.gz`) beside its labelled frames is no image.

    Raises:
        DataError: a label has no image, or more than one.
    """
    groups = _folders_with_files(root)
    names = {here / name: read_name(stem_of(Path(name))) for here, group in groups for name in group}
    labels = [file for file, name in names.items() if name.role == Role.LABEL]
    images = [file for file, name in names.items() if name.role != Role.LABEL]
    if not any(_fitting(names, images, label) for label in labels):
        names = {
            file: name
            for files in (images, labels)
            for file, name in zip(files, without_shared_words(names[file] for file in files), strict=True)
        }
    for here, group in groups:
        found = _fitted({here / name: names[here / name] for name in group})
        for image, its_labels in found.items():
            if its_labels or not (any(found.values()) and stem_of(image).lower().endswith(_SERIES)):
                yield Pair(image, its_labels, image.relative_to(root))


def _fitted(names: dict[Path, Name]) -> dict[Path, tuple[Path, ...]]:
    """Return the images of a folder with the labels that lie there.

    Raises:
        DataError: a label has no image, or more than one.
    """
    images = [file for file, name in names.items() if name.role != Role.LABEL]
    found: dict[Path, tuple[Path, ...]] = dict.fromkeys(images, ())
    whole: set[Path] = set()
    for label in (file for file, name in names.items() if name.role == Role.LABEL):
        fitting = _fitting(names, images, label)
        is_part = not fitting and names[label].number is not None
        if is_part:
            fitting = [image for image in images if names[image].rest == names[label].rest[:-1]]
        if len(fitting) != 1 or (not is_part and fitting[0] in whole):
            raise _unfit(label, [image.name for image in fitting])
        whole |= set() if is_part else {fitting[0]}
        found[fitting[0]] += (label,)
    return found


def _fitting(names: dict[Path, Name], images: list[Path], label: Path) -> list[Path]:
    return [
        image for image in images if image.parent == label.parent and names[image].rest == names[label].rest
    ]


def pairs_in_one_file(root: Path) -> Iterator[Pair]:
    """Yield archives that hold an image and its label: `case0005_slice012.npz` of Synapse.

    Nothing comes of a folder in which an archive holds anything else.

    Raises:
        DataError: one cannot be decoded.
    """
    files = tuple(files_below(root))
    if files and all(map(holds_both, files)):
        yield from (Pair(file, (file,), file.relative_to(root)) for file in files)


def _folders_with_files(root: Path) -> list[tuple[Path, list[str]]]:
    """Return each folder with the files in it; none if no file at all is called like a label."""
    groups: dict[Path, list[str]] = {}
    for file in files_below(root):
        groups.setdefault(file.parent, []).append(file.name)
    every = (name for group in groups.values() for name in group)
    has_labels = any(read_name(stem_of(Path(name))).role == Role.LABEL for name in every)
    return list(groups.items()) if has_labels and root.name.lower() not in LABEL_FOLDERS else []


def _unfit(label: Path, fitting: list[str]) -> DataError:
    if fitting:
        return DataError(
            "a label may be that of several images, or an image has several labels",
            where=f"{label}: {', '.join(fitting)}",
            fix=f"write one label an image, called as the image with _mask behind; {_LIST}",
        )
    return DataError(
        "a label has no image beside it",
        where=str(label),
        fix="call it as its image with _mask behind; where an image is several files, say which are its"
        f" channels with --channels flair,t1; {_LIST}",
    )


def _siblings(here: Path, folders: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders of images among siblings, with those of their labels: the first holds them.

    Labels belong to one folder: beside `images`, one called `original` holds the same images once more.
    """
    names = {name: read_name(name) for name in folders}
    labels = [name for name in folders if names[name].role == Role.LABEL]
    images = sorted(set(folders).difference(labels), key=lambda name: (not _is_plain(name), name))
    taken: set[str] = set()
    unpaired: list[str] = []
    for name in images:
        fitting = _one_of(here, name, _called_alike(here, name, labels, names), names)
        if fitting and taken.isdisjoint(fitting):
            taken.update(fitting)
            yield here / name, fitting
        elif not fitting:
            unpaired.append(name)
    for name in unpaired:
        left = [label for label in labels if label not in taken and names[name].role == Role.IMAGE]
        sharing = [label for label in left if _share_files(here / name, here / label)]
        if len(sharing) == 1:
            taken.update(sharing)
            yield here / name, sharing
        elif name.lower() in IMAGE_FOLDERS:
            yield here / name, []


def _called_alike(here: Path, folder: str, labels: list[str], names: dict[str, Name]) -> list[str]:
    """List the folders of labels that are called like one of images, besides the words for either."""
    rest = names[folder].rest
    fitting = [label for label in labels if names[label].rest == rest]
    if rest or not _is_plain(folder):
        return [label for label in fitting if _share_files(here / folder, here / label)]
    return fitting if len(fitting) < 2 else [label for label in fitting if any(files_below(here / label))]


def _one_of(here: Path, folder: str, fitting: list[str], names: dict[str, Name]) -> list[str]:
    """Put the folder of labels first that is called the first of several.

    Raises:
        DataError: there are several, and none or more than one is.
    """
    first = [label for label in fitting if names[label].is_first]
    if len(fitting) > 1 and len(first) != 1:
        raise DataError(
            f"several folders may hold the labels of {folder}: {', '.join(fitting)}",
            where=str(here),
            fix=f"leave one of them there, {_LIST}",
        )
    return [*first, *(label for label in fitting if label not in first)]


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


def _rests(keys: list[str], names: list[Name] | None = None) -> dict[str, tuple[str, ...]]:
    """Return what each key has besides the words for image and label; folders count as they are."""
    names = names or [read_name(Path(key).name) for key in keys]
    return {key: (str(Path(key).parent), *name.rest) for key, name in zip(keys, names, strict=True)}


def _short_rests(keys: list[str]) -> dict[str, tuple[str, ...]]:
    return _rests(keys, without_shared_words(read_name(Path(key).name) for key in keys))


def _turned(rests: dict[str, tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    found: dict[tuple[str, ...], list[str]] = {}
    for key, rest in rests.items():
        found.setdefault(rest, []).append(key)
    return found
