import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import surgeon
from surgeon.errors import InputError
from surgeon.tracing import Limits, trace
from tests.core.networks import Deepest


class Forked(nn.Module):
    """Goes another way for images of more than 24 rows, as windows do that are larger than their map."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.last = nn.Conv2d(5, 2, 1)

    def forward(self, x):
        deep = self.down(x)
        deep = deep + torch.zeros((1, 1, deep.shape[2], deep.shape[3]))  # of a free size, as masks are made
        deep = deep.relu() if x.shape[2] <= 24 and x.shape[3] <= 24 else deep.sigmoid()
        return self.last(torch.cat([x, self.up(deep)], 1))


def forked():
    torch.manual_seed(0)
    return Forked().eval()


def test_a_graph_refuses_sizes_at_which_its_host_goes_another_way():
    host = forked()
    traced = trace(host, torch.randn(1, 1, 16, 16))
    assert traced.summary.free_sizes
    assert traced.summary.limits is not None
    assert traced.summary.limits.largest == 24
    inside, beyond = torch.randn(2, 1, 24, 18), torch.randn(1, 1, 16, 26)
    assert torch.equal(traced.graph_module(inside), host(inside))
    with pytest.raises(InputError, match=r"holds for sizes from \d+ to 24; the image is \(16, 26\)"):
        traced.graph_module(beyond)
    assert traced.summary.to_dict()["limits"]["largest"] == 24
    assert "outside" in {replay.what for replay in traced.summary.replays}


def test_what_is_spliced_into_it_refuses_them_as_well_and_comes_back_from_a_pickle():
    host = forked()
    spliced = surgeon.splice(host, torch.randn(1, 1, 16, 16), {"s0": nn.Identity()})
    for network in (spliced, copy.deepcopy(spliced), pickle.loads(pickle.dumps(spliced))):
        inside = torch.randn(1, 1, 22, 16)
        assert torch.equal(network(inside), host(inside))
        with pytest.raises(InputError, match="holds for sizes"):
            network(torch.randn(1, 1, 26, 26))


def test_a_limit_that_is_none_is_not_kept():
    summary = trace(Deepest().eval(), torch.randn(1, 1, 16, 16)).summary
    assert summary.free_sizes
    assert summary.limits is None


class Windowed(nn.Module):
    """Fills an image up to whole windows, and asks before it does."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 4, stride=4)
        self.last = nn.Conv2d(5, 2, 1)

    def forward(self, x):
        height, width = x.shape[2:]
        if height % 4 != 0 or width % 4 != 0:
            x = F.pad(x, (0, -width % 4, 0, -height % 4))
        deep = F.interpolate(self.down(x).relu(), size=x.shape[2:])
        return F.interpolate(self.last(torch.cat([x, deep], 1)), size=(height, width))


def windowed():
    torch.manual_seed(0)
    return Windowed().eval()


def test_a_graph_refuses_sizes_between_the_steps_in_which_its_host_goes_one_way():
    host = windowed()
    traced = trace(host, torch.randn(1, 1, 16, 20))
    assert (traced.summary.stride, traced.summary.graph_stride) == (1, 4)
    assert traced.summary.free_sizes
    assert traced.summary.to_dict()["limits"]["step"] == 4
    held = torch.randn(2, 1, 24, 32)
    assert torch.equal(traced.graph_module(held), host(held))
    with pytest.raises(InputError, match=r"in steps of 4 from 16 x 20; the image is \(16, 22\)"):
        traced.graph_module(torch.randn(1, 1, 16, 22))


def test_limits_are_told_in_words():
    assert str(Limits(58, 113)) == "sizes from 58 to 113"
    assert str(Limits(58)) == "sizes from 58 on"
    assert str(Limits(2, None, 4, (31, 17))) == "sizes from 2 on in steps of 4 from 31 x 17"
    assert [Limits(2, 40, 4, (31, 17)).hold(sizes) for sizes in ((35, 13), (35, 14), (43, 17))] == [
        True,
        False,
        False,
    ]
