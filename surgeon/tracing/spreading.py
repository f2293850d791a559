"""`torch.linspace` over a free size, as networks make their coordinates: it stays free while it is traced.

torch.export asks how many steps that are, and takes the answer for the size of every image.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FreeSpacing(TorchFunctionMode):
    """Writes `linspace` over a free number of steps as the operations that it stands for."""

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
