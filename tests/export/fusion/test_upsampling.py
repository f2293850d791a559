import pytest
import torch
from surgeon.export import Freedom
from surgeon.export.fusion.upsampling import merge_upsampling
from torch import nn
from torch.nn import functional as F

from .graphs import assert_exact, graph_of, operations

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Doubled(nn.Module):
    """Doubles its input and convolves it, beside the input of a skip where it is to have one."""

    def __init__(self, rank=2, kernel=3, skip=False, scale=2.0, **options):
        super().__init__()
        self.scale, self.skip = scale, skip
        self.before = CONVOLUTIONS[rank](2, 3, 1)
        width = 3 + 2 * skip
        options = {"padding": kernel // 2, **options}
        self.convolution = CONVOLUTIONS[rank](width, 32, kernel, **options)

    def forward(self, x):
        small = self.before(x[(..., *[slice(None, None, 2)] * (x.ndim - 2))])
        large = F.interpolate(small, scale_factor=self.scale, mode="nearest")
        return self.convolution(torch.cat([large, x], 1) if self.skip else large)


class ToSize(Doubled):
    def forward(self, x):
        small = self.before(F.max_pool2d(x, 2, ceil_mode=True))
        large = F.interpolate(small, size=x.shape[2:], mode="nearest")
        return self.convolution(torch.cat([large, x], 1) if self.skip else large)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_a_doubled_image_is_a_transposed_one_borders_included(rank, kernel, bias):
    before, x = graph_of(Doubled(rank, kernel, bias=bias), 2, 2, *[6] * rank)
    after, report = merge_upsampling(before)
    assert report.changed == 1
    assert operations(after)[-1] == f"conv_transpose{rank}d"
    assert_exact(before, after, x)


@pytest.mark.parametrize("bias", [True, False])
def test_a_doubled_part_leaves_the_concatenation(bias):
    before, x = graph_of(Doubled(skip=True, bias=bias), 2, 2, 6, 6)
    after, _ = merge_upsampling(before)
    assert operations(after)[-3:] == ["conv2d", "conv_transpose2d", "add"]
    assert_exact(before, after, x, sizes=(0, 2))


def test_doubling_to_another_size_is_merged_where_the_network_takes_no_odd_size():
    before, x = graph_of(ToSize(skip=True), 2, 2, 6, 6)
    same, report = merge_upsampling(before)
    assert same is before
    assert "does not always double" in report.rejected[0].reason
    after, report = merge_upsampling(before, step=2)
    assert report.changed == 1
    assert_exact(before, after, x, sizes=(0, 4))
    with pytest.raises(RuntimeError, match="size of tensor"):
        after(torch.randn(2, 2, 7, 7, dtype=x.dtype))


def test_doubling_to_another_size_stays_where_no_sum_would_notice_an_odd_one():
    before, _ = graph_of(ToSize(), 2, 2, 6, 6)
    same, report = merge_upsampling(before, step=2)
    assert same is before
    assert "does not always double" in report.rejected[0].reason


def test_merging_twice_is_merging_once_and_the_input_stays():
    before, _ = graph_of(Doubled(), 2, 2, 6, 6)
    kept = operations(before)
    after, _ = merge_upsampling(before)
    assert merge_upsampling(after)[0] is after
    assert operations(before) == kept


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Doubled(stride=2), "strided"),
        (Doubled(padding=0), "another size than it reads"),
        (Doubled(kernel=1), "one tap"),
        (Doubled(scale=3.0), "does not always double"),
    ],
)
def test_what_is_no_doubling_comes_back_unchanged_with_the_reason(network, reason):
    before, _ = graph_of(network, 2, 2, 6, 6, freedom=Freedom.BATCH)
    same, report = merge_upsampling(before)
    assert same is before
    assert reason in report.rejected[0].reason


def test_few_channels_are_left_alone():
    network = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 8, 3, padding=1))
    before, _ = graph_of(network, 2, 2, 6, 6)
    same, report = merge_upsampling(before)
    assert same is before
    assert "fewer than 32 channels" in report.rejected[0].reason
