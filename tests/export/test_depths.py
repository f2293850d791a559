"""Volumes whose depths are free: what is made use of is what the network takes, and no more."""

import pytest
import torch
from monai.networks.nets import BasicUNet
from surgeon.export import Runner, to_onnx
from surgeon.export.cases import step_of_depth
from torch import nn

from surgeon.tracing import Example

from .networks import image, stir


class Volumes(nn.Module):
    """A U of one level with a depthwise convolution on its skip."""

    def __init__(self, pool):
        super().__init__()
        self.down = nn.Conv3d(1, 4, 3, padding=1)
        self.pool, self.bottom = nn.MaxPool3d(pool), nn.Conv3d(4, 4, 3, padding=1)
        self.cell = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1, groups=4), nn.ReLU(), nn.Conv3d(4, 4, 1))
        self.up, self.last = nn.Upsample(scale_factor=pool), nn.Conv3d(8, 2, 1)

    def forward(self, x):
        skip = self.down(x).relu()
        return self.last(torch.cat([self.cell(skip), self.up(self.bottom(self.pool(skip)))], 1))


def network(pool):
    torch.manual_seed(0)
    return stir(Volumes(pool))


@pytest.mark.parametrize(("pool", "step"), [((2, 2, 2), 2), ((1, 2, 2), 1), ((4, 2, 2), 4)])
def test_a_file_is_right_at_every_depth_that_its_network_takes(pool, step, tmp_path):
    host = network(pool)
    assert step_of_depth(host_of(host), Example((image(3, 8),), {})) == step
    runner = Runner(to_onnx(host, image(3, 8), tmp_path / "out").model)
    for batch in (1, 2):
        for depth in (step, 3 * step, 5 * step):
            x = torch.randn(batch, 1, depth, 8, 10)
            with torch.no_grad():
                torch.testing.assert_close(runner(x)[0], host(x), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_bottom_of_one_plane_leaves_the_depth_free(tmp_path):
    torch.manual_seed(0)
    host = BasicUNet(spatial_dims=3, in_channels=1, out_channels=2, features=(4, 4, 4, 8, 16, 4)).eval()
    artifact = to_onnx(host, torch.randn(1, 1, 16, 32, 32), tmp_path / "out", second_opinion=False)
    assert artifact.freedom.sizes
    runner = Runner(artifact.model)
    for depth in (16, 32, 48):
        x = torch.randn(1, 1, depth, 32, 48)
        with torch.no_grad():
            torch.testing.assert_close(runner(x)[0], host(x), atol=1e-4, rtol=1e-4)


def test_a_depth_that_the_network_refuses_is_an_error_in_the_file(tmp_path):
    host = network((4, 2, 2))
    runner = Runner(to_onnx(host, image(3, 8), tmp_path / "out").model)
    for x in (torch.randn(2, 1, 6, 8, 8), torch.randn(1, 1, 7, 8, 8)):
        with pytest.raises(RuntimeError):
            host(x)
        with pytest.raises(Exception, match=r"onnxruntime|ONNXRuntime|Concat|Reshape"):
            runner(x)


def test_nothing_is_known_of_images(tmp_path):
    assert step_of_depth(lambda example: example, Example((image(2, 8),), {})) == 1


def host_of(network):
    return lambda example: network(*example.args)
