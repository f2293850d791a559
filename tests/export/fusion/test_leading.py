import re

import pytest
from surgeon.export.fusion.leading import fold_leading_batchnorm
from torch import nn

from tests.export.networks import CONVOLUTIONS, NORMS

from .graphs import assert_exact, graph_of, operations


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_batchnorm_before_an_unpadded_convolution_is_folded_exactly(rank, groups):
    convolution = CONVOLUTIONS[rank - 1](4, 6, 3, groups=groups, bias=False)
    before, x = graph_of(nn.Sequential(nn.ReLU(), NORMS[rank - 1](4), convolution), 2, 4, *[6] * rank)
    after, report = fold_leading_batchnorm(before)
    assert report.changed == 1
    assert [re.sub(r"[123]d$", "", name) for name in operations(after)] == ["relu", "conv"]
    assert_exact(before, after, x)


def test_a_padded_convolution_after_it_is_left_with_the_reason():
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1))
    before, _ = graph_of(network, 2, 2, 4, 4)
    after, report = fold_leading_batchnorm(before)
    assert after is before
    assert "its border would change" in report.rejected[0].reason


def test_a_padded_convolution_takes_a_batchnorm_without_shift():
    norm = nn.BatchNorm2d(2, affine=False)
    before, x = graph_of(nn.Sequential(nn.ReLU(), norm, nn.Conv2d(2, 2, 3, padding=1)), 2, 2, 4, 4)
    for name, value in before.state_dict().items():
        if name.endswith("running_mean"):
            value.zero_()
    after, report = fold_leading_batchnorm(before)
    assert report.changed == 1
    assert_exact(before, after, x)


def test_a_transposed_convolution_after_it_is_left_with_the_reason():
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 2, 2, stride=2))
    before, _ = graph_of(network, 2, 2, 4, 4)
    after, report = fold_leading_batchnorm(before)
    assert after is before
    assert "the number of taps differs" in report.rejected[0].reason


def test_every_reader_has_to_be_a_convolution():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.convolution = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            y = self.norm(x)
            return self.convolution(y) + y

    before, _ = graph_of(Mixed(), 2, 2, 4, 4)
    after, report = fold_leading_batchnorm(before)
    assert after is before
    assert "is not a convolution" in report.rejected[0].reason


def test_all_convolutions_that_read_it_take_it_up():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.first, self.second = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            y = self.norm(x)
            return self.first(y) * self.second(y)

    before, x = graph_of(Two(), 2, 2, 4, 4)
    after, report = fold_leading_batchnorm(before)
    assert report.changed == 1
    assert_exact(before, after, x)
