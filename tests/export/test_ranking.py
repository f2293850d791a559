"""Ranks, medians and searches written out, since ONNX has no operations for them."""

import pytest
import torch
from surgeon.export.ranking import extremes, is_among, median, median_of_all, of_rank, places_among

from .freely import assert_exported_freely
from .networks import Headed


@pytest.fixture
def values():
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_values_by_rank_are_torchs(values, dim, keepdim):
    count = values.shape[dim]
    for found, wanted in (
        (extremes(values, dim=dim, keepdim=keepdim), torch.aminmax(values, dim=dim, keepdim=keepdim)),
        (median(values, dim, keepdim), values.median(dim, keepdim)),
        (of_rank(values, count, dim, keepdim), values.kthvalue(count, dim, keepdim)),
    ):
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("keepdim", [False, True])
def test_values_of_all_are_torchs(values, keepdim):
    for one, other in zip(
        extremes(values, keepdim=keepdim), torch.aminmax(values, keepdim=keepdim), strict=True
    ):
        assert torch.equal(one, other)
    assert torch.equal(median_of_all(values), values.median())
    assert torch.equal(median_of_all(values[0, :, :5]), values[0, :, :5].median())


@pytest.mark.parametrize("right", [False, True])
def test_places_among_boundaries_are_torchs(right):
    boundaries, x = torch.tensor([-1.0, 0.0, 0.0, 2.0]), torch.tensor([[-3.0, -1.0, 0.0], [1.0, 2.0, 3.0]])
    assert torch.equal(
        places_among(boundaries, x, right=right), torch.searchsorted(boundaries, x, right=right)
    )


@pytest.mark.parametrize("invert", [False, True])
def test_members_are_torchs(invert):
    x, members = torch.tensor([[0, 1], [2, 3]]), torch.tensor([1, 3, 5])
    assert torch.equal(is_among(x, members, invert=invert), torch.isin(x, members, invert=invert))


class Ranked(Headed):
    """Images scaled by their extremes and medians, and classes by ranges of values."""

    def __init__(self):
        super().__init__(channels=3)
        self.register_buffer("boundaries", torch.tensor([-0.4, 0.1, 0.3]))

    def forward(self, x):
        x = self.layer(x)
        least, most = torch.aminmax(x)
        middle = x.flatten(2).median(2, keepdim=True).values[..., None]
        scaled = (x - least) / (most - least) + x.median(1, keepdim=True)[0] - middle - x.median()
        ranges = torch.searchsorted(self.boundaries, x)
        return scaled + x.kthvalue(2, 1, keepdim=True)[0] + ranges * torch.isin(ranges, torch.tensor([1, 2]))


def test_a_network_with_them_is_exported_with_free_sizes(tmp_path):
    assert_exported_freely(Ranked(), tmp_path / "out")
