"""What torch.export is spared: tensors of a class of their own, what is kept by size."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from surgeon.tracing import trace


class Remarked(Tensor):
    """A tensor that carries remarks, as fastai's do."""


class Remarking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x).as_subclass(Remarked)
        if len(x.shape) != 4:  # a question that symbolic tracing cannot answer
            raise ValueError
        return made.relu()


def test_a_host_that_gives_a_subclass_of_tensors_is_traced_with_free_sizes() -> None:
    host, x = Remarking().eval(), torch.rand(2, 1, 7, 9)
    traced = trace(host, torch.rand(1, 1, 8, 12))
    assert traced.summary.free_sizes
    assert traced.graph_module(x).equal(host(x))
    assert isinstance(host(x), Remarked)


def test_what_a_library_has_put_before_torchs_own_is_there_again() -> None:
    def mine(tensor: Tensor, kind: type) -> Tensor:
        return torch._C.TensorBase.as_subclass(tensor, kind)

    Tensor.as_subclass = mine  # type: ignore[method-assign, assignment]
    try:
        trace(Remarking().eval(), torch.rand(1, 1, 8, 12))
        assert Tensor.as_subclass is mine
    finally:
        del Tensor.as_subclass


@functools.lru_cache
def _border(height: int, width: int) -> Tensor:
    """Make a mask of the first two rows."""
    mask = torch.zeros(1, 1, height, width)
    mask[:, :, :2] = 1
    return mask


class Remembering(nn.Module):
    """Keeps a mask for each size it has seen, one in a dictionary and one in a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.kept: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        size = tuple(x.shape[2:])
        if size not in self.kept:
            self.kept[size] = torch.linspace(0, 1, x.shape[2])[:, None].expand(size)
        return x * self.kept[size] + _border(x.shape[2], x.shape[3])


def test_what_is_kept_by_size_leaves_sizes_free() -> None:
    host, x = Remembering().eval(), torch.rand(2, 1, 7, 9)
    host(torch.rand(1, 1, 8, 12))
    traced = trace(host, torch.rand(1, 1, 8, 12))
    assert traced.summary.free_sizes
    assert traced.graph_module(x).equal(host(x))
    again = trace(host, torch.rand(1, 1, 8, 12))
    assert again.summary.free_sizes
    with pytest.raises(TypeError, match="hash"):
        hash(torch.fx.experimental.symbolic_shapes.ShapeEnv().create_unbacked_symint())
