import pytest
import torch
from surgeon.export.fusion import fuse
from surgeon.export.fusion.masks import choose_at_once
from torch import nn

from .graphs import assert_exact, graph_of, operations


class Windows(nn.Module):
    """A mask as Swin transformers make it, of regions that depend on the size alone."""

    def __init__(self, alike_first=False, number=2.0):
        super().__init__()
        self.alike_first, self.number = alike_first, number

    def forward(self, x):
        regions = torch.zeros(x.shape[2:], dtype=x.dtype)
        regions[:3] = self.number
        regions[:, 2:] = 3.0
        flat = regions.reshape(-1)
        difference = flat.unsqueeze(0) - flat.unsqueeze(1)
        filled = [(difference == 0, 0.25), (difference != 0, -100.0)]
        for where, value in filled if self.alike_first else reversed(filled):
            difference = difference.masked_fill(where, value)
        return x.flatten(2) @ difference


@pytest.mark.parametrize("alike_first", [True, False])
def test_the_two_fillings_of_a_mask_become_one_choice(alike_first):
    before, x = graph_of(Windows(alike_first), 2, 3, 5, 6)
    after, report = choose_at_once(before)
    assert report.changed == 1
    assert operations(after).count("where") == 1
    assert not {"masked_fill", "sub", "ne"} & set(operations(after))
    assert_exact(before, after, x, sizes=(0, 1, 3))
    again, report = choose_at_once(after)
    assert again is after
    assert report.changed == 0


@pytest.mark.parametrize("number", [0.5, float("inf")])
def test_numbers_that_are_not_whole_stay_as_they_are(number):
    before, _ = graph_of(Windows(number=number), 1, 3, 5, 6)
    same, report = choose_at_once(before)
    assert same is before
    assert "anything" in report.rejected[0].reason


def test_what_depends_on_the_image_stays_as_it_is():
    class Pairs(nn.Module):
        def forward(self, x):
            difference = x.unsqueeze(-1) - x.unsqueeze(-2)
            return difference.masked_fill(difference != 0, -1.0).masked_fill(difference == 0, 1.0)

    before, _ = graph_of(Pairs(), 1, 3, 5, 6)
    same, report = choose_at_once(before)
    assert same is before
    assert "anything" in report.rejected[0].reason


def test_a_filling_of_another_kind_is_not_looked_at():
    class Other(nn.Module):
        def forward(self, x):
            return x.masked_fill(x != 0, -1.0).masked_fill(x > 2, 1.0)

    before, _ = graph_of(Other(), 1, 3, 5, 6)
    same, report = choose_at_once(before)
    assert same is before
    assert report.rejected == ()


@pytest.mark.slow
def test_a_transformers_masks_are_found_among_all_passes():
    from monai.networks.nets import SwinUNETR

    network = SwinUNETR(1, 2, feature_size=12, spatial_dims=2, depths=(2, 1, 1, 1))
    before, x = graph_of(network, 1, 1, 64, 64)
    fused = fuse(before, (x,))
    assert next(report for report in fused.passes if report.name == "choose_at_once").changed >= 1
    torch.testing.assert_close(fused.graph_module(x), before(x))
