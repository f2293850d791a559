"""Data folders as values: cases, splits by subject, and batches.

`open_data` gives a `Cohort`, `split_subjects` deals its subjects out, and `Batches` of
`cohort.select(splits.train)` are what a network trains on.
"""

from __future__ import annotations

from .batches import Batch, Batches
from .cohort import Case, Cohort, Sample
from .opening import open_data
from .preparation import Preparation, Scale, read_preparation
from .splits import Splits, split_subjects

__all__ = [
    "Batch",
    "Batches",
    "Case",
    "Cohort",
    "Preparation",
    "Sample",
    "Scale",
    "Splits",
    "open_data",
    "read_preparation",
    "split_subjects",
]
