"""Activations that are computed again: the same gradients to the bit, from less memory."""

from __future__ import annotations

import math

import pytest
import torch
from surgeon.search.step.features import FeatureCache
from surgeon.search.step.forward import Forward
from surgeon.search.step.halves import Halves
from surgeon.search.step.recomputing import Recomputed, bytes_kept
from torch import fx, nn

from surgeon.data import Batches
from surgeon.splicing import splice
from tests.search.small import SIDE, make_host, open_small, write_data


class Deep(nn.Module):
    """One skip, and a long decoder after it."""

    def __init__(self, overwrites=False):
        super().__init__()
        self.enter, self.bottom = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        layers = [(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU()) for _ in range(10)]
        self.decoder = nn.Sequential(*(one for layer in layers for one in layer))
        self.up, self.overwrites = nn.Upsample(scale_factor=2), overwrites

    def forward(self, x):
        high = self.enter(x)
        x = self.up(self.bottom(high)) + high
        if self.overwrites:
            for layer in self.decoder:
                x = layer(x)
                x.mul_(1.1)
            return x
        return self.decoder(x)


def spliced(overwrites=False):
    torch.manual_seed(3)
    host = Deep(overwrites)
    image = torch.rand(2, 1, SIDE, SIDE)
    implant = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    return splice(host.eval(), image, {"s0": implant}).train()


def gradients(halves, image):
    parameters = [p for p in halves.network.parameters() if p.requires_grad]
    output = halves.finish(halves.features(image))
    return (output, *torch.autograd.grad(output.square().mean(), parameters))


@pytest.mark.parametrize("overwrites", [False, True])
@pytest.mark.parametrize("trains_host", [False, True])
def test_outputs_gradients_and_statistics_are_those_without_it_to_the_bit(overwrites, trains_host):
    image = torch.rand(3, 1, SIDE, SIDE)
    found = []
    for memory in (math.inf, 0):
        network = spliced(overwrites)
        network.get_parameter("bottom.weight").requires_grad_(trains_host)
        halves = Halves(network, image)
        assert halves.spare(image[:1], 3, memory) is (memory == 0)
        assert network.training
        values = gradients(halves, image)
        found.append((*values, *network.get_submodule("implants").buffers()))
    assert len(found[0]) == 1 + 4 + trains_host + 3
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_less_is_kept_for_the_gradients_and_nothing_between_two_implants_twice():
    network, image = spliced().eval(), torch.rand(2, 1, SIDE, SIDE)
    whole = fx.GraphModule(network, network.graph)
    plain = bytes_kept(whole, (image,))
    side = 2 * 4 * SIDE * SIDE * 4  # bytes of one feature map
    assert plain >= 20 * side  # what goes into ten convolutions and comes out of ten ELUs
    spared = kept_by(Recomputed(whole, (image,)), image)
    assert spared <= 0.4 * plain


def kept_by(module, image):
    class Called(nn.Module):
        def forward(self, x):
            return module(x)

    return bytes_kept(Called(), (image,))


def test_a_limit_decides_whether_anything_is_computed_again(tmp_path):
    batches = Batches(open_small(write_data(tmp_path / "data")), None, 3, augment=False)
    implants = {"s0": nn.Conv2d(6, 6, 3, padding=1)}
    network = splice(make_host(), torch.rand(2, 1, SIDE, SIDE), implants)
    for gibibytes, recomputes in ((1.0, False), (1e-6, True)):
        forward = Forward(network, batches, torch.device("cpu"), FeatureCache(), memory=gibibytes * 2**30)
        assert forward.recomputes is recomputes
