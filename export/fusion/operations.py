"""The operations that passes put into graphs beside those of torch."""

from __future__ import annotations

from .planewise import PAIRS, TAPS
from .slicewise import SLICES

OPERATIONS = (TAPS, PAIRS, SLICES)
