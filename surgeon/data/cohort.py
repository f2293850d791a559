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

from .case import Case
from .decoding import Decoded, decode_case, decode_volume_once, take_slice
from .items import Items
from .preparation import Preparation
from .preparing import Region, prepare_geometry
from .regions import LabelRegions


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
        source: the grid of the files, where voxels were resampled or cut away; None where they were not.
    """

    image: Tensor
    label: Tensor | None
    case_id: str
    subject: str
    spacing: tuple[float, ...]
    region: Region
    between: float | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The grid of a case's files, on which a prediction is scored.

    Attributes:
        label: int64 `(*spatial)`, whole, or None.
        size: of the grid.
        box: the part of it that was prepared; with a side of 0 for a slice that was cut away.
        spacing: size of a pixel or voxel in mm.
    """

    label: Tensor | None
    size: tuple[int, ...]
    box: Region
    spacing: tuple[float, ...]


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
        return None if sample is None else _with_labels(sample, torch.int64)

    def keep(self, sample: Sample) -> None:
        """Keep a sample if there is room; its labels take one byte a voxel."""
        small = _with_labels(sample, torch.uint8)
        truth = None if small.source is None else small.source.label
        tensors = [x for x in (small.image, small.label, truth) if x is not None]
        size = sum(x.numel() * x.element_size() for x in tensors)
        if size <= self._room:
            self._room -= size
            self._kept[sample.case_id] = small


def _with_labels(sample: Sample, dtype: torch.dtype) -> Sample:
    """Return a sample whose labels are of a type."""
    source = sample.source
    if source is not None and source.label is not None:
        source = dataclasses.replace(source, label=source.label.to(dtype))
    label = None if sample.label is None else sample.label.to(dtype)
    return dataclasses.replace(sample, label=label, source=source)


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
        regions: the label values of each foreground class, where classes overlap.
        items: what cases without files are read from.
        splits: for each of train, validation and test its subjects, where the data declare them.
        memory: samples that were read before; None reads from disk each time.
    """

    path: Path
    format: str
    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    spatial_dims: int
    channels: int
    preparation: Preparation
    regions: LabelRegions | None = None
    items: Items | None = field(default=None, compare=False, repr=False)
    splits: dict[str, tuple[str, ...]] | None = None
    memory: SampleMemory | None = field(default=None, compare=False, repr=False)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects, sorted."""
        return tuple(sorted({case.subject for case in self.cases}))

    @property
    def strata(self) -> dict[str, str]:
        """For each subject what splits shall hold equal shares of: the stratum of its first case."""
        found: dict[str, str] = {}
        for case in self.cases:
            found.setdefault(case.subject, case.stratum)
        return found

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

    def image_as_scored(self, case: Case) -> Tensor:
        """Return the image `(C, *spatial)` of a case on the grid that its prediction is scored on."""
        sample = self.read(case)
        if sample.source is None:
            return sample.image[(slice(None), *(slice(start, stop) for start, stop in sample.region))]
        decoded = self._decode(case)
        if case.slice is not None:
            decoded = take_slice(decoded, *case.slice)
        whole = torch.full((decoded.image.shape[0], *decoded.size), float(decoded.image.min()))
        if all(stop > start for start, stop in decoded.box):
            whole[(slice(None), *(slice(start, stop) for start, stop in decoded.box))] = decoded.image
        return whole

    def _decode(self, case: Case) -> Decoded:
        if case.item is not None:
            assert self.items is not None
            return self.items.decode(case.item, self.preparation, self.classes, self.regions)
        decode = decode_case if case.slice is None else decode_volume_once
        return decode(case.images, case.label, self.preparation, self.classes, self.regions)

    def _read(self, case: Case) -> Sample:
        decoded = self._decode(case)
        between = None
        if case.slice is not None:
            between = decoded.spacing[case.slice[0]]
            decoded = take_slice(decoded, *case.slice)
        source = None
        if self.preparation.moves_voxels:
            source = Source(decoded.truth, decoded.size, decoded.box, decoded.spacing)
        how = self.preparation if case.slice is None else self.preparation.across(case.slice[0])
        image, label, spacing, region = prepare_geometry(
            decoded.image, decoded.label, how, decoded.spacing, decoded.limits
        )
        return Sample(image.contiguous(), label, case.id, case.subject, spacing, region, between, source)

    def check(self) -> Cohort:
        """Read every case once, so that a file that cannot be used is found before any training.

        Returns:
            the cohort, with the classes that a subject's labels hold as its stratum, where it has no other.

        Raises:
            DataError: as `read`.
        """
        held: dict[str, set[int]] = {}
        for case in self.cases:
            sample = self.read(case)
            if sample.label is not None and not case.stratum:
                values = sample.label.flatten().bincount().nonzero().flatten().tolist()
                held.setdefault(case.subject, set()).update(values)
            channels = sample.image.shape[0]
            if channels != self.channels:
                raise DataError(
                    f"case {case.id!r} has {channels} channels, {self.cases[0].id!r} has {self.channels}",
                    where=case.place,
                    fix="set channels in the preparation to 1 (grey) or 3 (colour), or mend the case",
                )
        names = {subject: "classes " + ",".join(map(str, sorted(found))) for subject, found in held.items()}
        cases = (
            case if case.stratum else dataclasses.replace(case, stratum=names.get(case.subject, ""))
            for case in self.cases
        )
        return dataclasses.replace(self, cases=tuple(cases))

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
            **({} if self.regions is None else {"regions": self.regions.to_dict()}),
        }
