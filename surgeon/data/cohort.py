"""Cases of a data folder, and what is read of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surgeon.errors import DataError

from .decoding import decode_case, decode_volume_once
from .preparation import Preparation
from .preparing import Region, prepare_geometry


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
        between: distance between the slices in mm, for a slice.
    """

    image: Tensor
    label: Tensor | None
    case_id: str
    subject: str
    spacing: tuple[float, ...]
    region: Region
    between: float | None = None


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
        decode = decode_case if case.slice is None else decode_volume_once
        image, label, spacing = decode(case.images, case.label, self.preparation, self.classes)
        between = None
        if case.slice is not None:
            axis, index = case.slice
            # A copy: a view would keep the whole volume in memory.
            image = image.select(axis + 1, index).clone()
            label = None if label is None else label.select(axis, index).clone()
            between = spacing[axis]
            spacing = spacing[:axis] + spacing[axis + 1 :]
        image, label, spacing, region = prepare_geometry(image, label, self.preparation, spacing)
        return Sample(image.contiguous(), label, case.id, case.subject, spacing, region, between)

    def check(self) -> None:
        """Read every case once, so that a file that cannot be used is found before any training.

        Raises:
            DataError: as `read`.
        """
        for case in self.cases:
            channels = self.read(case).image.shape[0]
            if channels != self.channels:
                raise DataError(
                    f"case {case.id!r} has {channels} channels, {self.cases[0].id!r} has {self.channels}",
                    where=", ".join(map(str, case.images)),
                    fix="set channels in the preparation to 1 (grey) or 3 (colour), or mend the case",
                )

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
