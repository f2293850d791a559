"""Graphs whose views rest on what a trace thinks of the memory's layout."""

from __future__ import annotations

import torch
from surgeon.export.flattening import flatten
from surgeon.export.fusion import fuse
from torch import Tensor, nn

from surgeon.tracing import as_example


class DepthwiseOnTokens(nn.Module):
    """Tokens, a depthwise convolution on their map, and tokens again (U-KAN).

    A trace thinks that the convolution keeps the channels last, and drops the copy before the view; the
    kernel puts them first.
    """

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.depthwise = nn.Conv2d(1, 16, 2, 2), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.mix = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2).contiguous()
        mixed = self.depthwise(tokens.transpose(1, 2).view(batch, channels, height, width))
        row = mixed.flatten(2).transpose(1, 2).contiguous().view(batch, -1)
        return self.mix(row.view(batch, height, width, channels))


def test_a_graph_is_replayed_whose_views_rest_on_a_layout_that_the_kernels_do_not_keep():
    network, image = DepthwiseOnTokens().eval(), torch.rand(1, 1, 16, 24)
    flat = flatten(network, as_example(image))
    fused = fuse(flat.graph_module, (image,))
    assert fused.flops
