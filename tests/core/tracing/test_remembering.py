"""Hosts that keep what they made for the size they saw last are traced with free sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from surgeon.tracing import trace
from surgeon.tracing.remembering import has_changed, memory_of
from surgeon.tracing.trace import Way
from tests.core import networks
from tests.core.networks import image


class Weighted(nn.Module):
    """A skip beside a picture that is weighted by its place."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 2, 1)
        self.places = None

    def forward(self, x):
        skip = self.first(x).relu()
        up = F.interpolate(self.down(skip), size=skip.shape[2:])
        return self.last(torch.cat([skip, up * self.at(skip)], 1))

    def made(self, like):
        height, width = like.shape[2:]
        return torch.arange(height)[:, None] / height + torch.arange(width) / width


class BySize(Weighted):
    def __init__(self):
        super().__init__()
        self.size = None

    def at(self, like):
        if self.size != tuple(like.shape[2:]):
            self.size, self.places = tuple(like.shape[2:]), self.made(like)
        return self.places


class ByWidthFirst(Weighted):
    def at(self, like):
        if self.places is None or self.places.shape[1] != like.shape[3] or len(self.places) != like.shape[2]:
            self.places = self.made(like)
        return self.places


class InBuffer(Weighted):
    def __init__(self):
        super().__init__()
        del self.places
        self.register_buffer("places", torch.zeros(0, 0), persistent=False)

    def at(self, like):
        if self.places.shape != like.shape[2:]:
            self.places = self.made(like)
        return self.places


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize("kind", [BySize, ByWidthFirst, InBuffer])
def test_what_is_kept_for_one_size_does_not_fix_the_graph_to_it(kind, ran):
    torch.manual_seed(0)
    host = kind().eval()
    if ran:
        host(image(2))
    kept = host.places
    traced = trace(host, image(2))
    assert (traced.summary.way, traced.summary.free_sizes) == (Way.EXPORT_FREE, True)
    assert host.places is kept
    with torch.no_grad():
        for x in (image(2), image(2, batch=3, size=24), image(2, size=17)):
            assert torch.equal(traced.graph_module(x), host(x))


def test_only_a_host_that_sets_its_own_attributes_remembers():
    plain, keeping = networks.UNet().eval(), BySize().eval()
    for host, expected in ((plain, False), (keeping, True)):
        before = memory_of(host)
        assert not has_changed(host, before)
        host(image(2))
        assert has_changed(host, before) is expected


def test_values_that_are_set_to_what_they_were_are_no_change():
    host = BySize().eval()
    host(image(2))
    before = memory_of(host)
    host.size = tuple(int(size) for size in host.size)
    assert not has_changed(host, before)
    host.size = (host.places, host.places)
    assert has_changed(host, before)
