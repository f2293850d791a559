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
