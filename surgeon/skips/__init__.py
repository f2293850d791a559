"""Which merges of a host are skips, of which kind, and why the others are not."""

from .anatomy import Anatomy, Kind, Layout, Merge, Refusal, Skip
from .inspecting import inspect, locate

__all__ = ["Anatomy", "Kind", "Layout", "Merge", "Refusal", "Skip", "inspect", "locate"]
