"""Data folders as values: cases, splits by subject, and batches.

`open_data` gives a `Cohort`, `split_subjects` deals its subjects out, and `Batches` of
`cohort.select(splits.train)` are what a network trains on.
"""

from __future__ import annotations

from .batches import Batch, Batches
from .case import Case
from .cohort import Cohort
from .listed import declared_classes
from .opening import open_data
from .preparation import Preparation, Resampling, Scale, read_preparation
from .regions import LabelRegions
from .resampling import resample, resample_from_origin
from .samples import Sample
from .splits import Splits, split_subjects
from .window import Placing, Weighting, Window

__all__ = [
    "Batch",
    "Batches",
    "Case",
    "Cohort",
    "LabelRegions",
    "Placing",
    "Preparation",
    "Resampling",
    "Sample",
    "Scale",
    "Splits",
    "Weighting",
    "Window",
    "declared_classes",
    "open_data",
    "read_preparation",
    "resample",
    "resample_from_origin",
    "split_subjects",
]
