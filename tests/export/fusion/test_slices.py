import pytest
import torch
from surgeon.export import Freedom, flatten
from surgeon.export.fusion import cpu_passes, fuse
from surgeon.export.fusion.slices import slice_depthwise
from surgeon.export.fusion.slicewise import SLICES
from torch import nn

from surgeon.tracing import Example

from .graphs import assert_exact
from .written import assert_written_exactly, computing, count, written

aten = torch.ops.aten


def depthwise(channels=3, kernel=5, **options):
    torch.manual_seed(0)
    dilation = options.get("dilation", 1)
    padding = options.pop("padding", dilation * (kernel - 1) // 2)
    return nn.Conv3d(channels, channels, kernel, padding=padding, groups=channels, **options).double()


def graph_for(network, x):
    return flatten(network.eval(), Example((x,), {}), (Freedom.BATCH_AND_SIZES,)).graph_module


def volume(channels=3):
    return torch.randn(2, channels, 7, 8, 9, dtype=torch.float64)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_slices_sum_to_the_convolution_borders_included(dilation, bias):
    network, x = depthwise(dilation=dilation, bias=bias), volume()
    graph = graph_for(network, x)
    sliced, report = slice_depthwise(graph)
    assert_exact(graph, sliced, x)
    assert report.details == ("conv3d: 5 slices, 4 side by side",)
    assert_written_exactly(graph, sliced, x, sizes=(0, 3))
    kinds = [node.target for node in sliced.graph.nodes]
    assert kinds.count(SLICES.target) == 1
    assert aten.conv3d.default not in kinds
    # The input graph stays as it was, and slicing twice is slicing once.
    assert [node.target for node in graph.graph.nodes].count(aten.conv3d.default) == 1
    again, report = slice_depthwise(sliced)
    assert again is sliced
    assert report.changed == 0


@pytest.mark.parametrize(
    ("channels", "depth", "kernel", "abreast"),
    [(4, 8, 3, 4), (8, 9, 3, 2), (16, 6, 5, 1), (2, 9, 3, 5), (6, 7, 5, 7), (4, 2, 3, 2), (24, 6, 3, 2)],
)
def test_as_many_slices_stand_side_by_side_as_fill_whole_blocks(channels, depth, kernel, abreast):
    network, x = depthwise(channels, kernel), torch.randn(2, channels, depth, 5, 6, dtype=torch.float64)
    graph = graph_for(network, x)
    sliced, report = slice_depthwise(graph)
    assert report.details == (f"conv3d: {kernel} slices, {abreast} side by side",)
    assert_exact(graph, sliced, x, sizes=(0, 1, 2, 3))


def test_a_depth_that_is_known_to_fit_is_not_padded_further():
    network, x = depthwise(4, 3), torch.randn(1, 4, 8, 5, 6, dtype=torch.float64)
    graph = flatten(network.eval(), Example((x,), {}), (Freedom.BATCH,)).graph_module
    sliced, _ = slice_depthwise(graph)
    # Of three taps, the middle one takes the input itself.
    model = written(sliced, x, Freedom.BATCH)
    assert count(model, "Slice") == 2
    torch.testing.assert_close(computing(model)(x), graph(x), atol=1e-12, rtol=1e-12)


def test_a_depth_that_grows_by_steps_that_fit_is_not_filled_up():
    network = depthwise(4, 3)
    example = torch.randn(2, 4, 8, 5, 6, dtype=torch.float64)
    graph = graph_for(network, example)
    for step, slices, depths in ((4, 2, (4, 8, 12)), (2, 4, (2, 6, 8)), (1, 4, (3, 7, 8))):
        sliced, report = slice_depthwise(graph, depth_step=step)
        assert report.details == ("conv3d: 3 slices, 4 side by side",)
        model = written(sliced, example)
        assert count(model, "Slice") == slices
        for depth in depths:
            x = torch.randn(2, 4, depth, 5, 6, dtype=torch.float64)
            for compute in (sliced, computing(model)):
                torch.testing.assert_close(compute(x), graph(x), atol=1e-12, rtol=1e-12)


def test_convolutions_of_one_input_share_their_slices():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = depthwise(), depthwise()
            self.second.weight.data.mul_(2)

        def forward(self, x):
            return torch.relu(self.first(x)) * self.second(x)

    network, x = Two(), volume()
    fused = fuse(graph_for(network, x), (x,), passes=cpu_passes()).graph_module
    model = written(fused, x)
    assert count(model, "Slice") == 7
    torch.testing.assert_close(computing(model)(x), network(x), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (depthwise(padding=0), "another size"),
        (depthwise(stride=2), "another size"),
    ],
)
def test_what_would_not_be_right_or_faster_comes_back_unchanged_with_the_reason(network, reason):
    graph = graph_for(network, volume())
    same, report = slice_depthwise(graph)
    assert same is graph
    assert reason in report.rejected[0].reason


def test_whole_and_flat_convolutions_are_not_looked_at():
    network = nn.Sequential(nn.Conv3d(2, 2, 5, padding=2), nn.Conv3d(2, 4, 1)).double()
    graph = graph_for(network, volume(2))
    same, report = slice_depthwise(graph)
    assert same is graph
    assert report.rejected == ()
