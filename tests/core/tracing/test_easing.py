"""Hosts that work with tensors of a class of their own."""

from __future__ import annotations

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
