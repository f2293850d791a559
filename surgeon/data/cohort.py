"""Cases of a data folder, and what is read of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgeon.errors import DataError

from .preparation import Preparation
from .preparing import Region, prepare_geometry, prepare_intensities
from .reading import read_image, read_label


@dataclass(frozen=True, slots=True)
class Case:
    """One image that a network sees whole, or one slice of a volume.

    Attributes:
        id: unique in its cohort.
        subject: who or what it was taken of; a subject is never in two splits.
        images: files of the channels, in order.
        label: file of the label, or None.
        volume: id of the volume this is a slice of; the case's own id when it is whole.
        slice: the axis and the index along it; None when it is whole.
    """

    id: str
    subject: str
    images: tuple[Path, ...]
    label: Path | None
    volume: str
    slice: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A case as the network sees it, prepared.

    Attributes:
        image: float32 `(C, *spatial)`.
        label: int64 `(*spatial)`, or None for a case without one.
        case_id: of the case.
        subject: of the case.
        spacing: size of a pixel or voxel in mm, after resizing.
        region: `((start, stop), ...)` for each spatial axis: what is image and not padding.
    """

    image: Tensor
    label: Tensor | None
    case_id: str
    subject: str
    spacing: tuple[float, ...]
    region: Region


class SampleMemory:
    """Prepared samples kept in memory, up to a number of bytes.

    Args:
        limit: bytes; a sample that does not fit any more is read from disk each time.
    """

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._kept: dict[str, Sample] = {}

    def get(self, case_id: str) -> Sample | None:
        """Return a kept sample."""
        sample = self._kept.get(case_id)
        if sample is None or sample.label is None:
            return sample
        return dataclasses.replace(sample, label=sample.label.long())

    def keep(self, sample: Sample) -> None:
        """Keep a sample if there is room; its label takes one byte a voxel."""
        label = None if sample.label is None else sample.label.to(torch.uint8)
        size = sum(x.numel() * x.element_size() for x in (sample.image, label) if x is not None)
        if size <= self._room:
            self._room -= size
            self._kept[sample.case_id] = dataclasses.replace(sample, label=label)


@dataclass(frozen=True, slots=True)
class Cohort:
    """The cases of one data folder.

    Attributes:
        path: the folder.
        format: how it was laid out, such as `images and masks`.
        cases: sorted by id.
        classes: names; the index is the value in the label, 0 the background.
        spatial_dims: number of spatial axes of a sample.
        channels: number of channels of a sample.
        preparation: how images become inputs.
        memory: samples that were read before; None reads from disk each time.
    """

    path: Path
    format: str
    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    spatial_dims: int
    channels: int
    preparation: Preparation
    memory: SampleMemory | None = field(default=None, compare=False, repr=False)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects, sorted."""
        return tuple(sorted({case.subject for case in self.cases}))

    def select(self, subjects: Iterable[str]) -> Cohort:
        """Return the cohort of some subjects.

        Raises:
            DataError: a subject is not in the cohort.
        """
        wanted = set(subjects)
        missing = sorted(wanted - set(self.subjects))
        if missing:
            raise DataError(
                f"no subject {missing[0]!r} in the data",
                where=str(self.path),
                fix="was the data folder changed?",
            )
        cases = tuple(case for case in self.cases if case.subject in wanted)
        return dataclasses.replace(self, cases=cases)

    def read(self, case: Case) -> Sample:
        """Read and prepare one case.

        Raises:
            DataError: a file cannot be decoded, image and label differ in size, or the label holds a value
                that is no class.
        """
        kept = None if self.memory is None else self.memory.get(case.id)
        if kept is not None:
            return kept
        sample = self._read(case)
        if self.memory is not None:
            self.memory.keep(sample)
        return sample

    def _read(self, case: Case) -> Sample:
        image, spacing = self._read_channels(case)
        label = None if case.label is None else self._read_classes(case, tuple(image.shape[1:]))
        if case.slice is not None:
            axis, index = case.slice
            image = image.select(axis + 1, index)
            label = None if label is None else label.select(axis, index)
            spacing = spacing[:axis] + spacing[axis + 1 :]
        image, label, spacing, region = prepare_geometry(image, label, self.preparation, spacing)
        return Sample(image.contiguous(), label, case.id, case.subject, spacing, region)

    def check(self) -> None:
        """Read every case once, so that a file that cannot be used is found before any training.

        Raises:
            DataError: as `read`.
        """
        for case in self.cases:
            self.read(case)

    def spacing_of(self, case: Case) -> tuple[float, ...]:
        """Return the size of a pixel or voxel of a case's file in mm, of the whole volume for a slice."""
        return read_image(case.images[0], self.preparation.axes, self.preparation.orientation).spacing

    def to_dict(self) -> dict[str, Any]:
        """Return a summary in plain JSON."""
        return {
            "path": str(self.path),
            "format": self.format,
            "cases": len(self.cases),
            "subjects": len(self.subjects),
            "classes": list(self.classes),
            "spatial_dims": self.spatial_dims,
            "channels": self.channels,
            "preparation": self.preparation.to_dict(),
        }

    def _read_channels(self, case: Case) -> tuple[Tensor, tuple[float, ...]]:
        how = self.preparation
        raws = [read_image(path, how.axes, how.orientation) for path in case.images]
        for path, raw in zip(case.images, raws, strict=True):
            if raw.array.shape[1:] != raws[0].array.shape[1:]:
                raise DataError(
                    f"the channels of a case differ in size: {_size(raw.array.shape[1:])} against"
                    f" {_size(raws[0].array.shape[1:])}",
                    where=str(path),
                )
        array = raws[0].array if len(raws) == 1 else np.concatenate([raw.array for raw in raws])
        return prepare_intensities(array, how, str(case.images[0])), raws[0].spacing

    def _read_classes(self, case: Case, size: tuple[int, ...]) -> Tensor:
        assert case.label is not None
        how = self.preparation
        array = read_label(case.label, how.axes, how.orientation).array
        if array.shape != size:
            raise DataError(
                f"image and label differ in size: {_size(size)} against {_size(array.shape)}",
                where=f"{case.images[0]} and {case.label}",
                fix="write the label on the image's grid",
            )
        return torch.from_numpy(to_classes(array, self.classes, how.binarise, str(case.label)))


def to_classes(
    values: NDArray[Any], classes: tuple[str, ...], binarise: bool, where: str
) -> NDArray[np.int64]:
    """Turn the values of a label file into class numbers.

    Args:
        values: int64 `(*spatial)`.
        classes: names of the classes, background first.
        binarise: every value above 0 is class 1.
        where: named in an error.

    Raises:
        DataError: a value is no class.
    """
    if binarise:
        return (values > 0).astype(np.int64)
    # Two classes are often written as black and white.
    if len(classes) == 2 and not ((values != 0) & (values != 255)).any():
        return (values > 0).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() >= len(classes)):
        unknown = sorted({int(v) for v in np.unique(values)} - set(range(len(classes))))
        named = ", ".join(f"{index} {name}" for index, name in enumerate(classes))
        raise DataError(
            f"the label holds unknown classes: {_listed(unknown)} (known: {named})",
            where=where,
            fix="name every class with classes, or make all above 0 foreground with binarise (--binarise)",
        )
    return np.ascontiguousarray(values)


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
