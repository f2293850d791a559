"""Cases listed in JSON: nnU-Net raw, Medical Segmentation Decathlon, a MONAI datalist."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

from surgeon.errors import DataError

from .case import Case
from .choices import Scale
from .found import Found
from .functions import SPLITS
from .items import SUBJECT_KEYS
from .legend import Legend
from .matching import files_below
from .preparation import Preparation
from .reading import PICTURES, read_image, shape_of, stem_of, suffix_of
from .regions import has_regions, read_regions
from .stacks import STACKS
from .volumes import VOLUMES

# ACDC has two phases of a patient, as patient001_frame01: they belong into one split.
_PHASE = re.compile(r"(patient\d+)_frame\d+$")


def read_dataset_json(root: Path) -> dict[str, Any] | None:
    """Read `dataset.json`; None where there is none.

    Raises:
        DataError: it is not a JSON object.
    """
    file = root / "dataset.json"
    if not file.is_file():
        return None
    content = _read_json(file)
    if not isinstance(content, dict):
        raise DataError("dataset.json is not an object", where=str(file))
    return content


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} is not JSON: {error}", where=str(file)) from error


def _named_values(labels: Any, where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the class names of a `dataset.json` and their values, the background first.

    Args:
        labels: `{"background": 0, "liver": 1}` as nnU-Net v2 has it, `{"0": "background", "1": "liver"}`,
            or the names in order.
        where: named in an error.

    Raises:
        DataError: a value is none, or is named twice, or 0 is missing.
    """
    if isinstance(labels, list):
        labels = {str(value): name for value, name in enumerate(labels)}
    if not isinstance(labels, dict) or not labels:
        raise DataError(
            "dataset.json names no labels", where=where, fix='add "labels": {"background": 0, ...}'
        )
    if all(str(key).isdigit() for key in labels):
        pairs = {int(key): str(name) for key, name in labels.items()}
    else:
        for name, value in labels.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise DataError(
                    f"label {name!r} of {value!r} is no label value",
                    where=where,
                    fix="write whole numbers, 0 for the background",
                )
        pairs = {value: name for name, value in labels.items()}
    if min(pairs) != 0 or len(pairs) != len(labels):
        raise DataError(
            f"the label values {sorted(pairs)} need one background of value 0, and each value once",
            where=where,
        )
    values = tuple(sorted(pairs))
    return tuple(pairs[value] for value in values), values


def declared_legend(content: dict[str, Any], where: str) -> Legend:
    """Return what the label values of a `dataset.json` mean.

    Raises:
        DataError: they cannot be used.
    """
    labels = content.get("labels")
    ignore = None
    if isinstance(labels, dict) and isinstance(labels.get("ignore"), int):
        ignore = labels["ignore"]
        labels = {name: value for name, value in labels.items() if name != "ignore"}
        _check_ignored(ignore, labels, where)
    if has_regions(labels):
        return Legend(*read_regions(labels or {}, content.get("regions_class_order"), where), ignore)
    names, values = _named_values(labels, where)
    return Legend(names, None, ignore, None if values == tuple(range(len(values))) else values)


def _check_ignored(ignore: int, labels: dict[str, Any], where: str) -> None:
    """Refuse an ignored value that is a class as well; nnU-Net wants it above all others."""
    values = [v for value in labels.values() for v in (value if isinstance(value, list) else [value])]
    if any(isinstance(value, int) and value >= ignore for value in values):
        raise DataError(
            f"the ignored value {ignore} is not above those of all classes",
            where=where,
            fix='give "ignore" the largest value of labels',
        )


def find_nnunet_raw(root: Path, content: dict[str, Any]) -> Found:
    """List an nnU-Net raw folder: `imagesTr/{case}_0000.nii.gz`, `labelsTr/{case}.nii.gz`.

    Raises:
        DataError: images or labels are missing, or cases have different channels.
    """
    where = str(root / "dataset.json")
    names = content.get("channel_names") or content.get("modality") or {"0": "image"}
    if not isinstance(names, dict | list):
        raise DataError(
            f"channel_names of {names!r} cannot be used", where=where, fix='write {"0": "CT"} or ["CT"]'
        )
    labels = {stem_of(file): file for file in files_below(root / "labelsTr")}
    if not labels:
        raise DataError(
            "the data folder has no labels", where=str(root / "labelsTr"), fix="put labelsTr/{case}.nii.gz"
        )
    channels = _files_by_channel(root / "imagesTr")
    wanted = [0] if _are_colour(channels, len(names)) else list(range(len(names)))
    for case, files in sorted(channels.items()):
        if sorted(files) != wanted:
            raise DataError(
                f"case {case!r} has the channels {sorted(files)}, dataset.json names {len(names)}",
                where=where,
                fix="put a file for each channel, _0000 and so on, or name the channels that there are",
            )
        if case not in labels:
            raise DataError("an image has no label", where=str(files[0]), fix=f"write labelsTr/{case}")
    cases = tuple(
        _case(name, tuple(files[i] for i in sorted(files)), labels[name])
        for name, files in sorted(channels.items())
    )
    return Found("nnU-Net raw", cases, declared_legend(content, where), _default(cases, "zyx"))


def _files_by_channel(folder: Path) -> dict[str, dict[int, Path]]:
    """Return for each case its files by channel."""
    channels: dict[str, dict[int, Path]] = {}
    for file in files_below(folder):
        match = re.fullmatch(r"(.+)_(\d{4})", stem_of(file))
        if match:
            channels.setdefault(match[1], {})[int(match[2])] = file
    if not channels:
        raise DataError(
            "the data folder has no images", where=str(folder), fix="put imagesTr/{case}_0000.nii.gz"
        )
    return channels


def _are_colour(channels: dict[str, dict[int, Path]], count: int) -> bool:
    """Whether pictures hold all channels in one file, as nnU-Net has natural images."""
    first = channels[min(channels)]
    is_alone = count > 1 and list(first) == [0] and suffix_of(first[0]) in PICTURES
    return is_alone and read_image(first[0]).array.shape[0] == count


def lists_without_channels(root: Path, entries: list[Any]) -> bool:
    """Whether a list leaves the channel out of the names of its images, as that of nnU-Net v1 does."""
    name = entries[0].get("image") if isinstance(entries[0], dict) else None
    if not isinstance(name, str) or (root / name).exists():
        return False
    file = root / name
    return file.with_name(f"{stem_of(file)}_0000{suffix_of(file)}").is_file()


def find_decathlon(root: Path, content: dict[str, Any]) -> Found:
    """List a Decathlon folder: `dataset.json` with `training: [{"image": ..., "label": ...}]`.

    Raises:
        DataError: the list has no labels, or an entry is not a pair of files inside the folder.
    """
    where = str(root / "dataset.json")
    ordered = _cases_of(content["training"], root, where)
    return Found("Decathlon", ordered, declared_legend(content, where), _default(ordered, "xyz"))


def find_datalist(file: Path) -> Found:
    """List a MONAI datalist: a JSON file of `{"training": [{"image": ..., "label": ...}], ...}`.

    An image may be a list of files, one for each channel. Sections called training, validation and testing
    are splits where two of them have labels; else their labelled entries are one set. An entry may
    have a `subject`; class names are read from `labels`, if there are any.

    Raises:
        DataError: it is no such list, or an entry is not a pair of files that exist.
    """
    where = str(file)
    content = _read_json(file)
    sections = {"training": content} if isinstance(content, list) else content
    if not isinstance(sections, dict):
        raise DataError("the datalist is no object and no list", where=where)
    known: dict[str, list[Any]] = {
        split: next((sections[key] for key in keys if isinstance(sections.get(key), list)), [])
        for split, keys in SPLITS.items()
    }
    labelled = {
        split: [entry for entry in entries if split == "train" or _has_label(entry)]
        for split, entries in known.items()
    }
    ordered = _cases_of([entry for entries in labelled.values() for entry in entries], file.parent, where)
    legend = declared_legend(sections, where) if "labels" in sections else None
    splits = None
    if labelled["train"] and (labelled["validation"] or labelled["test"]):
        splits = {
            split: tuple(case.id for case in _cases_of(entries, file.parent, where)) if entries else ()
            for split, entries in labelled.items()
        }
    return Found("MONAI datalist", ordered, legend, _default(ordered, "xyz"), splits=splits)


def _has_label(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry.get("label"))


def _cases_of(entries: list[Any], root: Path, where: str) -> tuple[Case, ...]:
    """List the cases of entries with an image and a label each, sorted by id."""
    cases: list[Case] = []
    for entry in entries:
        images, label = _files_of(entry, root, where)
        case = _case(stem_of(images[0]), images, label)
        subject = next((str(entry[key]) for key in SUBJECT_KEYS if entry.get(key)), case.subject)
        cases.append(dataclasses.replace(case, subject=subject))
    if not cases:
        raise DataError(f"{Path(where).name} lists no case to train on", where=where)
    ordered = tuple(sorted(cases, key=lambda case: case.id))
    for one, other in itertools.pairwise(ordered):
        if one.id == other.id:
            raise DataError(
                f"the case {one.id!r} is listed twice",
                where=where,
                fix="keep one of the entries, or give the files different names",
            )
    return ordered


def _files_of(entry: Any, root: Path, where: str) -> tuple[tuple[Path, ...], Path]:
    """Return the images (one for each channel) and the label that an entry names."""
    named = entry if isinstance(entry, dict) else {}
    images = named.get("image") if isinstance(named.get("image"), list) else [named.get("image")]
    label = named.get("label")
    if not images or not all(isinstance(name, str) and name for name in (*images, label)):
        raise DataError(
            "the data have no labels: an entry of training has no pair of image and label",
            where=f"{where}: {str(entry)[:120]}",
            fix='write {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}',
        )
    files = [_placed(root, str(name)) for name in (*images, label)]
    for file in files:
        if not file.is_file():
            raise DataError(
                f"a file that {Path(where).name} lists is missing",
                where=str(file),
                fix=f"write paths as they are seen from {root}, or put the file there",
            )
    return tuple(files[:-1]), files[-1]


def _placed(root: Path, name: str) -> Path:
    """Return the file of a name; a list made on Windows parts folders by backslashes."""
    file = root / name
    return root / name.replace("\\", "/") if "\\" in name and not file.is_file() else file


def _case(name: str, images: tuple[Path, ...], label: Path) -> Case:
    phase = _PHASE.match(name)
    return Case(name, phase[1] if phase else name, images, (label,), volume=name)


def _default(cases: tuple[Case, ...], axes: str) -> Preparation:
    if suffix_of(cases[0].images[0]) in VOLUMES:
        return Preparation(scale=Scale.ZSCORE, multiple=16, axes=axes)
    if suffix_of(cases[0].images[0]) in STACKS and len(shape_of(cases[0].images[0])) == 3:
        return Preparation(scale=Scale.ZSCORE, multiple=16, axes="zyx")
    return Preparation(scale=Scale.ZSCORE, multiple=32)
