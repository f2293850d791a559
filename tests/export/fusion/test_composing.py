import pytest
import torch
from surgeon.export import fuse
from surgeon.export.fusion.composing import compose_convolutions
from torch import nn

from .graphs import assert_exact, graph_of, operations

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Exit(nn.Module):
    """A state, a cell's way out beside the skip, and a decoder that reads both with another tensor."""

    def __init__(self, rank=2, kernel=1, wide=8, made=1, bias=True, stride=1):
        super().__init__()
        convolution = CONVOLUTIONS[rank]
        self.state = convolution(4, 4, 1)
        self.out = convolution(4, wide, 1, bias=bias)
        self.decoder = convolution(wide + 4, made, kernel, padding=kernel // 2, stride=stride)
        self.skip = convolution(4, wide, 1)

    def forward(self, x):
        state = self.state(x).relu()
        skip = self.skip(x).relu() + self.out(state)
        return self.decoder(torch.cat([x, skip], 1))


class States(nn.Module):
    """Two states, one of a single convolution, read by a way out alone."""

    def __init__(self, rank):
        super().__init__()
        convolution = CONVOLUTIONS[rank]
        self.first, self.second, self.out = convolution(4, 4, 1), convolution(4, 4, 3), convolution(8, 16, 1)

    def forward(self, x):
        inner = x[(..., *[slice(1, -1)] * (x.ndim - 2))]
        return self.out(torch.cat([self.first(inner.relu()), self.second(x)], 1))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_last_convolution_of_a_state_goes_into_the_way_out(rank):
    before, x = graph_of(States(rank), 2, 4, *[6] * rank)
    after, report = compose_convolutions(before)
    assert report.changed == 1
    assert operations(after).count(f"conv{rank}d") == 2
    assert_exact(before, after, x)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_way_out_beside_a_skip_goes_into_the_decoder_where_that_takes_fewer_products(rank, bias):
    before, x = graph_of(Exit(rank, bias=bias), 2, 4, *[6] * rank)
    after, report = compose_convolutions(before)
    assert report.changed == 1
    assert "add" not in operations(after)
    assert_exact(before, after, x)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_padded_kernel_is_composed_too_with_the_bias_as_a_channel_of_ones(rank, bias):
    before, x = graph_of(Exit(rank, kernel=3, wide=40, bias=bias), 2, 4, *[6] * rank)
    after, report = compose_convolutions(before)
    assert report.changed == 1
    assert ("ones_like" in operations(after)) == bias
    assert_exact(before, after, x)
    assert compose_convolutions(after)[0] is after


class Replaced(nn.Module):
    """A cell whose way out takes the skip's place, before the decoder's first convolution."""

    def __init__(self, states, stride=1):
        super().__init__()
        self.state = nn.Conv2d(4, 4 * states, 3, padding=1)
        self.out = nn.Conv2d(4 * states, 16, 1)
        self.decoder = nn.Conv2d(20, 8, 3, padding=1, stride=stride)

    def forward(self, x):
        return self.decoder(torch.cat([x, self.out(self.state(x).relu())], 1))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_way_out_without_a_skip_beside_it_goes_into_the_decoder(stride):
    before, x = graph_of(Replaced(2, stride), 2, 4, 6, 6)
    fused = fuse(before, (x,))
    assert "ones_like" in operations(fused.graph_module)
    report = next(report for report in fused.passes if report.name == "compose_convolutions")
    assert report.changed == 1
    assert report.flops_after < report.flops_before
    assert_exact(before, fused.graph_module, x)
    assert fuse(fused.graph_module, (x,)).graph_module is fused.graph_module


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Replaced(6), "one convolution would take 1.17 times the products of the two"),
        (Exit(wide=8, made=16), "one convolution would take 1.20 times the products of the two"),
        (Exit(wide=8, made=1, stride=1, kernel=3, bias=False), "times the products"),
    ],
)
def test_what_takes_more_comes_back_unchanged_with_the_reason(network, reason):
    before, _ = graph_of(network, 2, 4, 6, 6)
    same, report = compose_convolutions(before)
    assert same is before
    assert reason in report.rejected[0].reason


def test_a_convolution_that_others_read_stays():
    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            inner = self.first(x)
            return self.second(inner), inner

    before, _ = graph_of(Read(), 2, 2, 4, 4)
    assert compose_convolutions(before)[0] is before


def test_composing_twice_is_composing_once():
    before, _ = graph_of(States(2), 2, 4, 6, 6)
    after, _ = compose_convolutions(before)
    assert compose_convolutions(after)[0] is after
