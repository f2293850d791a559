"""Data folders as values: cases, splits by subject, and batches.

`open_data` gives a `Cohort`, `split_subjects` deals its subjects out, and `Batches` of
`cohort.select(splits.train)` are what a network trains on.
"""

from __future__ import annotations

from .batches import Batch, Batches, digest_of
from .case import Case
from .choices import Back, Foreground, Resampling, Scale
from .cohort import Cohort
from .legend import IGNORED, Legend
from .listed import declared_legend
from .loading import Loader
from .opening import open_data
from .preparation import Preparation, read_preparation
from .regions import LabelRegions
from .resampling import resample, resample_from_origin, resize_plainly
from .samples import Sample
from .splits import Splits, split_subjects
from .window import Padding, Placing, Weighting, Window

__all__ = [
    "IGNORED",
    "Back",
    "Batch",
    "Batches",
    "Case",
    "Cohort",
    "Foreground",
    "LabelRegions",
    "Legend",
    "Loader",
    "Padding",
    "Placing",
    "Preparation",
    "Resampling",
    "Sample",
    "Scale",
    "Splits",
    "Weighting",
    "Window",
    "declared_legend",
    "digest_of",
    "open_data",
    "read_preparation",
    "resample",
    "resample_from_origin",
    "resize_plainly",
    "split_subjects",
]
