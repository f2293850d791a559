"""Compiling a frozen host: shared among networks, for one shape alone, and equal up to rounding."""

from __future__ import annotations

import pytest
import torch
from surgeon.search.step import compiling
from surgeon.search.step.compiling import Compiler
from surgeon.search.step.halves import Halves
from torch import nn

from surgeon.splicing import splice
from tests.search.small import SIDE, make_host


class Scale(nn.Module):
    """An implant with something to train."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return x * self.weight


@pytest.fixture
def compiled(monkeypatch):
    """Let compiling be counted, and done by running the module as it is."""
    seen = []

    def compile_(module, dynamic):
        assert dynamic is False
        calls = []
        seen.append((module, calls))

        def run(*inputs):
            calls.append(tuple(inputs[0].shape))
            return module(*inputs)

        return run

    monkeypatch.setattr(compiling.torch, "compile", compile_)
    return seen


def spliced(skips=("s0", "s1")):
    return splice(make_host(), torch.rand(2, 1, SIDE, SIDE), {skip: Scale() for skip in skips})


def gradients(halves, image):
    network = halves.network
    output = halves.finish(halves.features(image), tuple(image.shape))
    weights = [cell.weight for cell in network.get_submodule("implants").children()]
    return output, torch.autograd.grad(output.square().mean(), weights)


def test_outputs_and_gradients_are_those_without_it(compiled):
    image = torch.rand(3, 1, SIDE, SIDE)
    halves = Halves(spliced(), image[:2])
    plain, of_plain = gradients(halves, image)
    halves.compile(Compiler(), (3, 1, SIDE, SIDE))
    found, of_found = gradients(halves, image)
    assert torch.equal(found, plain)
    assert all(torch.equal(a, b) for a, b in zip(of_found, of_plain, strict=True))
    assert len(compiled) > 1
    assert all(calls for _, calls in compiled)
    assert halves.second is None


def test_images_of_another_shape_are_computed_as_they_were(compiled):
    halves = Halves(spliced(), torch.rand(2, 1, SIDE, SIDE))
    halves.compile(Compiler(), (3, 1, SIDE, SIDE))
    image = torch.rand(2, 1, 2 * SIDE, SIDE)
    halves.finish(halves.features(image), tuple(image.shape))
    assert not any(calls for _, calls in compiled)


def test_networks_of_one_host_share_what_was_compiled(compiled):
    compiler, shape = Compiler(), (3, 1, SIDE, SIDE)
    Halves(spliced(), torch.rand(2, 1, SIDE, SIDE)).compile(compiler, shape)
    once = len(compiled)
    second = Halves(spliced(), torch.rand(2, 1, SIDE, SIDE))
    second.compile(compiler, shape)
    assert len(compiled) == once
    gradients(second, torch.rand(*shape))
    Halves(spliced(("s0",)), torch.rand(2, 1, SIDE, SIDE)).compile(compiler, shape)
    assert len(compiled) > once


def test_what_is_trained_is_not_compiled(compiled):
    network = spliced()
    network.get_parameter("leave.weight").requires_grad_(True)
    Halves(network, torch.rand(2, 1, SIDE, SIDE)).compile(Compiler(), (3, 1, SIDE, SIDE))
    assert compiled
    for module, _ in compiled:
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert "leave.weight" not in dict(module.named_parameters())


def test_features_of_compiled_hosts_are_kept_apart(compiled):
    halves = Halves(spliced(), torch.rand(2, 1, SIDE, SIDE))
    before = halves.computation()
    halves.compile(Compiler(), (3, 1, SIDE, SIDE))
    assert halves.computation() != before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_torch_compiles_a_host_to_the_same_up_to_rounding():
    image = torch.rand(3, 1, SIDE, SIDE)
    halves = Halves(spliced(), image[:2])
    plain, of_plain = gradients(halves, image)
    halves.compile(Compiler(), (3, 1, SIDE, SIDE))
    found, of_found = gradients(halves, image)
    assert torch.allclose(found, plain, atol=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(of_found, of_plain, strict=True))
