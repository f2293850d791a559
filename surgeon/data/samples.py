"""Cases as a network sees them, and the memory they are kept in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from .intensities import Region
from .preparing import Frame


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
        frame: what the image was cut out of once it was resampled; None where it was not cut then.
    """

    image: Tensor
    label: Tensor | None
    case_id: str
    subject: str
    spacing: tuple[float, ...]
    region: Region
    between: float | None = None
    source: Source | None = None
    frame: Frame | None = None


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
