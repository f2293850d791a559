"""What a network writes into slices of a fresh tensor is seen on its way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from surgeon.skips import locate
from surgeon.tracing import trace
from tests.core.networks import conv


class Wavelets(nn.Module):
    """A U of Haar wavelets, put together by writes into every second row and column, as MWCNN's is."""

    def __init__(self, fresh: str) -> None:
        super().__init__()
        self.first, self.bottom, self.last = conv(1, 4), conv(16, 16), conv(4, 2)
        self.fresh = fresh

    def forward(self, x: Tensor) -> Tensor:
        high = self.first(x).relu()
        parts = [high[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        low = self.bottom(torch.cat(parts, 1)).relu()
        up = self.made(low)
        for place, part in enumerate(low.chunk(4, 1)):
            up[:, :, place // 2 :: 2, place % 2 :: 2] = part
        return self.last(up + high)

    def made(self, low: Tensor) -> Tensor:
        sizes = (low.shape[0], 4, 2 * low.shape[2], 2 * low.shape[3])
        if self.fresh == "plain":
            return torch.zeros(sizes)
        if self.fresh == "moved":
            return torch.zeros(sizes).float().to(low.device)
        return torch.zeros(sizes, dtype=torch.float64).float()


@pytest.mark.parametrize("fresh", ["plain", "moved", "cast"])
def test_a_level_that_is_put_together_by_writes_is_a_way_up(fresh: str) -> None:
    host, x = Wavelets(fresh).eval(), torch.rand(2, 1, 10, 14)
    traced = trace(host, torch.rand(1, 1, 12, 16))
    assert traced.graph_module(x).equal(host(x))
    assert [skip.merge.value for skip in locate(traced).skips] == ["add"]


class Sharing(nn.Module):
    """Reads by another name what it writes into."""

    def forward(self, x: Tensor) -> Tensor:
        base = torch.zeros(x.shape[0], 1, x.shape[2], x.shape[3])
        same = base.float()
        same[:, :, ::2] = x[:, :, ::2]
        return base + x


def test_a_tensor_of_two_names_is_left_alone() -> None:
    host, x = Sharing().eval(), torch.rand(2, 1, 7, 9)
    assert trace(host, torch.rand(1, 1, 8, 12)).graph_module(x).equal(host(x))
