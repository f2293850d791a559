import pytest
import torch
from surgeon.export.fusion.averages import average_planes
from torch import nn

from .graphs import assert_exact, graph_of, operations
from .test_attention import Windows


class Beside(nn.Module):
    """A pool of volumes, and attention of its own."""

    def __init__(self, pool, attention=True):
        super().__init__()
        self.pool, self.windows = pool, Windows(3, 1, masked=False) if attention else None

    def forward(self, x):
        pooled = self.pool(x)
        if self.windows is None:
            return pooled
        bias = self.windows.bias[None]
        rows = bias[..., :8]
        return pooled, nn.functional.scaled_dot_product_attention(rows, rows, rows, bias)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool3d(3, stride=1, padding=1, count_include_pad=False),
        nn.AvgPool3d(3, stride=2, padding=1),
        nn.AvgPool3d((1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)),
        nn.AvgPool3d(2),
    ],
)
def test_an_average_of_boxes_is_one_of_planes_and_one_of_depth(pool):
    before, x = graph_of(Beside(pool), 2, 3, 5, 6, 7)
    after, report = average_planes(before)
    assert report.changed == 1
    assert "avg_pool3d" not in operations(after)
    assert operations(after).count("avg_pool2d") == 2
    assert_exact(before, after, x, sizes=(0, 3))
    again, report = average_planes(after)
    assert again is after


@pytest.mark.parametrize("divisor", [None, 5])
def test_pools_that_are_no_product_of_averages_stay_with_a_reason(divisor):
    pool = nn.AvgPool3d(3, 2, ceil_mode=True, divisor_override=divisor)
    before, _ = graph_of(Beside(pool), 1, 3, 5, 7, 7)
    same, report = average_planes(before)
    assert same is before
    assert len(report.rejected) == 1


def test_volumes_without_attention_keep_their_pools():
    before, _ = graph_of(Beside(nn.AvgPool3d(3, 1, 1), attention=False), 1, 3, 8, 6, 7)
    same, report = average_planes(before)
    assert same is before
    assert report.rejected == ()
    assert torch.equal(same(torch.ones(1, 3, 8, 6, 7).double()), before(torch.ones(1, 3, 8, 6, 7).double()))
