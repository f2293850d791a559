"""Search cells for the skips of a trained network, train them there, and say whether they helped.

As in `surgeon` itself, each name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cells import Adapter, Architecture, BatchedSearchCell, CellSpec, DerivedCell, SearchCell
    from .config import Config
    from .estimates import CellCost, estimate_cells
    from .genotype import CellGenotype, CellMerge, Edge, Genotype, Inputs, Scope
    from .implanting import ImplantResult, implant
    from .implants import load_implant
    from .operations import OPERATIONS, with_operations
    from .training.loop import Progress

_HOMES = {
    "Adapter": "cells",
    "Architecture": "cells",
    "BatchedSearchCell": "cells",
    "CellSpec": "cells",
    "DerivedCell": "cells",
    "SearchCell": "cells",
    "CellCost": "estimates",
    "Config": "config",
    "estimate_cells": "estimates",
    "CellGenotype": "genotype",
    "CellMerge": "genotype",
    "Edge": "genotype",
    "Genotype": "genotype",
    "Inputs": "genotype",
    "Scope": "genotype",
    "ImplantResult": "implanting",
    "implant": "implanting",
    "load_implant": "implants",
    "Progress": "training.loop",
    "OPERATIONS": "operations",
    "with_operations": "operations",
}

__all__ = [
    "OPERATIONS",
    "Adapter",
    "Architecture",
    "BatchedSearchCell",
    "CellCost",
    "CellGenotype",
    "CellMerge",
    "CellSpec",
    "Config",
    "DerivedCell",
    "Edge",
    "Genotype",
    "ImplantResult",
    "Inputs",
    "Progress",
    "Scope",
    "SearchCell",
    "estimate_cells",
    "implant",
    "load_implant",
    "with_operations",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
