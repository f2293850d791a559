import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from surgeon.export import PASSES, fuse
from surgeon.export.fusion.draft import count_nodes
from surgeon.export.fusion.report import PassReport, join_reports
from torch import fx, nn

from tests.export.networks import Cell, small_unet

from .graphs import assert_exact, graph_of, operations


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_cell_becomes_few_convolutions_and_stays_exact(rank):
    before, x = graph_of(Cell(8, rank), 2, 8, *[6] * rank)
    fused = fuse(before, (x,))
    # Entry, one sum of the wide and the narrow edge, exit; a ReLU, a concatenation, the residual addition.
    assert sorted(re.sub(r"[123]d$", "", name) for name in operations(fused.graph_module)) == sorted(
        ["conv", "relu", "conv", "cat", "conv", "add"]
    )
    assert_exact(before, fused.graph_module, x)


def test_fusing_twice_equals_fusing_once():
    before, x = graph_of(small_unet(), 2, 1, 8, 8)
    once = fuse(before, (x,))
    twice = fuse(once.graph_module, (x,))
    assert twice.graph_module is once.graph_module
    assert twice.changed == 0


def test_a_graph_without_anything_to_fuse_comes_back_itself():
    before, x = graph_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), 2, 1, 8, 8)
    fused = fuse(before, (x,))
    assert fused.graph_module is before
    assert [report.name for report in fused.passes] == [name for name, _ in PASSES]


def test_a_graph_that_writes_in_place_is_left_with_the_reason():
    program = torch.export.export(nn.ReLU(inplace=True).eval(), (torch.randn(1, 2, 4),))
    before = program.module(check_guards=False)
    fused = fuse(before)
    assert fused.graph_module is before
    assert all("writes in place" in report.rejected[0].reason for report in fused.passes)


def test_a_pass_whose_output_differs_is_dropped():
    def wrong(source):
        broken = fx.GraphModule(source, fx.Graph())
        x = broken.graph.placeholder("x")
        broken.graph.output((broken.graph.call_function(torch.mul, (x, 2)),))
        broken.recompile()
        return broken, PassReport("wrong", 1, 3, 1, ("everything",))

    before, x = graph_of(nn.Conv2d(2, 2, 1), 2, 2, 4, 4)
    fused = fuse(before, (x,), passes=(("wrong", wrong),))
    assert fused.graph_module is before
    assert "dropped: the output moved by" in fused.passes[0].rejected[-1].reason
    assert fused.passes[0].changed == 0


def test_a_pass_after_which_nothing_runs_is_dropped():
    def wrong(source):
        broken = fx.GraphModule(source, fx.Graph())
        x = broken.graph.placeholder("x")
        broken.graph.output((broken.graph.call_function(torch.reshape, (x, (7,))),))
        broken.recompile()
        return broken, PassReport("wrong", 1, 3, 1, ("everything",))

    before, x = graph_of(nn.Conv2d(2, 2, 1), 2, 2, 4, 4)
    fused = fuse(before, (x,), passes=(("wrong", wrong),))
    assert fused.graph_module is before
    assert (
        "the output can no longer be computed: shape '[7]' is invalid" in fused.passes[0].rejected[-1].reason
    )


def test_reports_are_plain_json_and_count_nodes():
    before, x = graph_of(small_unet(), 2, 1, 8, 8)
    fused = fuse(before, (x,))
    assert fused.passes[0].nodes_before == count_nodes(before)
    plain = json.loads(json.dumps([report.to_dict() for report in fused.passes]))
    assert {"name", "changed", "nodes_before", "nodes_after", "details", "rejected"} <= set(plain[0])


def test_each_pass_says_what_it_spares():
    # A convolution of 2 x 2 channels and 3x3 taps, a BatchNorm of a product and a sum, a ReLU; 36 places.
    values = 2 * 2 * 6 * 6
    layers = (nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU())
    before, x = graph_of(nn.Sequential(*layers), 2, 2, 6, 6)
    fused = fuse(before, (x,), keep_stages=True)
    report = next(report for report in fused.passes if report.name == "fold_batchnorm")
    assert report.flops_before == values * (2 * 2 * 9 + 2 + 1)
    assert report.flops_after == values * (2 * 2 * 9 + 1 + 1)
    assert [(stage.name, stage.graph_module) for stage in fused.stages] == [
        ("fold_batchnorm", fused.graph_module)
    ]
    assert fuse(before, (x,)).stages == ()
    assert fuse(before).passes[0].flops_before is None


def test_what_other_passes_do_in_between_is_not_counted():
    first = PassReport("one", 1, 100, 90, flops_before=1000, flops_after=900)
    later = PassReport("one", 2, 70, 65, flops_before=500, flops_after=490)
    joined = join_reports(first, later)
    assert (joined.changed, joined.nodes_before, joined.nodes_after) == (3, 100, 85)
    assert (joined.flops_before, joined.flops_after) == (1000, 890)


class Scale(nn.Module):
    def forward(self, x):
        return x * 0.7 - 0.1


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from(["conv", "norm", "relu", "max", "average", "scale"]), min_size=1, max_size=6))
def test_any_chain_of_layers_stays_exact_and_settles(names):
    layers = {
        "conv": lambda: nn.Conv2d(2, 2, 3, padding=1),
        "norm": lambda: nn.BatchNorm2d(2),
        "relu": nn.ReLU,
        "max": lambda: nn.MaxPool2d(3, stride=1, padding=1),
        "average": lambda: nn.AvgPool2d(3, stride=1, padding=1),
        "scale": Scale,
    }
    before, x = graph_of(nn.Sequential(*(layers[name]() for name in names)), 2, 2, 6, 6)
    fused = fuse(before, (x,))
    assert_exact(before, fused.graph_module, x)
    assert fuse(fused.graph_module, (x,)).changed == 0
