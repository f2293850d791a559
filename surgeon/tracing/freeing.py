"""Functions of torch that take a size for a constant, written otherwise while a host is traced.

torch.export asks `torch.linspace` how many steps there are, and a pool how large its window is, and takes the
answer for that of every image. Networks make their coordinates by the one (CoordConv), and pool all
positions by the other: `F.avg_pool2d(x, x.shape[2:])`, as squeeze-and-excitation and CBAM are often written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .pooling import WholePool


class FreeForms(TorchFunctionMode):
    """Writes such functions as the operations that they stand for, where a size is free.

    Args:
        marked: pools leave a mark in the graph, of which `restore_pools` makes pools that equal the host's to
            the bit; else they become a mean and a maximum.
    """

    def __init__(self, *, marked: bool) -> None:
        super().__init__()
        self._marked = marked

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function of torch; part of torch's protocol."""
        given = dict(kwargs or {})
        if func is torch.linspace:
            bound = _SIGNATURE.bind(*args, **given)
            if isinstance(bound.arguments["steps"], torch.SymInt):
                return linspace(*bound.args, **bound.kwargs)
        pool = WholePool.read(func, args, given)
        if pool is not None:
            return pool.marked() if self._marked else pool.reduced()
        return func(*args, **given)


def linspace(
    start: Any, end: Any, steps: Any, dtype: torch.dtype | None = None, device: Any = None, **_: Any
) -> Tensor:
    """Return evenly spaced values from start to end, each reckoned from the end that it is nearer to.

    Args:
        start: the first.
        end: the last.
        steps: how many; a free size too.
        dtype: of the values; None for torch's default.
        device: where they lie.
    """
    dtype = dtype or torch.get_default_dtype()
    places = torch.arange(steps, dtype=dtype, device=device)
    gap = (end - start) / torch.sym_max(steps - 1, 1)
    half = torch.sym_max(steps // 2, 1)  # a single value is the first
    return torch.where(places < half, start + gap * places, end - gap * (steps - 1 - places))


_SIGNATURE = inspect.signature(linspace)
