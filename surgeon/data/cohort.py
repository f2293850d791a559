"""Cases of a data folder, and what is read of each."""

from __future__ import annotations

import dataclasses
from collections import Counter
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
from .legend import IGNORED, Legend
from .preparation import Preparation
from .preparing import prepare_geometry
from .regions import LabelRegions
from .samples import Sample, SampleMemory, Source
from .shelf import SampleShelf

# Fewer folders with more images each than this may be kinds of images, and are asked about.
_FEW_FOLDERS = 8
_MANY_IMAGES = 30


@dataclass(frozen=True, slots=True)
class Cohort:
    """The cases of one data folder.

    Attributes:
        path: the folder.
        format: how it was laid out, such as `images and masks`.
        cases: sorted by id.
        legend: what the values of the labels mean.
        spatial_dims: number of spatial axes of a sample.
        channels: number of channels of a sample.
        preparation: how images become inputs.
        items: what cases without files are read from.
        splits: for each of train, validation and test its subjects, where the data declare two of them.
        memory: samples that were read before; None reads from disk each time.
        shelf: samples that were prepared before, on disk.
        held: the values that the labels hold, as samples have them; None before `check`.
    """

    path: Path
    format: str
    cases: tuple[Case, ...]
    legend: Legend
    spatial_dims: int
    channels: int
    preparation: Preparation
    items: Items | None = field(default=None, compare=False, repr=False)
    splits: dict[str, tuple[str, ...]] | None = None
    memory: SampleMemory | None = field(default=None, compare=False, repr=False)
    shelf: SampleShelf | None = field(default=None, compare=False, repr=False)
    held: frozenset[int] | None = field(default=None, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; the index is the value in a sample's label, 0 the background."""
        return self.legend.classes

    @property
    def regions(self) -> LabelRegions | None:
        """The label values of each foreground class, where classes overlap."""
        return self.legend.regions

    @property
    def ignore(self) -> int | None:
        """The value in the files of what nobody has labelled; samples hold `IGNORED` there."""
        return self.legend.ignore

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects, sorted."""
        return tuple(sorted({case.subject for case in self.cases}))

    @property
    def absent(self) -> tuple[str, ...]:
        """The foreground classes that no label holds; none before `check`."""
        if self.held is None:
            return ()
        places = range(1, len(self.classes))
        values = [(place,) for place in places] if self.regions is None else self.regions.values
        named = zip(self.classes[1:], values, strict=True)
        return tuple(name for name, value in named if self.held.isdisjoint(value))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is odd in the data, in words, though it can be used."""
        found: tuple[str, ...] = ()
        if self.absent:
            named = ", ".join(self.absent)
            found = (f"no label holds the class {named}: nothing can be learnt or said of it",)
        subjects = {case.subject for case in self.cases}
        if self._are_folders_few():
            found += (
                f"{len(self.cases)} images lie in {len(subjects)} folders, each of which counts as one"
                " subject; if they are kinds of images and no patients, --subjects '(.+)' takes every image"
                " as one",
            )
        return found

    def _are_folders_few(self) -> bool:
        """Whether what is taken for subjects may be kinds: a few folders of pictures, many in each."""
        counts = Counter(case.subject for case in self.cases if case.images and case.slice is None)
        names = {case.images[0].parent.name for case in self.cases if case.images}
        are_folders = names.issuperset(counts)
        return are_folders and 0 < len(counts) < _FEW_FOLDERS and min(counts.values()) >= _MANY_IMAGES

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
        sample = self._fetch(case)
        if self.memory is not None:
            self.memory.keep(sample)
        return sample

    def _fetch(self, case: Case) -> Sample:
        if self.shelf is None or case.item is not None:
            return self._read(case)
        sample = self.shelf.get(case)
        if sample is None:
            sample = self._read(case)
            self.shelf.keep(case, sample)
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
            return self.items.decode(case.item, self.preparation, self.legend)
        decode = decode_case if case.slice is None else decode_volume_once
        return decode(case.images, case.labels, self.preparation, self.legend)

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
        seen = prepare_geometry(decoded.image, decoded.label, how, decoded.spacing, decoded.limits)
        return Sample(
            seen.image.contiguous(),
            seen.label,
            case.id,
            case.subject,
            seen.spacing,
            seen.region,
            between,
            source,
            seen.frame,
        )

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
            if sample.label is not None:
                values = sample.label.flatten().bincount().nonzero().flatten().tolist()
                held.setdefault(case.subject, set()).update(set(values) - {IGNORED})
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
        return dataclasses.replace(self, cases=tuple(cases), held=frozenset().union(*held.values()))

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
            **({} if self.ignore is None else {"ignore": self.ignore}),
        }
