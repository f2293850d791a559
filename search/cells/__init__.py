"""What is spliced onto a skip: search cells, derived cells, and the plain things they are compared with."""

from .adapter import Adapter, Affine, Gate
from .architecture import Architecture
from .batched import BatchedSearchCell
from .derived import DerivedCell
from .reference import SearchCell
from .spec import CellSpec

__all__ = [
    "Adapter",
    "Affine",
    "Architecture",
    "BatchedSearchCell",
    "CellSpec",
    "DerivedCell",
    "Gate",
    "SearchCell",
]
