"""Functions of torch that take a size for a constant, written otherwise while a host is traced.

torch.export asks `torch.linspace` how many steps there are, and a pool how large its window is, and takes the
answer for that of every image. Networks make their coordinates by the one (CoordConv), and pool all
positions by the other: `F.avg_pool2d(x, x.shape[2:])`, as squeeze-and-excitation and CBAM are often written.
The same goes for sizes put into a tensor, for classes as many as there are positions, for frequencies, and
for the grids of spatial transformers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

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
        elif func in _FORMS and _has_free_size((args, given)):
            return _FORMS[func](*args, **given)
        elif func is torch.functional.meshgrid and given.get("indexing") is None:
            given["indexing"] = "ij"  # torch takes that for it, but not where it traces a graph again
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


def one_hot(classes: Tensor, num_classes: Any = -1) -> Tensor:
    """Return 1 where a class is the one of that place, 0 elsewhere, int64 `(..., num_classes)`."""
    places = torch.arange(num_classes, device=classes.device)
    return (classes.unsqueeze(-1) == places).long()


def fftfreq(n: Any, d: float = 1.0, **how: Any) -> Tensor:
    """Return the frequencies of a Fourier transform of `n` values at distances of `d`."""
    places = torch.arange(n, dtype=how.get("dtype") or torch.get_default_dtype(), device=how.get("device"))
    found: Tensor = torch.where(places < (n + 1) // 2, places, places - n) / (n * d)
    return found


def rfftfreq(n: Any, d: float = 1.0, **how: Any) -> Tensor:
    """Return those of a transform of `n` real values, the frequencies from zero on."""
    dtype = how.get("dtype") or torch.get_default_dtype()
    found: Tensor = torch.arange(n // 2 + 1, dtype=dtype, device=how.get("device")) / (n * d)
    return found


def affine_grid(theta: Tensor, size: Sequence[Any], align_corners: bool | None = None) -> Tensor:
    """Return where each position of an image comes from, as `torch.nn.functional.affine_grid` does.

    Args:
        theta: `(N, D, D + 1)`.
        size: of the image, `(N, C, *spatial)`.
        align_corners: whether -1 and 1 are the middles of the outermost positions, or their borders.

    Returns:
        `(N, *spatial, D)`.
    """
    axes = []
    for count in size[2:]:
        place = torch.arange(count, dtype=theta.dtype, device=theta.device)
        gaps = torch.sym_max(count - 1, 1)  # a single position is the middle
        borders = 2 * place / gaps - torch.sym_min(count - 1, 1)
        axes.append(borders if align_corners else (2 * place + 1) / count - 1)
    places = torch.meshgrid(*axes, indexing="ij")
    base = torch.stack([*reversed(places), torch.ones_like(places[0])], -1)
    rank = len(axes)
    grid = base.reshape(-1, rank + 1) @ theta.transpose(1, 2)
    return grid.reshape(theta.shape[0], *size[2:], rank)


def _tensor(data: Any, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    """Put numbers and sizes into a tensor, by what torch.export takes for `torch.tensor` itself."""
    made: Tensor = torch._refs.tensor(data, dtype=dtype, device=device)  # type: ignore[no-untyped-call]
    return made


def _new_tensor(like: Tensor, data: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    return _tensor(data, dtype or like.dtype, device or like.device)


def _has_free_size(arguments: Any) -> bool:
    return any(isinstance(leaf, torch.SymInt | torch.SymFloat) for leaf in pytree.tree_leaves(arguments))


_FORMS: dict[Any, Callable[..., Tensor]] = {
    Tensor.new_tensor: _new_tensor,
    torch.as_tensor: _tensor,
    torch.fft.fftfreq: fftfreq,
    torch.fft.rfftfreq: rfftfreq,
    torch.nn.functional.affine_grid: affine_grid,
    torch.nn.functional.one_hot: one_hot,
}
