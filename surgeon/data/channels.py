"""Images of several files: `p1_flair.nii.gz`, `p1_t1.nii.gz` and `p1_t2.nii.gz` beside one label (BraTS)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from surgeon.errors import DataError

from .matching import Pair, files_below
from .naming import Role, read_name
from .reading import stem_of, suffix_of

_Key = tuple[tuple[str, ...], ...]
_LABEL = "label"


@dataclass(frozen=True, slots=True)
class _File:
    """A file by what its path says.

    Attributes:
        path: where it is.
        key: the words of its path that image and label have in common.
        word: the channel that it is; None for none of them.
        is_label: whether its name, or the folder it lies in, is one of labels.
        folders: the folders above it that say neither a channel nor images.
        stem: its name without the channel.
    """

    path: Path
    key: _Key
    word: str | None
    is_label: bool
    folders: tuple[str, ...]
    stem: str


def pairs_of_channels(root: Path, words: tuple[str, ...]) -> Iterator[Pair]:
    """Yield images whose channels are files of their own, told apart by a word in their names.

    `p1/p1_t1.nii.gz` and `p1/p1_t2.nii.gz` go with `p1/p1_seg.nii.gz`, `images/p1_t1.png` and
    `images/p1_t2.png` with `labels/p1.png`, `t1/p1.png` and `t2/p1.png` with `masks/p1.png`. What is called
    after no channel, a modality that the network does not take, is left out.

    Args:
        root: the data folder.
        words: of each channel, in the network's order.

    Raises:
        DataError: a word names no file, an image lacks a channel, a label an image, or one is there twice.
    """
    images: dict[_Key, dict[str, _File]] = {}
    labels: dict[_Key, dict[str, _File]] = {}
    for path in files_below(root):
        file = _read(path.relative_to(root), path, words)
        if file.is_label:
            _keep(labels.setdefault(file.key, {}), _LABEL, file)
        elif file.word is not None:
            _keep(images.setdefault(file.key, {}), file.word, file)
    _check_words(root, words, {word for channels in images.values() for word in channels})
    for key, channels in images.items():
        missing = [word for word in words if word not in channels]
        if missing:
            raise DataError(
                f"an image lacks the channel {missing[0]!r}",
                where=", ".join(str(file.path) for file in channels.values()),
                fix="write its file beside the others, or remove them",
            )
        first, *later = (channels[word] for word in words)
        found = (labels[key][_LABEL].path,) if key in labels else ()
        inner = Path(*first.folders, first.stem + suffix_of(first.path))
        yield Pair(first.path, found, inner, tuple(file.path for file in later))
    left = [labels[key][_LABEL].path for key in labels if key not in images]
    if left:
        raise DataError(
            "a label has no image of these channels",
            where=str(left[0]),
            fix=f"call its image alike, with {words[0]} in the name, or remove the label",
        )


def _read(inner: Path, path: Path, words: tuple[str, ...]) -> _File:
    """Read a path; the channel is looked for in the name first, then in its folders from the inside."""
    stem = stem_of(path)
    parts = [stem, *reversed(inner.parent.parts)]
    found = next(((place, word) for place, part in enumerate(parts) if (word := _word_in(part, words))), None)
    short = list(parts)
    if found is not None:
        place, word = found
        short[place] = _pattern(word).sub("", parts[place]).strip("_-. ")
    names = [read_name(part) for part in short]
    key = tuple(name.rest for name in reversed(names) if name.rest)
    folders = [part for part, name in zip(short, names, strict=True) if part and name.role == Role.OPEN]
    return _File(
        path,
        key,
        None if found is None else found[1],
        Role.LABEL in (name.role for name in names[:2]),
        tuple(reversed(folders[1:] if names[0].role == Role.OPEN and short[0] else folders)),
        short[0] or stem,
    )


def _word_in(part: str, words: tuple[str, ...]) -> str | None:
    return next((word for word in words if _pattern(word).search(part)), None)


def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9a-z]){re.escape(word)}(?![0-9a-z])", re.IGNORECASE)


def _keep(group: dict[str, _File], slot: str, file: _File) -> None:
    if slot in group:
        raise DataError(
            f"two files may be the same {'label' if file.is_label else f'channel {slot!r}'} of an image",
            where=f"{group[slot].path} and {file.path}",
            fix="keep one of them, or list images and labels in a datalist.json",
        )
    group[slot] = file


def _check_words(root: Path, words: tuple[str, ...], named: set[str]) -> None:
    if not words or len(set(words)) != len(words):
        raise DataError(
            "the channels are not one or more different words", where=", ".join(words) or "channels"
        )
    for word in words:
        if word not in named:
            raise DataError(
                f"no file is called after the channel {word!r}",
                where=str(root),
                fix="name the channels as the files do, as in p1_flair.nii.gz and p1_t1.nii.gz: flair,t1",
            )
