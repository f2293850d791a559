"""The closed choices of a preparation."""

from __future__ import annotations

from enum import StrEnum


class Scale(StrEnum):
    """How intensities are brought to the network's range, per image and channel."""

    UNIT = "unit"  # integers over the largest value of their type; floats as they are
    MINMAX = "minmax"  # the image's own smallest value becomes 0, its largest 1
    ZSCORE = "zscore"  # zero mean, unit deviation
    NONZERO = "nonzero"  # zero mean, unit deviation of what is not zero, and zeros stay (MONAI)
    NONE = "none"


class Resampling(StrEnum):
    """How voxels are brought to another spacing or size."""

    LINEAR = "linear"
    # Order 3, as nnU-Net: slice by slice where voxels are three times longer along one axis than another.
    CUBIC = "cubic"
    # Linear as MONAI: in its Spacing the centres of the first voxels lie on each other, so that the border
    # moves a little; its Resize does not smooth before it shrinks.
    ORIGIN = "origin"
    AREA = "area"  # the mean of what a new pixel covers, as MONAI's Resize by default


class Foreground(StrEnum):
    """Which values above zero an image is cut to, as MONAI's CropForeground."""

    RAW = "raw"  # those of the file
    SCALED = "scaled"  # those that the network would see


class Back(StrEnum):
    """What of a prediction is brought back to the grid of the file, by MONAI's resampling."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    LABELS = "labels"  # the nearest one
