"""Merges written in place, with implants that look at the tensor they meet."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from surgeon.splicing import splice


class InPlaceUNet(nn.Module):
    """Adds its skip in place, as `output += skip`."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.low = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.up, self.head = nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        output = self.up(self.low(nn.functional.max_pool2d(skip, 2)))
        output += skip
        return self.head(output)


class Product(nn.Module):
    """Needs the decoder's tensor for its gradients."""

    needs_decoder = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, skip: Tensor, decoder: Tensor) -> Tensor:
        return skip + (self.weight - 1) * decoder * decoder


@pytest.mark.parametrize("form", ["host", "program"])
def test_an_implant_that_sees_the_decoder_trains_where_the_merge_is_written_in_place(form: str) -> None:
    host: nn.Module = InPlaceUNet().eval()
    x = torch.randn(2, 1, 8, 8)
    if form == "program":
        host = torch.export.export(host, (x,)).module(check_guards=False)
    network = splice(host, x, {"s0": Product()})
    assert torch.equal(network(x), host(x))
    network(x).pow(2).mean().backward()
    gradient = network.get_parameter("implants.s0.weight").grad
    # Worked out by a small step: d mean(y^2) / d weight.
    with torch.no_grad():
        before = network(x).pow(2).mean()
        network.get_parameter("implants.s0.weight").add_(1e-3)
        slope = (network(x).pow(2).mean() - before) / 1e-3
    torch.testing.assert_close(gradient, slope, rtol=0.05, atol=1e-3)
