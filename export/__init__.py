"""Knows ONNX: fuses an ATen graph, writes it, proves it against the original network and runs it."""

from __future__ import annotations

from .artifact import Artifact
from .exporting import to_onnx
from .flattening import Flat, Freedom, flatten
from .fusion import PASSES, Fused, PassReport, fuse
from .runtime import Runner, open_session, predict_volume, run_session
from .targets import TARGETS, Precision, Target

__all__ = [
    "PASSES",
    "TARGETS",
    "Artifact",
    "Flat",
    "Freedom",
    "Fused",
    "PassReport",
    "Precision",
    "Runner",
    "Target",
    "flatten",
    "fuse",
    "open_session",
    "predict_volume",
    "run_session",
    "to_onnx",
]
