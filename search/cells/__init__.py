"""What is spliced onto a skip: search cells, derived cells, and the adapter they are compared with."""

from .adapter import Adapter
from .architecture import Architecture
from .batched import BatchedSearchCell
from .derived import DerivedCell
from .reference import SearchCell
from .spec import CellSpec

__all__ = ["Adapter", "Architecture", "BatchedSearchCell", "CellSpec", "DerivedCell", "SearchCell"]
