import pytest
import torch
from surgeon.export import Freedom
from surgeon.export.fusion.flops import FlopCounter
from surgeon.export.fusion.planes import convolve_planes
from surgeon.export.fusion.planewise import PAIRS, TAPS
from torch import nn

from .graphs import assert_exact, graph_of
from .written import assert_written_exactly, computing, count, written

aten = torch.ops.aten


def kinds(graph_module):
    return [node.target for node in graph_module.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("depth", [6, 7])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_two_planes_at_a_time_are_the_convolution_borders_included(bias, depth, padding):
    network = nn.Conv3d(5, 6, 3, padding=(padding, 1, 1), stride=(1, 2, 1), bias=bias)
    before, x = graph_of(network, 2, 5, depth, 8, 9)
    after, report = convolve_planes(before)
    assert report.details == ("conv3d: 2 planes at a time",)
    assert kinds(after) == [PAIRS.target]
    assert_exact(before, after, x, sizes=(0, 1, 2))
    assert_written_exactly(before, after, x, sizes=(0, 1))


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (3, {"stride": 2, "padding": 1}),
        (3, {"dilation": 2, "padding": 2}),
        ((2, 3, 1), {"padding": (1, 1, 0)}),
        (5, {"padding": 2, "stride": (3, 1, 2)}),
    ],
)
def test_taps_sum_to_the_convolution_borders_included(kernel, options):
    before, x = graph_of(nn.Conv3d(4, 5, kernel, **options), 2, 4, 9, 8, 7)
    after, report = convolve_planes(before)
    assert report.details[0].endswith("taps")
    assert kinds(after) == [TAPS.target]
    assert_exact(before, after, x, sizes=(0, 1, 2))
    assert_written_exactly(before, after, x, sizes=(0, 1))


@pytest.mark.parametrize("freedom", [Freedom.BATCH, Freedom.NOTHING])
@pytest.mark.parametrize(("depth", "padding", "masked"), [(6, 1, 2), (2, 1, 2), (6, 0, 0), (4, 2, 4)])
def test_of_an_even_depth_only_what_lies_beyond_its_ends_is_masked(freedom, depth, padding, masked):
    before, x = graph_of(nn.Conv3d(4, 4, 3, padding=padding), 2, 4, depth, 6, 6, freedom=freedom)
    after, _ = convolve_planes(before)
    model = written(after, x, freedom)
    assert count(model, "Mul") == masked
    torch.testing.assert_close(computing(model)(x), before(x), atol=1e-12, rtol=1e-12)


def test_of_depths_that_are_all_even_no_plane_is_cut_off():
    before, example = graph_of(nn.Conv3d(4, 4, 3, padding=1), 2, 4, 6, 6, 6)
    for step, masked, depths in ((2, 2, (2, 6, 8)), (1, 3, (3, 6, 7))):
        after, _ = convolve_planes(before, depth_step=step)
        model = written(after, example)
        assert count(model, "Mul") == masked
        for depth in depths:
            x = torch.randn(2, 4, depth, 6, 6, dtype=torch.float64)
            for compute in (after, computing(model)):
                torch.testing.assert_close(compute(x), before(x), atol=1e-12, rtol=1e-12)


def test_products_of_planes_are_counted():
    before, x = graph_of(nn.Conv3d(4, 8, 3, padding=1, bias=False), 1, 4, 8, 6, 6)
    after, _ = convolve_planes(before)
    with torch.no_grad(), FlopCounter() as counter:
        after(x)
    products = 4 * 2 * (8 * 4 * 6 * 6) * (4 * 9)  # four convolutions of four pairs of planes
    sums = 4 * (4 * 4 * 6 * 6) + 4 * (8 * 4 * 6 * 6)
    assert counter.total == products + sums


def test_what_is_no_number_spreads_no_further_than_the_kernel_reaches():
    before, x = graph_of(nn.Conv3d(4, 4, 3, padding=1), 1, 4, 8, 6, 6)
    after, _ = convolve_planes(before)
    compute = computing(written(after, x))
    for plane, reached in ((0, [0, 1]), (7, [6, 7])):
        spoilt = x.clone()
        spoilt[:, :, plane] = float("nan")
        lost = compute(spoilt).isnan().flatten(3).any(3)[0, 0]
        # Two planes are computed at a time, of four: a pair is lost whole.
        assert lost.nonzero().flatten().tolist() in (reached, sorted({*reached, *(n ^ 1 for n in reached)}))


def test_rewriting_twice_is_rewriting_once_and_the_input_stays():
    before, _ = graph_of(nn.Conv3d(4, 4, 3, padding=1), 2, 4, 6, 6, 6)
    after, _ = convolve_planes(before)
    again, report = convolve_planes(after)
    assert again is after
    assert report.changed == 0
    assert aten.conv3d.default in kinds(before)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Conv3d(3, 8, 3), "too few channels"),
        (nn.Conv3d(8, 3, 3), "too few channels"),
        (nn.ConvTranspose3d(4, 4, 2, stride=2), "transposed"),
        (nn.Conv3d(4, 4, 2, padding="same"), "padded unevenly"),
    ],
)
def test_what_would_not_be_faster_comes_back_unchanged_with_the_reason(network, reason):
    before, _ = graph_of(network, 2, network.in_channels, 6, 6, 6)
    same, report = convolve_planes(before)
    assert same is before
    assert reason in report.rejected[0].reason


def test_pointwise_grouped_and_flat_convolutions_are_not_looked_at():
    network = nn.Sequential(nn.Conv3d(4, 4, 1), nn.Conv3d(4, 4, 3, groups=2), nn.Conv3d(4, 4, (1, 3, 3)))
    before, _ = graph_of(network, 2, 4, 6, 6, 6)
    same, report = convolve_planes(before)
    assert same is before
    assert report.rejected == ()
