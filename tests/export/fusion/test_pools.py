import pytest
from surgeon.export import Freedom
from surgeon.export.fusion.pools import fold_batchnorm_through_pool
from torch import nn

from tests.export.networks import CONVOLUTIONS, NORMS

from .graphs import assert_exact, graph_of, operations

AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_batchnorm_after_an_average_goes_into_the_convolution_before(rank):
    pool = AVERAGES[rank - 1](3, stride=1, padding=1, count_include_pad=False)
    network = nn.Sequential(CONVOLUTIONS[rank - 1](2, 3, 3, padding=1), pool, NORMS[rank - 1](3))
    before, x = graph_of(network, 2, 2, *[6] * rank)
    after, report = fold_batchnorm_through_pool(before)
    assert report.changed == 1
    assert len(operations(after)) == 2
    assert_exact(before, after, x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_batchnorm_with_positive_scales_passes_a_maximum(rank):
    norm = NORMS[rank - 1](3, affine=False)
    network = nn.Sequential(CONVOLUTIONS[rank - 1](2, 3, 1), MAXIMA[rank - 1](3, stride=1, padding=1), norm)
    # torch.export fixes the size of a one-dimensional maximum.
    free = Freedom.BATCH if rank == 1 else Freedom.BATCH_AND_SIZES
    before, x = graph_of(network, 2, 2, *[6] * rank, freedom=free)
    after, report = fold_batchnorm_through_pool(before)
    assert report.changed == 1
    assert_exact(before, after, x, sizes=(0, 3) if free.sizes else (0,))


def test_a_negative_scale_does_not_pass_a_maximum():
    network = nn.Sequential(nn.Conv2d(2, 8, 1), nn.MaxPool2d(2), nn.BatchNorm2d(8))
    before, _ = graph_of(network, 2, 2, 8, 8)
    after, report = fold_batchnorm_through_pool(before)
    assert after is before
    assert "a scale is not positive" in report.rejected[0].reason


def test_an_average_that_counts_its_padding_is_left_with_the_reason():
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.AvgPool2d(3, stride=1, padding=1), nn.BatchNorm2d(2))
    before, _ = graph_of(network, 2, 2, 8, 8)
    after, report = fold_batchnorm_through_pool(before)
    assert after is before
    assert "counts its padding" in report.rejected[0].reason


def test_a_pool_of_something_else_is_left_with_the_reason():
    network = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), nn.BatchNorm2d(2))
    before, _ = graph_of(network, 2, 2, 8, 8)
    after, report = fold_batchnorm_through_pool(before)
    assert after is before
    assert "is not a convolution" in report.rejected[0].reason


def test_a_pool_with_two_readers_is_left_with_the_reason():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.pool, self.norm = nn.Conv2d(2, 2, 1), nn.AvgPool2d(2), nn.BatchNorm2d(2)

        def forward(self, x):
            y = self.pool(self.convolution(x))
            return self.norm(y) + y

    before, _ = graph_of(Shared(), 2, 2, 8, 8)
    after, report = fold_batchnorm_through_pool(before)
    assert after is before
    assert "is read by 2 nodes" in report.rejected[0].reason
