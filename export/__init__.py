"""Knows ONNX: fuses an ATen graph, writes it, proves it against the original network and runs it."""

from __future__ import annotations

from .flattening import Flat, Freedom, flatten
from .fusion import PASSES, Fused, PassReport, fuse

__all__ = ["PASSES", "Flat", "Freedom", "Fused", "PassReport", "flatten", "fuse"]
