"""A data folder opened: told apart by what is in it, checked, and turned to one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from surgeon.errors import DataError

from .advice import advise_instead_of, advise_without_images
from .case import Case
from .cohort import Cohort
from .folders import find_pairs
from .found import Found
from .functions import find_items
from .legend import IGNORED, Legend
from .listed import (
    declared_legend,
    find_datalist,
    find_decathlon,
    find_nnunet_raw,
    lists_without_channels,
    read_dataset_json,
)
from .preparation import FILE_NAME, Preparation, read_preparation
from .reading import ARRAYS, as_signal, read_image, shape_of, suffix_of
from .samples import SampleMemory
from .shelf import SampleShelf
from .subjects import group_cases

FORMATS = ("nnunet", "decathlon", "folder")


def open_data(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - the word of the command line
    preparation: Preparation | str | Path | None = None,
    binarise: bool = False,
    subjects: str | Path | None = None,
    classes: tuple[str, ...] | None = None,
    channels: tuple[str, ...] | None = None,
    spatial_dims: int | None = None,
    slice_axis: int | None = None,
    check: bool = True,
    memory: int = 2**30,
    cache: str | Path | None = None,
) -> Cohort:
    """Open labelled data.

    Args:
        path: an nnU-Net raw folder, a Medical Segmentation Decathlon folder, or a folder of images and
            masks; the JSON file of a MONAI datalist, or a folder with it as `datalist.json`; or
            `module:function` or `file.py:function` that returns datasets. Nothing is ever written into a
            folder.
        format: `nnunet`, `decathlon` or `folder`; None tells by what is in the folder.
        preparation: how images become inputs, as a value or a TOML file; None takes the folder's
            `preparation.toml`, else what suits the format.
        binarise: every label above 0 is the foreground (instance masks).
        subjects: a regular expression or a CSV file that groups cases into subjects; the file may say
            the split or the stratum of each case too.
        classes: names of the classes, background first; None takes those of `dataset.json`, else
            background and foreground.
        channels: where an image is several files, the word in the name of each, in the network's order:
            `("flair", "t1")` for `p1_flair.nii.gz` and `p1_t1.nii.gz`.
        spatial_dims: of the network: 2 turns volumes into slices; None takes the data as they are.
        slice_axis: the axis that slices are cut along, in the order of the preparation's axes.
        check: read every case once, so that a bad file is found now.
        memory: bytes of prepared samples that are kept in memory; what is beyond is read again each time.
        cache: a folder to keep prepared samples in from run to run, for volumes that take long to resample.

    Raises:
        DataError: the folder is missing or holds no data, labels are missing or of unknown classes, a file
            cannot be decoded, image and label differ in size, or the data do not suit `spatial_dims`.
    """
    root = Path(path)
    found = _find(root, format, channels)
    how = _choose_preparation(root, preparation, found.preparation)
    if binarise:
        how = dataclasses.replace(how, binarise=True)
    if subjects is not None:
        found = group_cases(found, subjects)
    how = _with_signals(found, how, spatial_dims)
    legend = _choose_legend(found, how, classes, root)
    cases, dims = _cut_slices(found, how, spatial_dims, slice_axis)
    kept = SampleMemory(memory) if len(legend.classes) < IGNORED else None
    shelf = None if cache is None else _open_shelf(Path(cache), root, how, legend)
    cohort = Cohort(
        root,
        found.format,
        cases,
        legend,
        dims,
        1,
        how,
        items=found.items,
        splits=_split_subjects(found),
        memory=kept,
        shelf=shelf,
    )
    cohort = dataclasses.replace(cohort, channels=cohort.read(cases[0]).image.shape[0])
    return cohort.check() if check else cohort


def _find(root: Path, format: str | None, channels: tuple[str, ...] | None) -> Found:  # noqa: A002
    if root.is_dir():
        return _find_folder(root, format, channels)
    is_list = root.suffix == ".json" and root.is_file()
    if channels is not None and (is_list or ":" in root.name):
        raise _told(root)
    if is_list:
        return find_datalist(root)
    if ":" in root.name:
        return find_items(str(root))
    raise DataError("no such data folder", where=str(root), fix=advise_instead_of(root))


def _told(root: Path) -> DataError:
    return DataError(
        "channels are named, and the data say themselves which files an image has",
        where=str(root),
        fix="leave channels out, or give a folder of images and labels",
    )


def _choose_legend(found: Found, how: Preparation, classes: tuple[str, ...] | None, root: Path) -> Legend:
    """Return what label values mean: as declared, with other names where some are given."""
    two = ("background", "foreground")
    declared = Legend(two) if found.legend is None else found.legend
    names = tuple(classes or (two if how.binarise else declared.classes))
    _check_classes(names, how, root)
    regions = None if how.binarise else declared.regions
    if regions is not None and len(names) != len(regions.values) + 1:
        raise DataError(
            f"{len(names)} classes are named, the data have {len(regions.values)} regions and a background",
            where=str(root),
            fix="leave classes out: dataset.json names them",
        )
    values = declared.values if len(names) == len(declared.classes) and not how.binarise else None
    return Legend(names, regions, declared.ignore, values)


def _open_shelf(folder: Path, root: Path, how: Preparation, legend: Legend) -> SampleShelf:
    if root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
        raise DataError(
            "the cache would be written into the data folder", where=str(folder), fix="give another folder"
        )
    return SampleShelf(folder, {"preparation": how.to_dict(), "legend": legend.to_dict()})


def _split_subjects(found: Found) -> dict[str, tuple[str, ...]] | None:
    """Return the subjects of the declared splits."""
    if found.splits is None:
        return None
    subject = {case.id: case.subject for case in found.cases}
    return {split: tuple(sorted({subject[i] for i in ids})) for split, ids in found.splits.items()}


def _find_folder(root: Path, format: str | None, channels: tuple[str, ...] | None) -> Found:  # noqa: A002
    if format is not None and format not in FORMATS:
        raise DataError(f"unknown format {format!r}", where="format", fix=f"one of {', '.join(FORMATS)}")
    content = read_dataset_json(root)
    if format is None and content is None and channels is None and (root / "datalist.json").is_file():
        return find_datalist(root / "datalist.json")
    if format is None:
        format = _tell(root, content)  # noqa: A001
    if format != "folder" and content is None:
        raise DataError("no dataset.json in the data folder", where=str(root))
    if format != "folder" and channels is not None:
        raise _told(root)
    if format == "nnunet":
        return find_nnunet_raw(root, content or {})
    if format == "decathlon":
        if not isinstance((content or {}).get("training"), list):
            raise DataError("dataset.json has no list called training", where=str(root / "dataset.json"))
        return find_decathlon(root, content or {})
    return _with_labels(find_pairs(root, channels), content, root)


def _with_labels(found: Found | None, content: dict[str, object] | None, root: Path) -> Found:
    """Take over what a `dataset.json` says of the labels; there must be some images."""
    if found is None:
        raise DataError(
            "no images were found in the data folder",
            where=str(root),
            fix=advise_without_images(root),
        )
    if content is not None and "labels" in content:
        return dataclasses.replace(found, legend=declared_legend(content, str(root / "dataset.json")))
    return found


def _tell(root: Path, content: dict[str, object] | None) -> str:
    if content is None:
        return "folder"
    entries = content.get("training")
    if isinstance(entries, list) and entries and "channel_names" not in content:
        return "nnunet" if lists_without_channels(root, entries) else "decathlon"
    return "nnunet" if (root / "imagesTr").is_dir() else "folder"


def _choose_preparation(
    root: Path, given: Preparation | str | Path | None, default: Preparation
) -> Preparation:
    if isinstance(given, Preparation):
        return given
    if given is not None:
        return read_preparation(given)
    beside = root / FILE_NAME
    return read_preparation(beside) if beside.is_file() else default


def _check_classes(names: tuple[str, ...], how: Preparation, root: Path) -> None:
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(
            f"the classes {', '.join(names)} are not two or more different names",
            where=str(root),
            fix="name the background first, then each foreground class",
        )
    if how.binarise and len(names) != 2:
        raise DataError(
            f"binarised labels have 2 classes, and {len(names)} are named",
            where=str(root),
            fix="name two classes, or leave binarise out",
        )


def _with_signals(found: Found, how: Preparation, wanted: int | None) -> Preparation:
    """Have arrays of two axes read as signals of several channels, for a network that takes one axis."""
    files = [file for case in found.cases for file in case.images]
    are_arrays = bool(files) and all(suffix_of(file) in ARRAYS for file in files)
    if wanted != 1 or not are_arrays or len(_shape_of(found.cases[0], found, how)) != 2:
        return how
    return dataclasses.replace(how, signals=True)


def _cut_slices(
    found: Found, how: Preparation, wanted: int | None, axis: int | None
) -> tuple[tuple[Case, ...], int]:
    cases = found.cases
    natural = len(_shape_of(cases[0], found, how))
    if wanted in (None, natural):
        return cases, natural
    if wanted != 2 or natural != 3:
        raise DataError(
            f"the network takes images of {wanted} axes, the data have {natural}",
            where=cases[0].place,
            fix="use volumes with a 3-D network, volumes or images with a 2-D one, arrays (C, L) with a 1-D",
        )
    if axis is None:
        # The slices as they were acquired: the last axis of a NIfTI file.
        axis = 2 if how.axes == "xyz" else 0
    if axis not in (0, 1, 2):
        raise DataError(f"slice axis {axis} is not 0, 1 or 2", where="slice_axis")
    return tuple(part for case in cases for part in _slices_of(case, axis, _shape_of(case, found, how))), 2


def _shape_of(case: Case, found: Found, how: Preparation) -> tuple[int, ...]:
    if case.item is not None:
        assert found.items is not None
        return found.items.shape(case.item)
    file = case.images[0]
    if how.signals and suffix_of(file) in ARRAYS:
        return as_signal(read_image(file), 2).array.shape[1:]
    if how.orientation is None:
        return shape_of(file, how.axes)
    return tuple(read_image(file, how.axes, how.orientation).array.shape[1:])


def _slices_of(case: Case, axis: int, shape: tuple[int, ...]) -> Iterator[Case]:
    for index in range(shape[axis]):
        yield dataclasses.replace(case, id=f"{case.id}#{index:04d}", slice=(axis, index))
