"""By which steps the sizes of a host and of its graph may grow."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from surgeon.skips import locate
from surgeon.tracing import trace


class _Strided(nn.Module):
    """Halves its input twice and doubles it twice, or crops where it is told to."""

    def __init__(self, *, pads: bool) -> None:
        super().__init__()
        self.pads = pads
        self.down = nn.Conv2d(1, 2, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(2, 1, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = self.up(self.down(x))
        if self.pads and up.shape[-1] != x.shape[-1]:
            up = F.interpolate(up, size=x.shape[2:])
        return x + up


@pytest.mark.parametrize(("pads", "host", "graph"), [(False, 2, 2), (True, 1, 2)])
def test_host_and_graph_each_tell_their_own_step(pads, host, graph):
    traced = trace(_Strided(pads=pads), torch.rand(1, 1, 16, 16))
    assert (traced.summary.stride, traced.summary.graph_stride) == (host, graph)
    noted = "the network itself takes sizes in steps of 1, its graph in steps of 2" in locate(traced).notes
    assert noted == pads


class _Windows(nn.Module):
    """Mixes positions in windows of 4, and mirrors what does not fill one: not more than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.mix = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x)
        height, width = x.shape[2:]
        if height % 4 != 0:
            x = F.pad(x, (0, 0, 0, 4 - height % 4), mode="reflect")
        rows, columns = x.shape[2] // 4, width // 4
        windows = x.reshape(x.shape[0], 4, rows, 4, columns, 4).transpose(3, 4)
        mixed = self.mix(windows.reshape(x.shape[0], 4, rows, columns, 16))
        mixed = mixed.reshape(x.shape[0], 4, rows, columns, 4, 4).transpose(3, 4)
        return mixed.reshape(x.shape[0], 4, 4 * rows, width)[:, :, :height]


def test_a_host_that_goes_another_way_at_the_other_size_is_traced_at_twice_its_size() -> None:
    host = _Windows().eval()
    # At a height of 12 a part of a window is mirrored; a graph of that mirrors 4 of 4 positions here.
    traced = trace(host, torch.rand(1, 1, 8, 8))
    assert traced.summary.free_sizes
    assert traced.summary.stride == traced.summary.graph_stride == 8
    x = torch.rand(2, 1, 24, 16)
    assert traced.graph_module(x).equal(host(x))
    assert "the host goes another way there" in [outcome.remark for outcome in traced.summary.replays]
