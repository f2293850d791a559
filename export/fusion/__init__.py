"""Passes that make an ATen graph smaller without changing what it computes.

Every pass is a pure function `GraphModule -> (GraphModule, PassReport)`: the input stays as it was, a graph
without a place to rewrite comes back as it is, and a place that cannot be rewritten exactly is reported with
the reason. To add one, write it in a file of its own and put it into `PASSES`.
"""

from __future__ import annotations

from .attention import ATTENTION_OPSET, needs_attention
from .fusing import ALL_NORMS, LARGE_NORMS, PASSES, Fused, Pass, cpu_passes, fuse
from .norms import has_norms
from .operations import OPERATIONS
from .report import PassReport, Rejected
from .sizes import has_single, reads_sizes

__all__ = [
    "ALL_NORMS",
    "ATTENTION_OPSET",
    "LARGE_NORMS",
    "OPERATIONS",
    "PASSES",
    "Fused",
    "Pass",
    "PassReport",
    "Rejected",
    "cpu_passes",
    "fuse",
    "has_norms",
    "has_single",
    "needs_attention",
    "reads_sizes",
]
