"""Pools over all positions, written with the sizes of what they pool, leave these sizes free."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgeon.tracing import trace
from tests.core.networks import conv, image

Pool = Callable[[Tensor], Tensor]


class Weighing(nn.Module):
    """Weighs its channels by a pool, and asks what symbolic tracing cannot answer."""

    def __init__(self, pool: Pool, dims: int = 2) -> None:
        super().__init__()
        self.first, self.last, self.pool = conv(1, 4, dims), conv(4, 2, dims), pool

    def forward(self, x: Tensor) -> Tensor:
        high = self.first(x).relu()
        for _ in range(len(x.shape)):
            high = high * self.pool(high).sigmoid()
        return self.last(high)


POOLS: dict[str, Pool] = {
    "sizes": lambda x: F.avg_pool2d(x, x.shape[2:]),
    "by name": lambda x: F.avg_pool2d(x, kernel_size=(x.size(2), x.size(3)), stride=(x.size(2), x.size(3))),
    "module": lambda x: nn.AvgPool2d(x.size()[2:])(x),
    "max": lambda x: F.max_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3))),
    "max module": lambda x: nn.MaxPool2d((x.shape[2], x.shape[3]))(x),
    "rows": lambda x: F.avg_pool2d(x, (1, x.size(3))) + F.max_pool2d(x, (x.size(2), 1), stride=1),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_a_pool_over_everything_holds_for_all_sizes_to_the_bit(pool: Pool) -> None:
    host = Weighing(pool).eval()
    traced = trace(host, torch.randn(1, 1, 12, 16))
    assert traced.summary.free_sizes
    assert traced.summary.graph_stride == 1
    x = torch.randn(2, 1, 7, 33)
    assert torch.equal(traced.graph_module(x), host(x))


@pytest.mark.parametrize(("dims", "pool"), [(1, F.avg_pool1d), (1, F.max_pool1d), (3, F.avg_pool3d)])
def test_in_one_and_three_dimensions_too(dims: int, pool: Callable[..., Tensor]) -> None:
    host = Weighing(lambda x: pool(x, tuple(x.shape[2:])), dims).eval()
    traced = trace(host, image(dims))
    x = image(dims, size=9)
    assert traced.summary.free_sizes
    assert torch.equal(traced.graph_module(x), host(x))


OTHERS: dict[str, Pool] = {
    "without a batch": lambda x: F.avg_pool2d(x[0], (x.size(2), x.size(3))),
    "padded": lambda x: F.avg_pool2d(x, (x.size(2), x.size(3)), padding=1)[..., :1, :1],
    "half": lambda x: F.avg_pool2d(x, (x.size(2) // 2, x.size(3)), stride=x.size(2) // 2)[..., :1, :],
    "weighed": lambda x: F.avg_pool2d(x, (x.size(2), x.size(3)), divisor_override=3),
}


@pytest.mark.parametrize("pool", OTHERS.values(), ids=OTHERS)
def test_other_windows_are_left_as_they_are(pool: Pool) -> None:
    torch.manual_seed(0)  # with some weights the gate is 1 at every size, and no difference shows
    host, x = Weighing(pool).eval(), torch.randn(1, 1, 12, 16)
    traced = trace(host, x)
    assert not traced.summary.free_sizes
    assert torch.equal(traced.graph_module(x), host(x))
