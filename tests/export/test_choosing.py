"""Which networks choose by values."""

import pytest
import torch
from surgeon.export import flatten
from surgeon.export.choosing import chooses
from torch import nn
from torch.nn import functional as F

from surgeon.tracing import Example


class Doing(nn.Module):
    """Does something to what a convolution gives."""

    def __init__(self, way):
        super().__init__()
        self.conv, self.way = nn.Conv2d(1, 4, 3, padding=1), way

    def forward(self, x):
        return self.way(self.conv(x))


def unpooled(x):
    kept, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(kept, places, 2)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (unpooled, True),
        (lambda x: x.argmax(1, keepdim=True), True),
        (lambda x: x.max(1, keepdim=True)[1], True),
        (lambda x: x * torch.round(x), True),
        (lambda x: F.max_pool2d(x, 2), False),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], False),
        (lambda x: x.topk(2, dim=1)[0].softmax(1), False),
        (lambda x: x.max(1, keepdim=True)[0], False),
    ],
)
def test_a_choice_is_seen_where_it_is_used(way, expected):
    flat = flatten(Doing(way).eval(), Example((torch.rand(1, 1, 8, 8),), {}))
    assert chooses(flat.graph_module.graph) is expected
