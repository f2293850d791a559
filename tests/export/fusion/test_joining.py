import pytest
import torch
from surgeon.export.fusion.joining import join_parallel_convolutions, merge_repeated_parts
from torch import nn

from .graphs import assert_exact, graph_of, operations

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Repeated(nn.Module):
    def __init__(self, rank=2, transposed=False, groups=1):
        super().__init__()
        self.first = CONVOLUTIONS[rank](2, 2, 1)
        self.last = nn.ConvTranspose2d(6, 4, 3) if transposed else CONVOLUTIONS[rank](6, 4, 3, groups=groups)

    def forward(self, x):
        state = self.first(x).relu()
        return self.last(torch.cat([state, x, state], 1))


class Parallel(nn.Module):
    def __init__(self, rank=2, biases=(True, False), paddings=(1, 1), other=False):
        super().__init__()
        pairs = zip(biases, paddings, strict=True)
        self.parts = nn.ModuleList(
            CONVOLUTIONS[rank](2, 3, 3, padding=padding, bias=bias) for bias, padding in pairs
        )
        self.other = other

    def forward(self, x):
        first, second = (part(x) for part in self.parts)
        return torch.cat([first, second, x], 1) if not self.other else torch.cat([first, x, second], 1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_part_that_is_there_twice_is_read_once(rank):
    before, x = graph_of(Repeated(rank), 2, 2, *[6] * rank)
    after, report = merge_repeated_parts(before)
    assert report.details == ("1 of 3 parts of cat",)
    assert_exact(before, after, x)
    assert merge_repeated_parts(after)[0] is after


def test_a_transposed_convolution_reads_it_once_too():
    before, x = graph_of(Repeated(transposed=True), 2, 2, 6, 6)
    after, report = merge_repeated_parts(before)
    assert report.changed == 1
    assert_exact(before, after, x)


def test_parts_that_groups_read_stay_with_the_reason():
    before, _ = graph_of(Repeated(groups=2), 2, 2, 6, 6)
    same, report = merge_repeated_parts(before)
    assert same is before
    assert "convolutions of one group" in report.rejected[0].reason


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, False)])
def test_neighbours_of_one_input_become_one_convolution(rank, biases):
    before, x = graph_of(Parallel(rank, biases), 2, 2, *[6] * rank)
    after, report = join_parallel_convolutions(before)
    assert report.changed == 1
    assert operations(after) == [f"conv{rank}d", "cat"]
    assert_exact(before, after, x)
    assert join_parallel_convolutions(after)[0] is after


def test_all_parts_joined_leave_no_concatenation():
    class Both(Parallel):
        def forward(self, x):
            return torch.cat([part(x) for part in self.parts], 1)

    before, x = graph_of(Both(), 2, 2, 6, 6)
    after, _ = join_parallel_convolutions(before)
    assert operations(after) == ["conv2d"]
    assert_exact(before, after, x)


def test_different_kernels_come_back_unchanged_with_the_reason():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 5, padding=2)

        def forward(self, x):
            return torch.cat([self.first(x), self.second(x)], 1)

    before, _ = graph_of(Two(), 2, 2, 6, 6)
    same, report = join_parallel_convolutions(before)
    assert same is before
    assert "kernel, stride, padding or dilation differ" in report.rejected[0].reason


def test_parts_that_are_no_neighbours_stay():
    before, _ = graph_of(Parallel(other=True), 2, 2, 6, 6)
    assert join_parallel_convolutions(before)[0] is before
