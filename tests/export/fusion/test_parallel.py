import pytest
from surgeon.export import Freedom
from surgeon.export.fusion.parallel import sum_parallel_convolutions
from torch import nn

from tests.export.networks import CONVOLUTIONS

from .graphs import assert_exact, graph_of, operations


class Sum(nn.Module):
    def __init__(self, *convolutions, extra=False):
        super().__init__()
        self.convolutions, self.extra = nn.ModuleList(convolutions), extra

    def forward(self, x):
        total = self.convolutions[0](x)
        for convolution in self.convolutions[1:]:
            total = total + convolution(x)
            if self.extra:
                total = total + x
        return total


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_of_different_size_are_summed_exactly(rank, groups):
    convolution = CONVOLUTIONS[rank - 1]
    network = Sum(
        convolution(2, 4, 1, groups=groups, bias=False),
        convolution(2, 4, 3, padding=1, groups=groups),
        convolution(2, 4, 5, padding=2, groups=groups),
    )
    before, x = graph_of(network, 2, 2, *[6] * rank)
    after, report = sum_parallel_convolutions(before)
    assert report.changed == 2
    assert len(operations(after)) == 1
    assert_exact(before, after, x)


def test_a_pointwise_convolution_joins_a_dilated_one():
    network = Sum(nn.Conv2d(2, 2, 3, padding=2, dilation=2), nn.Conv2d(2, 2, 1))
    before, x = graph_of(network, 2, 2, 8, 8)
    after, report = sum_parallel_convolutions(before)
    assert report.changed == 1
    assert_exact(before, after, x)


def test_other_addends_in_between_are_no_obstacle():
    network = Sum(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1), extra=True)
    before, x = graph_of(network, 2, 2, 8, 8)
    after, report = sum_parallel_convolutions(before)
    assert report.changed == 2
    assert operations(after).count("conv2d") == 1
    assert_exact(before, after, x)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (nn.Conv2d(2, 2, 3, padding=2, dilation=2), "dilation differs"),
        (nn.Conv2d(2, 2, 3, padding=1, groups=2), "stride or groups differ"),
        (nn.ConvTranspose2d(2, 2, 3, padding=1), "transposed"),
        (nn.Conv2d(2, 2, 2, padding="same"), "padded unevenly"),
    ],
)
def test_what_cannot_be_one_convolution_is_left_with_the_reason(second, reason):
    before, _ = graph_of(Sum(nn.Conv2d(2, 2, 3, padding=1), second), 2, 2, 8, 8)
    after, report = sum_parallel_convolutions(before)
    assert after is before
    assert reason in report.rejected[0].reason


def test_kernels_on_different_grids_are_left_with_the_reason():
    class Cropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, (1, 3)), nn.Conv2d(2, 2, (3, 1))

        def forward(self, x):
            return self.first(x)[:, :, 1:-1] + self.second(x)[..., 1:-1]

    before, _ = graph_of(Cropped(), 2, 2, 8, 8)
    after, _ = sum_parallel_convolutions(before)
    assert after is before
    network = Sum(nn.Conv2d(2, 2, (1, 3), padding=(0, 1)), nn.Conv2d(2, 2, (3, 1), padding=(1, 0)))
    before, _ = graph_of(network, 2, 2, 8, 8)
    after, report = sum_parallel_convolutions(before)
    assert after is before
    assert "cannot be centred on each other" in report.rejected[0].reason


def test_kernels_whose_taps_do_not_meet_are_left_with_the_reason():
    network = Sum(nn.Conv2d(2, 2, 5, stride=4, padding=2), nn.Conv2d(2, 2, 3, stride=4))
    before, _ = graph_of(network, 2, 2, 8, 8, freedom=Freedom.NOTHING)
    after, report = sum_parallel_convolutions(before)
    assert after is before
    assert "their taps lie on different grids" in report.rejected[0].reason


def test_a_convolution_with_another_reader_is_left_with_the_reason():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            first = self.first(x)
            return first + self.second(x) + first.relu()

    before, _ = graph_of(Shared(), 2, 2, 8, 8)
    after, report = sum_parallel_convolutions(before)
    assert after is before
    assert "is read by others as well" in report.rejected[0].reason
