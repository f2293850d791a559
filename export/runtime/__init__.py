"""Run what was exported: sessions, bound buffers, large volumes, latency."""

from __future__ import annotations

from .latency import Latency, measure_latency
from .runner import Runner
from .sessions import open_session, run_session
from .volumes import predict_volume

__all__ = ["Latency", "Runner", "measure_latency", "open_session", "predict_volume", "run_session"]
