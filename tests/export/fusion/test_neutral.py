import pytest
import torch
from surgeon.export.fusion.constants import fold_constants
from surgeon.export.fusion.neutral import remove_neutral
from surgeon.export.fusion.sharing import share_equal_nodes
from surgeon.export.fusion.zeros import drop_zero_channels
from torch import nn

from tests.export.networks import CONVOLUTIONS

from .graphs import assert_exact, graph_of, operations, with_views


class Computes(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute
        self.alphas = nn.Parameter(torch.tensor([0.2, -0.4]))
        self.one, self.zero = nn.Buffer(torch.ones(1, 1, 1)), nn.Buffer(torch.zeros(1, 1, 1))

    def forward(self, x):
        return self.compute(self, x.relu())


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, x: x * 1,
        lambda m, x: x * m.one,
        lambda m, x: m.one * x,
        lambda m, x: x / 1,
        lambda m, x: x + 0,
        lambda m, x: x - m.zero,
        lambda m, x: x + m.zero,
        lambda m, x: x + x * 0,
        lambda m, x: x * 0 + x,
        lambda m, x: x + torch.zeros_like(x),
        lambda m, x: x.clone(),
        lambda m, x: x.contiguous(),
    ],
)
def test_what_changes_nothing_is_removed(compute):
    before, x = graph_of(Computes(compute), 2, 2, 4, 4)
    after, _ = remove_neutral(before)
    assert operations(after) == ["relu"]
    assert_exact(before, after, x)


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, x: 2 / x,
        lambda m, x: 0 - x,
        lambda m, x: x * 2,
        lambda m, x: torch.add(m.zero, x, alpha=2),
        lambda m, x: x[:, :1] + torch.zeros_like(x),
    ],
)
def test_what_changes_something_stays(compute):
    before, _ = graph_of(Computes(compute), 2, 2, 4, 4)
    after, _ = remove_neutral(before)
    assert after is before


def test_a_sum_that_only_broadcasts_is_left_with_the_reason():
    before, _ = graph_of(Computes(lambda m, x: x[:, :1] + torch.zeros_like(x)), 2, 2, 4, 4)
    _, report = remove_neutral(before)
    assert "changes the shape" in report.rejected[0].reason


def test_softmaxed_edge_weights_are_computed_once():
    before, x = graph_of(Computes(lambda m, x: x * m.alphas.softmax(0)[1]), 2, 2, 4, 4)
    after, report = fold_constants(before)
    assert report.changed >= 1
    assert operations(after) == ["relu", "mul"]
    assert_exact(before, after, x)


def test_weights_that_a_solver_makes_are_computed_once():
    def turned(m, x):
        skew = m.alphas[:, None] - m.alphas
        return x * torch.linalg.solve(torch.eye(2) + skew, torch.eye(2) - skew).sum()

    before, x = graph_of(Computes(turned), 2, 2, 4, 4)
    after, report = fold_constants(before)
    assert operations(after) == ["relu", "mul"]
    assert report.changed > 1
    assert_exact(before, after, x)


@pytest.mark.parametrize("taken", [0, 1])
def test_each_output_of_constants_is_computed_once(taken):
    before, x = graph_of(Computes(lambda m, x: x * torch.var_mean(m.alphas)[taken]), 2, 2, 4, 4)
    after, _ = fold_constants(before)
    assert operations(after) == ["relu", "mul"]
    assert_exact(before, after, x)


def test_what_is_filled_for_the_input_alone_is_left_to_the_runtime():
    before, _ = graph_of(Computes(lambda m, x: x + torch.ones(2, 1, 1)), 2, 2, 4, 4)
    after, _ = fold_constants(before)
    assert after is before


def test_a_large_constant_is_not_written_into_the_file():
    before, _ = graph_of(Computes(lambda m, x: x.sum() * m.one.expand(1, 400, 400)), 2, 2, 4, 4)
    after, report = fold_constants(before)
    assert after is before
    assert "moderate size" in report.rejected[0].reason


def test_equal_nodes_are_computed_once():
    before, x = graph_of(Computes(lambda m, x: x.exp() + x.exp() * 2), 2, 2, 4, 4)
    after, report = share_equal_nodes(before)
    assert report.changed == 1
    assert operations(after).count("exp") == 1
    assert_exact(before, after, x)


def test_nodes_with_other_settings_stay_apart():
    before, _ = graph_of(Computes(lambda m, x: x.softmax(1) + x.softmax(2)), 2, 2, 4, 4)
    after, _ = share_equal_nodes(before)
    assert after is before


class Concatenates(nn.Module):
    def __init__(self, rank=2, groups=1, *, transposed=False):
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else CONVOLUTIONS[rank - 1]
        self.convolution = kind(6, 4, 3, padding=1, groups=groups)

    def forward(self, x):
        return self.convolution(torch.cat([x, torch.zeros_like(x), x * 2], 1))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_zero_channels_leave_the_concatenation_and_the_weight(rank):
    before, x = graph_of(Concatenates(rank), 2, 2, *[5] * rank)
    after, report = drop_zero_channels(before)
    assert report.details == ("2 of 6 channels of cat",)
    assert "zeros_like" not in operations(after)
    assert_exact(before, after, x)


def test_zero_channels_before_a_transposed_convolution_are_dropped():
    before, x = graph_of(Concatenates(transposed=True), 2, 2, 5, 5)
    after, report = drop_zero_channels(before)
    assert report.changed == 1
    assert_exact(before, after, x)


def test_zero_channels_before_a_grouped_convolution_are_left_with_the_reason():
    before, _ = graph_of(Concatenates(groups=2), 2, 2, 5, 5)
    after, report = drop_zero_channels(before)
    assert after is before
    assert "not a convolution of one group" in report.rejected[0].reason


def test_a_copy_that_a_view_needs_stays_with_the_reason():
    class Viewed(nn.Module):
        def forward(self, x):
            return x.transpose(1, 2).contiguous().view(x.shape[0], -1) + 0

    before, x = graph_of(Viewed(), 2, 4, 6)
    before = with_views(before)
    after, report = remove_neutral(before)
    assert "a view of it asks for its layout" in report.rejected[0].reason
    assert_exact(before, after, x, sizes=(0,))


def test_a_copy_stays_that_torch_makes_for_a_reshape():
    class Reshaped(nn.Module):
        def forward(self, x):
            made = torch.ops.aten.clone(x.transpose(1, 2), memory_format=torch.contiguous_format)
            return torch.ops.aten._unsafe_view(made, [x.shape[0], 4 * x.shape[2]]) + 0

    before, x = graph_of(Reshaped(), 2, 4, 6)
    after, report = remove_neutral(before)
    assert "a view of it asks for its layout" in report.rejected[0].reason
    assert_exact(before, after, x, sizes=(0,))


def test_a_copy_that_is_viewed_after_a_selection_stays_as_in_multihead_attention():
    class Selected(nn.Module):
        def forward(self, x):
            parts = x.transpose(1, 2).unflatten(-1, (3, 2)).unsqueeze(0).transpose(0, -2).squeeze(-2)
            return parts.contiguous()[1].view(x.shape[0] * x.shape[2], 2)

    before, x = graph_of(Selected(), 2, 6, 4)
    before = with_views(before)
    after, report = remove_neutral(before)
    assert "a view of it asks for its layout" in report.rejected[0].reason
    assert_exact(before, after, x, sizes=(0,))
