import pytest
import torch
from surgeon.export import Freedom
from surgeon.export.fusion.scales import fold_scale
from torch import nn

from tests.export.networks import CONVOLUTIONS

from .graphs import assert_exact, graph_of, operations


class Scaled(nn.Module):
    def __init__(self, compute, rank=2):
        super().__init__()
        self.convolution = CONVOLUTIONS[rank - 1](2, 3, 3, padding=1)
        self.gamma = nn.Parameter(torch.tensor([0.5, -2.0, 3.0]).reshape(3, *[1] * rank))
        self.compute = compute

    def forward(self, x):
        return self.compute(self.convolution(x), self.gamma)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_gamma_of_a_cell_goes_into_its_last_convolution(rank):
    before, x = graph_of(Scaled(lambda y, gamma: gamma * y, rank), 2, 2, *[5] * rank)
    after, report = fold_scale(before)
    assert report.changed == 1
    assert len(operations(after)) == 1
    assert_exact(before, after, x)


@pytest.mark.parametrize(
    "compute",
    [
        lambda y, gamma: y * 0.3,
        lambda y, gamma: 0.3 * y,
        lambda y, gamma: y / gamma,
        lambda y, gamma: y + gamma,
        lambda y, gamma: gamma - y,
        lambda y, gamma: y - gamma,
        lambda y, gamma: 1 - y,
        lambda y, gamma: torch.add(y, gamma, alpha=2),
        lambda y, gamma: torch.add(gamma, y, alpha=2),
        lambda y, gamma: torch.sub(gamma, y, alpha=3),
    ],
)
def test_every_affine_form_is_folded_exactly(compute):
    before, x = graph_of(Scaled(compute), 2, 2, 5, 5)
    after, report = fold_scale(before)
    assert report.changed == 1
    assert_exact(before, after, x)


@pytest.mark.parametrize(
    "compute",
    [
        lambda y, gamma: gamma / y,
        lambda y, gamma: y * gamma.reshape(1, 3, 1, 1).expand(1, 3, 5, 5),
        lambda y, gamma: torch.div(y, 2.0, rounding_mode="floor"),
        lambda y, gamma: y**2,
    ],
)
def test_what_is_not_affine_by_channel_is_left(compute):
    before, _ = graph_of(Scaled(compute), 2, 2, 5, 5, freedom=Freedom.BATCH)
    after, _ = fold_scale(before)
    assert after is before


def test_a_convolution_with_another_reader_is_left_with_the_reason():
    before, _ = graph_of(Scaled(lambda y, gamma: y * gamma + y.relu()), 2, 2, 5, 5)
    after, report = fold_scale(before)
    assert after is before
    assert "is read by 2 nodes" in report.rejected[0].reason
