"""Graphs that come back from a pickle: fx runs their code again, and notes what it calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class Reviver(fx.Tracer):
    """Notes operators too whose only unknowns are sizes in a list, `zeros([1, height, width, 1])`.

    fx itself notes a call where a tensor is unknown; such an operator would run, on sizes that are none.
    """

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Run code and return what it calls."""
        with _Noting(self):
            return super().trace(root, concrete_args)


class _Noting(TorchFunctionMode):
    def __init__(self, tracer: fx.Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operator that is called with anything unknown; run everything else."""
        del types
        kwargs = kwargs or {}
        unknown = any(isinstance(leaf, fx.Proxy) for leaf in pytree.tree_leaves((args, kwargs)))
        if unknown and isinstance(func, torch._ops.OpOverload):
            return self._tracer.create_proxy("call_function", func, args, kwargs)
        return func(*args, **kwargs)
