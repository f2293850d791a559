"""Coordinates over free sizes stay free, in the graph and in what is made of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgeon.tracing import trace
from surgeon.tracing.freeing import affine_grid, fftfreq, linspace, one_hot, rfftfreq
from tests.core.networks import conv


class Coordinates(nn.Module):
    """Looks at where its pixels lie."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(3, 4), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.linspace(-1, 1, x.shape[2], device=x.device)[:, None].expand(x.shape[2:])
        columns = torch.linspace(0.0, end=1.0, steps=x.shape[3])[None].expand(x.shape[2:])
        place = torch.stack([rows, columns]).expand(x.shape[0], 2, *x.shape[2:])
        return self.last(self.first(torch.cat([x, place], 1)).relu())


@pytest.mark.parametrize("steps", [1, 2, 3, 64, 201])
@pytest.mark.parametrize(("start", "end"), [(-1, 1), (0.3, 17.25)])
def test_the_values_are_torchs(start: float, end: float, steps: int) -> None:
    for dtype in (torch.float32, torch.float64):
        found = linspace(start, end, steps, dtype)
        torch.testing.assert_close(found, torch.linspace(start, end, steps, dtype=dtype))


class Reckoned(nn.Module):
    """Puts its sizes into tensors, and has frequencies and classes as many as there are positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(1, 2), conv(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        height, width = x.shape[2:]
        x = x / x.new_tensor([height, width]).view(1, 2, 1, 1) + torch.as_tensor([[height, width]]).prod()
        low = (torch.fft.fftfreq(height).abs()[:, None] < torch.fft.rfftfreq(width, d=0.5)[1]).float()
        turned = nn.functional.one_hot(torch.arange(height).flip(0), height).float() @ x
        return self.last(turned * low + x)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_frequencies_and_classes_are_torchs(n: int) -> None:
    for d in (1.0, 0.3):
        torch.testing.assert_close(fftfreq(n, d), torch.fft.fftfreq(n, d))
        torch.testing.assert_close(rfftfreq(n, d=d), torch.fft.rfftfreq(n, d=d))
    classes = torch.arange(n).view(1, n)
    assert torch.equal(one_hot(classes, n), nn.functional.one_hot(classes, n))


def test_a_graph_that_reckons_with_its_sizes_holds_for_all() -> None:
    host = Reckoned().eval()
    traced = trace(host, torch.randn(1, 1, 12, 16))
    assert traced.summary.free_sizes
    x = torch.randn(2, 1, 7, 33)
    torch.testing.assert_close(traced.graph_module(x), host(x))


def test_a_graph_with_coordinates_holds_for_all_sizes() -> None:
    host = Coordinates().eval()
    traced = trace(host, torch.randn(1, 1, 12, 16))
    assert traced.summary.free_sizes
    assert traced.summary.graph_stride == 1
    x = torch.randn(2, 1, 7, 33)
    torch.testing.assert_close(traced.graph_module(x), host(x))


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid")
@pytest.mark.parametrize("sizes", [(5, 8), (4, 6, 7), (1, 3)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_an_affine_grid_is_torchs(sizes, align_corners):
    theta = torch.randn(2, len(sizes), len(sizes) + 1, dtype=torch.float64)
    size = (2, 3, *sizes)
    found = affine_grid(theta, size, align_corners)
    expected = F.affine_grid(theta, size, align_corners=align_corners)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
