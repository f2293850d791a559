"""Data folders as values: cases, splits by subject, and batches.

cohort = open_data("data/nuclei", binarise=True)
splits = split_subjects(cohort, seed=0)
batches = Batches(cohort.select(splits.train), crop=(128, 128), batch_size=4, seed=0)
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
