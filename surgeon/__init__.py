"""Upgrade a trained segmentation network: inspect, implant, export.

Importing this package imports nothing heavy: each name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgeon import export, search
    from surgeon.hosts import load
    from surgeon.skips import Anatomy, Kind, Merge, Skip, inspect
    from surgeon.splicing import splice
    from surgeon.tracing import Trace, trace

__version__ = "0.1.0"

__all__ = [
    "Anatomy",
    "Kind",
    "Merge",
    "Skip",
    "Trace",
    "__version__",
    "export",
    "inspect",
    "load",
    "search",
    "splice",
    "trace",
]

_HOMES = {
    "load": "surgeon.hosts",
    "Anatomy": "surgeon.skips",
    "Kind": "surgeon.skips",
    "Merge": "surgeon.skips",
    "Skip": "surgeon.skips",
    "inspect": "surgeon.skips",
    "splice": "surgeon.splicing",
    "Trace": "surgeon.tracing",
    "trace": "surgeon.tracing",
}


def __getattr__(name: str) -> Any:
    if name in ("search", "export"):
        return importlib.import_module(f"surgeon.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'surgeon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
