import pytest
import torch
from surgeon.export.fusion.batchnorm import fold_batchnorm
from torch import nn

from tests.export.networks import CONVOLUTIONS, NORMS

from .graphs import assert_exact, graph_of, operations

FORMS = [(1, 1, True), (1, 2, False), (2, 1, False), (2, 2, True), (3, 1, True), (3, 2, False)]
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@pytest.mark.parametrize(("rank", "groups", "bias"), FORMS)
def test_a_batchnorm_after_a_convolution_is_folded_exactly(rank, groups, bias):
    convolution = CONVOLUTIONS[rank - 1](4, 6, 3, padding=1, groups=groups, bias=bias)
    before, x = graph_of(nn.Sequential(convolution, NORMS[rank - 1](6)), 2, 4, *[6] * rank)
    after, report = fold_batchnorm(before)
    assert report.changed == 1
    assert len(operations(after)) == 1
    assert_exact(before, after, x)


@pytest.mark.parametrize(("rank", "groups", "bias"), FORMS)
def test_a_batchnorm_after_a_transposed_convolution_is_folded_exactly(rank, groups, bias):
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": groups, "bias": bias}
    convolution = TRANSPOSED[rank - 1](4, 6, 3, **options)
    before, x = graph_of(nn.Sequential(convolution, NORMS[rank - 1](6)), 2, 4, *[5] * rank)
    after, report = fold_batchnorm(before)
    assert report.changed == 1
    assert len(operations(after)) == 1
    assert_exact(before, after, x)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_padding_given_by_name_is_no_obstacle(padding):
    before, x = graph_of(nn.Sequential(nn.Conv2d(2, 3, 4, padding=padding), nn.BatchNorm2d(3)), 2, 2, 8, 8)
    after, report = fold_batchnorm(before)
    assert report.changed == 1
    assert_exact(before, after, x)


def test_a_batchnorm_without_affine_parameters_is_folded():
    before, x = graph_of(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, affine=False)), 2, 2, 4, 4)
    after, report = fold_batchnorm(before)
    assert report.changed == 1
    assert_exact(before, after, x)


def test_a_convolution_with_two_readers_is_left_with_the_reason():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            y = self.convolution(x)
            return self.norm(y) + y

    before, _ = graph_of(Shared(), 2, 2, 4, 4)
    after, report = fold_batchnorm(before)
    assert after is before
    assert "is read by 2 nodes" in report.rejected[0].reason


def test_a_convolution_used_twice_with_two_norms_keeps_both_apart():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(2, 2, 1)
            self.first, self.second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

        def forward(self, x):
            return self.first(self.convolution(x)) * self.second(self.convolution(x + 1))

    before, x = graph_of(Twice(), 2, 2, 4, 4)
    after, report = fold_batchnorm(before)
    assert report.changed == 2
    assert_exact(before, after, x)


def test_a_batchnorm_after_anything_else_is_left_with_the_reason():
    before, _ = graph_of(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2)), 2, 2, 4, 4)
    after, report = fold_batchnorm(before)
    assert after is before
    assert "is not a convolution" in report.rejected[0].reason


def test_the_input_graph_stays_as_it_was():
    before, x = graph_of(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)), 2, 2, 4, 4)
    text, expected = before.code, before(x)
    state = {name: value.clone() for name, value in before.state_dict().items()}
    fold_batchnorm(before)
    assert before.code == text
    assert torch.equal(before(x), expected)
    assert all(torch.equal(value, state[name]) for name, value in before.state_dict().items())
