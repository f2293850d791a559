from __future__ import annotations

import pytest
import torch
from surgeon.search.step.features import FeatureCache
from surgeon.search.step.forward import Forward
from surgeon.search.step.halves import Halves
from torch import nn

from surgeon.data import Batches
from surgeon.errors import RunError
from surgeon.splicing import splice
from tests.search.small import SIDE, make_host, open_small, write_data

CPU = torch.device("cpu")


def network(host=None):
    torch.manual_seed(3)
    image = torch.rand(2, 1, SIDE, SIDE)
    implants = {"s0": nn.Conv2d(6, 6, 3, padding=1), "s1": nn.BatchNorm2d(8)}
    return splice(host or make_host(), image, implants)


def run(forward, batches, epoch, step):
    """Return output and labels of a batch."""
    drawn = forward.draw(batches, epoch, step)
    return forward.finish(drawn.features, drawn.shape), drawn.label


@pytest.fixture
def batches(tmp_path):
    return Batches(open_small(write_data(tmp_path / "data")), None, 3, augment=False, seed=1)


def test_the_halves_of_a_network_give_what_the_whole_gives_with_its_gradients():
    whole = network().train()
    image = torch.rand(2, 1, SIDE, SIDE)
    halves = Halves(whole, image)
    assert len(halves.names) == 3  # two skips, and what comes up from the bottom
    assert halves.by_case
    assert whole.training
    parameters = list(whole.get_submodule("implants").parameters())
    features = halves.features(image)
    assert not any(feature.requires_grad for feature in features)
    found = torch.autograd.grad(halves.finish(features).square().mean(), parameters)
    given = image.clone(memory_format=halves.layout)
    expected = torch.autograd.grad(whole(given).square().mean(), parameters)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(found, expected, strict=True))


def test_a_host_parameter_that_is_trained_keeps_what_follows_it_out_of_the_first_half():
    whole = network()
    whole.get_parameter("enter.0.weight").requires_grad_(True)
    assert Halves(whole, torch.rand(2, 1, SIDE, SIDE)).names == ()
    whole.get_parameter("enter.0.weight").requires_grad_(False)
    whole.get_parameter("bottom.1.weight").requires_grad_(True)
    assert Halves(whole, torch.rand(2, 1, SIDE, SIDE)).names == ("relu", "relu_1", "max_pool2d_1")


class Overwriting(nn.Module):
    """A decoder that writes into what the encoder gave."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(12, 1, 1)
        self.bottom = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        high = self.enter(x).relu()
        up = nn.functional.interpolate(self.bottom(nn.functional.max_pool2d(high, 2)), scale_factor=2.0)
        both = torch.cat((high, up), dim=1)
        return self.leave(both) + up.mul_(2).mean()


def test_a_host_that_overwrites_its_tensors_is_computed_right():
    whole = splice(Overwriting().eval(), torch.rand(2, 1, SIDE, SIDE), {"s0": nn.Conv2d(6, 6, 1)})
    image = torch.rand(2, 1, SIDE, SIDE)
    halves = Halves(whole, image)
    given = image.clone(memory_format=halves.layout)
    found = halves.finish(halves.features(image))
    assert torch.allclose(found, whole(given), rtol=1e-4, atol=1e-6)


class Accumulating(nn.Module):
    """A decoder that adds the skip to what comes up from below, in place, and then clips it in place."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 1, 1)
        self.bottom, self.up = nn.Conv2d(6, 6, 3, padding=1), nn.ConvTranspose2d(6, 6, 2, stride=2)

    def forward(self, x):
        high = self.enter(x).relu()
        up = self.up(self.bottom(nn.functional.max_pool2d(high, 2)))
        up += high
        return self.leave(up.clamp_(-9.0))


def test_what_a_decoder_overwrites_is_computed_once_and_kept(batches):
    cell = nn.Conv2d(6, 6, 1)
    whole = splice(Accumulating().eval(), torch.rand(2, 1, SIDE, SIDE), {"s0": cell})
    forward = Forward(whole, batches, CPU, FeatureCache(2**30))
    assert forward.halves.names == ("relu", "conv_transpose2d")
    for _ in range(2):
        found, _ = run(forward, batches, 0, 0)
        image = batches.batch(0, 0).image.clone(memory_format=forward.halves.layout)
        expected = whole(image)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
        gradients = [torch.autograd.grad(out.square().mean(), cell.parameters()) for out in (found, expected)]
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients, strict=True))


class Viewing(nn.Module):
    """An implant that asks for a view that channels last do not give."""

    def forward(self, x):
        return x.view(x.shape[0], -1).view(x.shape)


def test_a_network_that_cannot_take_channels_last_gets_them_first():
    image = torch.rand(2, 1, SIDE, SIDE)
    assert Halves(splice(make_host(), image, {"s0": Viewing()}), image).layout is torch.contiguous_format
    assert Halves(network(), image).layout is torch.channels_last


@pytest.mark.parametrize(("memory", "disk"), [(0, 0), (2**30, 0), (0, 2**30), (30_000, 2**30)])
def test_kept_features_give_the_same_output_to_the_bit(tmp_path, batches, memory, disk):
    whole = network()
    plain = Forward(whole, batches, CPU, FeatureCache())
    cache = FeatureCache(memory, disk, tmp_path / "features")
    kept = Forward(whole, batches, CPU, cache)
    for epoch in range(2):
        for step in range(batches.steps):
            output, label = run(kept, batches, epoch, step)
            expected, same = run(plain, batches, epoch, step)
            assert torch.equal(output, expected)
            assert torch.equal(label, same)
    files = list((tmp_path / "features").glob("*.pt"))
    assert bool(files) is bool(disk)
    cache.clear()
    assert not (tmp_path / "features").exists()


def test_a_kept_case_is_not_computed_again(batches):
    forward = Forward(network(), batches, CPU, FeatureCache(2**30))
    first = [run(forward, batches, 0, step) for step in range(batches.steps)]
    forward.halves.features = None  # would fail if it were called
    again = [run(forward, batches, 1, step) for step in range(batches.steps)]
    assert len(first) == len(again) == batches.steps
    assert all(torch.isfinite(output).all() for output, _ in again)


def test_varied_images_are_not_kept(tmp_path):
    varied = Batches(open_small(write_data(tmp_path / "data")), None, 3, augment=True, seed=1)
    cache = FeatureCache(2**30)
    run(Forward(network(), varied, CPU, cache), varied, 0, 0)
    assert cache.memory == 2**30


def test_a_broken_file_of_features_is_named(tmp_path, batches):
    cache = FeatureCache(0, 2**30, tmp_path / "features")
    forward = Forward(network(), batches, CPU, cache)
    run(forward, batches, 0, 0)
    for path in (tmp_path / "features").glob("*.pt"):
        path.write_bytes(b"nothing")
    with pytest.raises(RunError, match="kept features cannot be read"):
        run(forward, batches, 0, 0)
