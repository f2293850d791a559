"""A trace computes what the host computes, on other inputs too, and leaves the host alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from surgeon.errors import InputError, TraceError
from surgeon.hosts import try_inputs
from surgeon.skips import locate
from surgeon.tracing import Way, as_example, ladder, run, trace
from surgeon.tracing.limits import TookTooLong, time_limit
from surgeon.tracing.replay import holds, replay
from surgeon.tracing.ways import export_graph, symbolic_graph
from tests.core import networks
from tests.core.networks import image
from tests.core.tracing import conditional


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def broken(*args, **kwargs):
    raise RuntimeError("this way is closed")


# --- what a trace is


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_graph_equals_its_host_on_another_batch_and_another_size(dims):
    host = networks.UNet(dims).eval()
    traced = trace(host, image(dims))
    assert traced.summary.free_batch
    assert traced.summary.free_sizes
    with torch.no_grad():
        for x in (image(dims), image(dims, batch=3), image(dims, size=24)):
            assert torch.equal(traced.graph_module(x), host(x))


def test_every_variant_that_was_compared_is_written_down():
    summary = trace(networks.UNet(), image()).summary
    assert [(r.what, r.shapes) for r in summary.replays] == [
        ("example", ((1, 1, 16, 16),)),
        ("batch", ((2, 1, 16, 16),)),
        ("size", ((1, 1, 24, 16),)),
        ("step", ((1, 1, 20, 20),)),
    ]
    assert all(r.difference.equal for r in summary.replays)
    assert summary.to_dict()["way"] == "torch.export, free batch and sizes"


def test_nodes_know_their_shape_and_the_module_they_run_in():
    nodes = list(trace(networks.UNet(), image()).graph_module.graph.nodes)
    merges = [n for n in nodes if n.target is torch.ops.aten.cat.default]
    # 6 skip channels and 6 projected ones at half size; 4 and 4 at full size.
    assert [(n.meta["shape"], n.meta["module"]) for n in merges] == [
        ((1, 12, 8, 8), "join1"),
        ((1, 8, 16, 16), "join0"),
    ]
    assert all("networks.py:" in n.meta["site"] for n in merges)


def test_parameters_and_buffers_keep_names_and_storage():
    host = networks.UNet()
    graph = trace(host, image()).graph_module
    assert list(graph.state_dict()) != []
    assert set(graph.state_dict()) == set(host.state_dict())
    found = dict(graph.named_parameters())
    assert all(found[name] is parameter for name, parameter in host.named_parameters())


def test_the_host_is_left_as_it_is():
    host = networks.UNet().train()
    host.enc1.eval()  # a mixed state that one call of train() or eval() would not bring back
    modes = {name: module.training for name, module in host.named_modules()}
    state = {name: tensor.clone() for name, tensor in host.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in host.named_modules()}
    trace(host, image())
    assert {name: module.training for name, module in host.named_modules()} == modes
    assert {name: set(vars(module)) for name, module in host.named_modules()} == attributes
    assert all(torch.equal(host.state_dict()[name], tensor) for name, tensor in state.items())
    assert all(p.requires_grad and p.grad is None for p in host.parameters())


def test_the_random_generator_is_left_where_it_was():
    host, before = networks.UNet(), torch.get_rng_state()
    trace(host, image())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_graph_module_is_taken_as_it_is():
    host = networks.UNet().eval()
    given = trace(host, image()).graph_module
    traced = trace(given, image())
    assert traced.summary.way is Way.GIVEN
    assert traced.graph_module is not given
    assert [n.name for n in traced.graph_module.graph.nodes] == [n.name for n in given.graph.nodes]


def test_a_symbolic_graph_is_taken_as_it_is():
    host = networks.UNet().eval()
    traced = trace(fx.symbolic_trace(host), image())
    assert traced.summary.way is Way.GIVEN
    assert torch.equal(run(traced.graph_module, traced.example), run(host, traced.example))


# --- forms of inputs and outputs


def test_several_inputs_keywords_dictionaries_and_in_place_merges_are_traced():
    host, x, y = conditional.ManyForms().eval(), image(), image(size=16, batch=1) + 1
    traced = trace(host, (x, y), {"scale": torch.full((1, 1, 1, 1), 2.0)})
    with torch.no_grad():
        other = (image(batch=2), image(batch=2))
        found = traced.graph_module(*other, scale=torch.full((2, 1, 1, 1), 3.0))
        expected = host(*other, scale=torch.full((2, 1, 1, 1), 3.0))
    assert list(found) == ["out", "parts"]
    assert isinstance(found["parts"], list)
    assert torch.equal(found["out"], expected["out"])


def test_an_optional_input_that_is_not_given_stays_away():
    host = conditional.ManyForms().eval()
    traced = trace(host, (image(), image()))
    assert sum(n.op == "placeholder" and bool(n.users) for n in traced.graph_module.graph.nodes) == 2


def test_complex_inputs_are_traced():
    host = conditional.ComplexInput().eval()
    k = torch.complex(image(), image())
    traced = trace(host, k)
    assert traced.summary.free_sizes
    assert holds(replay("size", run(host, traced.example), traced.graph_module, traced.example))


# --- what a host or a graph refuses


def test_a_size_that_the_host_refuses_is_a_finding():
    summary = trace(conditional.FixedSize(16), image()).summary
    assert summary.free_batch
    assert not summary.free_sizes
    refused = next(r for r in summary.replays if r.what == "size")
    assert refused.difference is None
    assert refused.remark.startswith("the host itself refuses: RuntimeError: mat1 and mat2")


def test_a_graph_that_is_wrong_at_another_batch_says_so():
    summary = trace(conditional.OnBatch(), image()).summary
    assert not summary.free_batch
    wrong = next(r for r in summary.replays if r.what == "batch")
    assert wrong.remark
    assert not wrong.difference.equal


def test_control_flow_on_values_is_an_error_with_file_and_line():
    source = Path(conditional.__file__).read_text().splitlines()
    line = next(i for i, text in enumerate(source, 1) if "the line that cannot be traced" in text)
    with pytest.raises(TraceError, match="OnValues could not be traced") as caught:
        trace(conditional.OnValues(), image())
    assert f"conditional.py:{line}" in caught.value.where
    assert "x.mean() > 0.5" in caught.value.where
    assert "without control flow on tensor values" in caught.value.fix


def test_an_error_names_each_line_that_cannot_be_traced_once():
    with pytest.raises(TraceError) as caught:
        trace(conditional.OnValues(), image())
    assert caught.value.where.count("conditional.py:") == 1
    assert "guiding.py" not in caught.value.where


class Counting(nn.Module):
    """Makes a tensor whose size is a value of its input."""

    def forward(self, x):
        return x[..., :1] * torch.ones(int(x.amax()) + 1)


def test_an_error_within_a_function_of_torch_names_the_line_that_called_it():
    with pytest.raises(TraceError) as caught:
        trace(Counting(), image())
    assert "test_tracing.py" in caught.value.where
    assert "surgeon/tracing" not in caught.value.where


def test_sizes_that_go_through_tensors_are_traced_and_stay_free(capfd):
    host = conditional.CropsByTensor().eval()
    traced = trace(host, image(size=16))
    assert traced.summary.way is Way.EXPORT_GUIDED
    assert traced.summary.free_batch
    assert traced.summary.free_sizes
    assert capfd.readouterr() == ("", "")  # torch.export prints the graphs that it cannot finish
    with torch.no_grad():
        x = torch.rand(3, 1, 22, 18)
        assert torch.equal(traced.graph_module(x), host(x))


def test_sizes_that_become_integers_are_traced_at_the_size_of_the_example():
    host = conditional.CropsByInt().eval()
    traced = trace(host, image(size=19))
    assert traced.summary.way is Way.EXPORT_GUIDED_FIXED
    assert traced.summary.free_batch
    with torch.no_grad():
        x = torch.rand(3, 1, 19, 19)
        assert torch.equal(traced.graph_module(x), host(x))


def test_a_picture_written_into_a_tensor_of_zeros_is_followed():
    host = conditional.PadsByHand().eval()
    traced = trace(host, image(size=16))
    graph = traced.graph_module.graph
    assert not [node for node in graph.nodes if "copy_" in str(node.target)]
    (cat,) = (node for node in graph.nodes if node.target is torch.ops.aten.cat.default)
    ancestors = {cat.args[0][0]}
    for node in reversed(list(graph.nodes)):
        ancestors |= set(node.all_input_nodes) if node in ancestors else set()
    assert any(node.target is torch.ops.aten.relu.default for node in ancestors)
    with torch.no_grad():
        x = torch.rand(2, 1, 16, 16)
        assert torch.equal(traced.graph_module(x), host(x))


def test_a_symbolic_graph_without_the_skip_is_caught_by_its_replay():
    host = conditional.AsksTheScripter().eval()
    traced = trace(host, image())  # torch.export runs the code itself and sees a tensor
    assert traced.summary.way is Way.EXPORT_FREE
    wrong = symbolic_graph(host, traced.example)
    assert not holds(replay("example", run(host, traced.example), wrong, traced.example))


def test_a_wrong_graph_is_never_returned(monkeypatch):
    monkeypatch.setattr(ladder, "export_graph", broken)
    with pytest.raises(TraceError, match="the graph differs from the host: largest difference"):
        trace(conditional.AsksTheScripter(), image())


def test_the_next_way_is_taken_when_one_fails_and_the_attempt_is_kept(monkeypatch):
    monkeypatch.setattr(ladder, "export_graph", broken)
    summary = trace(networks.UNet(), image()).summary
    assert summary.way is Way.SYMBOLIC
    assert [a.way for a in summary.attempts] == [Way.EXPORT_FREE]
    assert "RuntimeError: this way is closed" in summary.attempts[0].reason


def test_monai_basic_unet_keeps_the_skips_that_symbolic_tracing_drops():
    monai = pytest.importorskip("monai")
    host = monai.networks.nets.BasicUNet(2, 1, 2, features=(4, 4, 8, 8, 8, 4)).eval()
    traced = trace(host, image(size=32))
    cats = [n for n in traced.graph_module.graph.nodes if n.target is torch.ops.aten.cat.default]
    assert len(cats) == 4
    with torch.no_grad():
        assert torch.equal(traced.graph_module(image(size=64)), host(image(size=64)))


# --- bounds on time


def test_a_block_that_runs_too_long_is_interrupted():
    def busy(until):
        while time.monotonic() < until:
            sum(range(100))

    begin = time.monotonic()
    with pytest.raises(TookTooLong), time_limit(0.05):
        busy(begin + 30)
    assert time.monotonic() - begin < 10


def test_a_block_that_ends_in_time_is_not_interrupted_later():
    with time_limit(0.05):
        done = True
    time.sleep(0.1)
    assert done


def test_a_way_that_takes_too_long_is_an_attempt(monkeypatch):
    def endless(*args, sizes, **kwargs):
        while sizes:
            sum(range(100))
        raise RuntimeError

    monkeypatch.setattr(ladder, "export_graph", endless)
    monkeypatch.setattr(ladder, "TIME_LIMIT", 2.0)
    summary = trace(networks.UNet(), image()).summary
    assert summary.way is Way.SYMBOLIC
    assert summary.attempts[0].reason == "took longer than 2 seconds"


# --- inputs that cannot be used


def test_inputs_without_an_image_are_refused():
    with pytest.raises(InputError, match=r"no input has the form \(N, C, \*spatial\): \[\(4, 8\)\]"):
        trace(nn.Linear(8, 8), torch.rand(4, 8))


def test_no_tensor_at_all_is_refused():
    with pytest.raises(InputError, match="no tensor at all"):
        trace(nn.Identity(), ())


def test_inputs_that_the_host_fails_on_are_refused_with_its_words():
    with pytest.raises(InputError, match="to have 1 channels, but got 3 channels") as caught:
        trace(networks.UNet(), image(channels=3))
    assert caught.value.where == "UNet on [(1, 3, 16, 16)]"
    assert "channels" in caught.value.fix


class _ReadsData(nn.Module):
    """A shortcut that drops its gradient by hand and pads its channels, as residual networks of 2016 do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = torch.cat([x.data, torch.zeros(x.size(0), 1, *x.shape[2:])], dim=1)
        return self.conv(x) + padded


def test_a_network_that_reads_data_is_traced_and_the_property_is_put_back():
    before = torch.Tensor.data
    traced = trace(_ReadsData(), torch.rand(1, 1, 8, 8))
    assert traced.summary.free_sizes
    assert traced.summary.free_batch
    assert torch.Tensor.data is before


class _ViewsRows(nn.Module):
    """Positions as rows: those of one image lie across its memory, those of two are copied."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2, 6))
        self.grid = nn.Parameter(torch.rand(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, *sizes = x.shape
        rows = x.flatten(2).transpose(1, 2).reshape(-1, channels)  # (N L, C)
        bases = (rows.unsqueeze(-1) - self.grid).contiguous().view(rows.shape[0], -1)  # (N L, 3 C)
        mixed = nn.functional.linear(bases, self.weight)
        return mixed.reshape(batch, -1, 2).transpose(1, 2).reshape(batch, 2, *sizes)


def test_a_copy_that_the_tracer_left_out_is_made_where_a_view_needs_it():
    host = _ViewsRows().eval()
    summary = trace(host, image(channels=2)).summary
    assert summary.way is Way.EXPORT_FREE
    assert [r.difference.equal for r in summary.replays] == [True] * 4


class _Recurrent(nn.Module):
    """A sequence with a bottleneck that remembers; the state is made for the batch at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(4, 4)
        self.out = nn.Conv1d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        remembered, _ = self.memory(x.permute(2, 0, 1))  # (L, N, C)
        return self.out(remembered.permute(1, 2, 0))


def test_a_state_made_for_one_image_is_not_run_on_two():
    # The operator does not check: it writes beyond the state, and the process dies later.
    example = as_example(torch.rand(1, 4, 8))
    fixed = export_graph(_Recurrent().eval(), example, batch=False, sizes=False)
    outcome = replay("batch", torch.zeros(2, 1, 8), fixed, as_example(torch.rand(2, 4, 8)))
    assert not holds(outcome)
    assert "gru has a state for 1 sequences and gets 2" in outcome.remark


class _PoolsByConstant(nn.Module):
    """A summary by a pooling as wide as the map: traced at one size, the width is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = nn.AvgPool2d(tuple(int(str(size)) for size in x.shape[2:]))(x)  # a number for certain
        return self.conv(x) + 1e-6 * pooled[:, :, :1, :1]


def test_a_graph_that_is_fixed_to_a_size_is_no_free_one_where_the_difference_is_small():
    # At 24 x 16 the fixed graph pools 16 rows of 24, which changes the output by a millionth.
    summary = trace(_PoolsByConstant(), image()).summary
    assert not summary.free_sizes
    (size,) = (r for r in summary.replays if r.what == "size")
    assert size.difference.relative < 1e-4
    assert not size.difference.equal
    assert size.remark == "the graph is fixed to the example"


class WithPositions(nn.Module):
    """Knows forty positions: an image of thirty-three may grow, but not to twice its size."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 4, 40))
        self.convolution = nn.Conv1d(1, 4, 3, padding=1)

    def forward(self, x):
        return self.convolution(x) + self.positions[:, :, : x.shape[2]]


def test_sizes_stay_free_where_the_host_grows_by_single_steps_and_not_to_twice_its_size():
    host = WithPositions().eval()
    traced = trace(host, torch.randn(1, 1, 33))
    assert traced.summary.free_sizes
    assert "size" in {outcome.what for outcome in traced.summary.replays if outcome.difference}
    with torch.no_grad():
        for size in (20, 37, 40):
            x = torch.randn(2, 1, size)
            assert torch.equal(traced.graph_module(x), host(x))


class AlwaysTraining(nn.BatchNorm2d):
    """A norm that takes the statistics of the batch in any mode, as those of some V-Nets do."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.1)


def test_norms_that_train_in_any_mode_keep_their_running_statistics():
    host = nn.Sequential(nn.Conv2d(1, 4, 3), AlwaysTraining(4), nn.Conv2d(4, 2, 1)).eval()
    before = {name: value.clone() for name, value in host.state_dict().items()}
    x = image()
    try_inputs(host, (x,))
    graph = trace(host, x).graph_module
    found = graph(x)
    assert all(torch.equal(value, before[name]) for name, value in host.state_dict().items())
    assert torch.equal(found, host(x))


@dataclass
class Maps:
    """What networks with several heads give."""

    classes: torch.Tensor
    name: str = "cells"
    boundary: torch.Tensor | None = None


class Stacked(nn.Module):
    """A U-Net that adds its skip as the sum of a stack, and gives dataclasses."""

    def __init__(self, join):
        super().__init__()
        self.join = join
        self.first, self.down, self.last = (nn.Conv2d(n, 4, 3, padding=1) for n in (1, 4, 4))

    def forward(self, x):
        shallow = self.first(x).relu()
        deep = F.interpolate(self.down(F.max_pool2d(shallow, 2)).relu(), scale_factor=2)
        y = self.last(self.join([deep, shallow]))
        return {"cells": Maps(y, boundary=y * 2), "tissue": Maps(y + 1)}


@pytest.mark.parametrize(
    "join",
    [
        lambda pair: torch.stack(pair, dim=0).sum(dim=0),
        lambda pair: torch.sum(torch.stack(tensors=pair, dim=1), 1),
    ],
)
def test_the_sum_of_a_stack_is_an_addition_and_dataclasses_are_outputs(join):
    host, x = Stacked(join).eval(), image()
    traced = trace(host, x)
    assert traced.summary.free_sizes
    found, expected = traced.graph_module(x), host(x)
    assert isinstance(found["cells"], Maps)
    assert found["cells"].name == "cells"
    assert torch.equal(found["tissue"].classes, expected["tissue"].classes)
    assert torch.equal(symbolic_graph(host, as_example(x))(x)["cells"].classes, expected["cells"].classes)
    (skip,) = locate(traced).skips
    assert (skip.merge.value, skip.merge_shape[1:]) == ("add", (4, *x.shape[2:]))
