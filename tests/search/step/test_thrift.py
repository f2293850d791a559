from __future__ import annotations

import pytest
import torch
from surgeon.search.step.halves import Halves
from surgeon.search.step.thrift import thrifty
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from surgeon.splicing import splice

SIDE = 16


class Decoding(nn.Module):
    """One skip, concatenated with what comes up from the bottom; norms in encoder and decoder."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.bottom = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 10, 3, padding=1), nn.BatchNorm2d(10))
        self.up = nn.Upsample(scale_factor=2)
        self.meet = nn.Sequential(nn.Conv2d(16, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True))
        self.leave = nn.Sequential(nn.Conv2d(5, 2, 1), nn.BatchNorm2d(2, affine=False))

    def forward(self, x):
        high = self.enter(x)
        return self.leave(self.meet(torch.cat((self.up(self.bottom(high)), high), dim=1)))


class WithAnEmptyLevel(Decoding):
    """A last merge with a level that has no channels, as an encoder that begins with a stride of 4 gives."""

    def forward(self, x):
        high = self.enter(x)
        met = self.meet(torch.cat((self.up(self.bottom(high)), high), dim=1))
        return self.leave(torch.cat((met, x[:, :0]), dim=1))


@pytest.fixture
def network():
    torch.manual_seed(4)
    host = Decoding().double()
    for _ in range(3):
        host(torch.rand(4, 1, SIDE, SIDE).double())  # running statistics that are not those of birth
    for norm in (host.enter[1], host.bottom[2], host.meet[1]):
        nn.init.uniform_(norm.weight, -1.5, 1.5)
        nn.init.normal_(norm.bias)
    image = torch.rand(2, 1, SIDE, SIDE).double()
    return splice(host.eval(), image, {"s0": nn.Conv2d(6, 6, 3, padding=1).double()})


def operations(module):
    return [str(node.target) for node in module.graph.nodes if node.op == "call_function"]


def test_norms_of_a_frozen_host_are_in_its_convolutions_with_the_same_result(network):
    image = torch.rand(3, 1, SIDE, SIDE).double()
    found = thrifty(network, network.graph)
    assert operations(network).count("aten.batch_norm.default") == 4
    assert operations(found).count("aten.batch_norm.default") == 0
    assert torch.allclose(network.graph.process_outputs(found(image)), network(image), rtol=0, atol=1e-12)


def test_a_norm_that_is_trained_stays_a_norm(network):
    network.get_parameter("meet.1.weight").requires_grad_(True)
    found = thrifty(network, network.graph)
    assert operations(found).count("aten.batch_norm.default") == 1
    image = torch.rand(3, 1, SIDE, SIDE).double()
    network.graph.process_outputs(found(image)).sum().backward()
    given = network.get_parameter("meet.1.weight")
    assert given.grad is not None
    assert given.grad.abs().sum() > 0


def test_what_no_implant_can_influence_is_convolved_in_the_first_half(network):
    image = torch.rand(2, 1, SIDE, SIDE).double()
    halves = Halves(network, image)
    features = halves.features(image)
    assert sorted(feature.shape[1] for feature in features) == [5, 6]  # not the 10 that come up
    with FlopCounterMode(display=False) as counter:
        halves.finish(features)
    positions = 2 * SIDE * SIDE
    implant, meet, leave = 6 * 6 * 9, 6 * 5 * 9, 5 * 2
    assert counter.get_total_flops() == 2 * positions * (implant + meet + leave)


def test_a_level_without_channels_is_no_part_of_a_convolution():
    host = WithAnEmptyLevel().double().eval()
    image = torch.rand(2, 1, SIDE, SIDE).double()
    spliced = splice(host, image, {"s0": nn.Conv2d(6, 6, 3, padding=1).double()})
    found = thrifty(spliced, spliced.graph)
    assert torch.allclose(spliced.graph.process_outputs(found(image)), spliced(image), rtol=0, atol=1e-12)


def test_gradients_of_implants_are_those_of_the_whole_network(network):
    image = torch.rand(2, 1, SIDE, SIDE).double()
    halves = Halves(network, image)
    parameters = list(network.get_submodule("implants").parameters())
    found = torch.autograd.grad(halves.finish(halves.features(image)).square().mean(), parameters)
    expected = torch.autograd.grad(network(image).square().mean(), parameters)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(found, expected, strict=True))
