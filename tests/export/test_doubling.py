import itertools

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from surgeon.export import Freedom, flatten, to_onnx
from surgeon.export.doubling import NAME, example_sizes, merge_upsampling_by_size
from surgeon.export.flattening import export_program
from surgeon.export.onnx import build_model
from torch import nn
from torch.nn import functional as F

from surgeon.tracing import Example

from .networks import CONVOLUTIONS, stir


class ToSizeOfSkip(nn.Module):
    """Upsamples to the size of its input, which is twice as large or one less, and convolves both."""

    def __init__(self, rank=2, kernel=3, skip=True, channels=32, **options):
        super().__init__()
        self.skip = skip
        self.before = CONVOLUTIONS[rank - 1](2, 3, 1)
        options = {"padding": kernel // 2, **options}
        self.convolution = CONVOLUTIONS[rank - 1](3 + 2 * skip, channels, kernel, **options)

    def small(self, x):
        return self.before(x[(..., *[slice(None, None, 2)] * (x.ndim - 2))])

    def forward(self, x):
        large = F.interpolate(self.small(x), size=x.shape[2:], mode="nearest")
        return self.convolution(torch.cat([large, x], 1) if self.skip else large)


def translated(network, x):
    """Return a network as ONNX with free sizes, and the example's sizes of its values."""
    flat = flatten(stir(network), Example((x,), {}))
    assert flat.freedom is Freedom.BATCH_AND_SIZES
    program = export_program(flat.graph_module, flat.example, flat.freedom)
    return build_model(program, 18, ("input",), ("output",), {}), example_sizes(program.graph)


def given(model, x):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


def kinds(model):
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    ("rank", "skip", "bias"),
    [(1, True, True), (2, True, False), (2, False, True), (3, True, True), (3, False, False)],
)
def test_the_choice_is_right_at_sizes_that_double_and_at_those_that_do_not(rank, skip, bias):
    network = ToSizeOfSkip(rank, skip=skip, bias=bias)
    model, sizes = translated(network, torch.randn(2, 2, *[6] * rank))
    merged, report = merge_upsampling_by_size(model, sizes)
    assert report.changed == 1
    assert kinds(merged).count("If") == 1
    assert "Resize" not in kinds(merged)
    for shape in itertools.product((6, 7), repeat=rank):
        x = torch.randn(1, 2, *shape)
        torch.testing.assert_close(given(merged, x), network(x).detach(), rtol=0, atol=1e-5)


def test_the_short_way_is_taken_where_the_size_doubles_and_there_alone():
    model, sizes = translated(ToSizeOfSkip(), torch.randn(1, 2, 6, 6))
    merged, _ = merge_upsampling_by_size(model, sizes)
    choice = next(node for node in merged.graph if node.op_type == "If")
    short = next(
        node for node in choice.attributes["then_branch"].as_graph() if node.op_type == "ConvTranspose"
    )
    weight = short.inputs[1].const_value
    short.inputs[1].const_value = ir.tensor(weight.numpy() * 2, name=short.inputs[1].name)
    even, odd = torch.randn(1, 2, 8, 6), torch.randn(1, 2, 8, 7)
    assert (given(merged, even) - given(model, even)).abs().max() > 1e-2
    torch.testing.assert_close(given(merged, odd), given(model, odd), rtol=0, atol=1e-5)


def test_a_kernel_of_five_and_two_upsampled_parts():
    class Two(ToSizeOfSkip):
        def forward(self, x):
            small = self.small(x)
            parts = [F.interpolate(y, size=x.shape[2:], mode="nearest") for y in (small, small.relu())]
            return self.convolution(torch.cat([parts[0], x, parts[1]], 1)).relu()

    network = Two(kernel=5)
    network.convolution = nn.Conv2d(8, 32, 5, padding=2)
    model, sizes = translated(network, torch.randn(2, 2, 6, 6))
    merged, report = merge_upsampling_by_size(model, sizes)
    assert report.changed == 1
    assert kinds(merged).count("If") == 2
    for shape in ((8, 8), (9, 8), (8, 9), (11, 11)):
        x = torch.randn(1, 2, *shape)
        torch.testing.assert_close(given(merged, x), network(x).detach(), rtol=0, atol=1e-5)


def test_merging_twice_is_merging_once_and_the_input_stays():
    model, sizes = translated(ToSizeOfSkip(), torch.randn(1, 2, 6, 6))
    kept = kinds(model)
    merged, _ = merge_upsampling_by_size(model, sizes)
    assert merge_upsampling_by_size(merged, sizes)[0] is merged
    assert kinds(model) == kept


def test_operations_are_counted_as_the_passes_count_theirs():
    model, sizes = translated(ToSizeOfSkip(), torch.randn(2, 2, 6, 6))
    _, report = merge_upsampling_by_size(model, sizes, 1_000_000)
    values = 2 * 32 * 6 * 6
    # Nine taps of three channels become four of them, and a sum is added.
    assert report.flops_before - report.flops_after == 2 * values * 3 * (9 - 4) - values


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (ToSizeOfSkip(stride=2), "strided"),
        (ToSizeOfSkip(padding=0), "another size than it reads"),
        (ToSizeOfSkip(kernel=1), "one tap"),
        (ToSizeOfSkip(channels=8), "fewer than 32 channels"),
    ],
)
def test_what_cannot_be_merged_comes_back_unchanged_with_the_reason(network, reason):
    model, sizes = translated(network, torch.randn(1, 2, 6, 6))
    same, report = merge_upsampling_by_size(model, sizes)
    assert same is model
    assert reason in report.rejected[0].reason


def test_an_upsampled_value_that_others_read_stays():
    class Read(ToSizeOfSkip):
        def forward(self, x):
            large = F.interpolate(self.small(x), size=x.shape[2:])
            return self.convolution(torch.cat([large, x], 1)) + large.mean(1, keepdim=True)

    model, sizes = translated(Read(), torch.randn(1, 2, 6, 6))
    same, report = merge_upsampling_by_size(model, sizes)
    assert same is model
    assert "read by others" in report.rejected[0].reason


@pytest.mark.parametrize(("target", "precision", "merged"), [("ort-cpu", "fp32", 1), ("ort-cuda", "fp32", 0)])
def test_an_export_for_a_cpu_holds_both_ways_and_is_proved_on_both(target, precision, merged, tmp_path):
    artifact = to_onnx(stir(ToSizeOfSkip()), torch.randn(1, 2, 6, 6), tmp_path / "x", target, precision)
    changed = {report.name: report.changed for report in artifact.fusion}
    assert changed.get(NAME, 0) == merged
    assert {shape[2] % 2 for case in artifact.parity for shape in case.shapes} == {0, 1}
    assert artifact.nodes >= sum(1 for _ in ir.load(artifact.model).graph.all_nodes()) > 0


def test_int8_claims_no_choice_that_it_does_not_hold(tmp_path):
    torch.manual_seed(0)
    network = stir(nn.Sequential(ToSizeOfSkip(), nn.ReLU(), nn.Conv2d(32, 2, 1)))
    samples = [torch.randn(2, 2, 12, 12) for _ in range(4)]
    artifact = to_onnx(network, samples[0], tmp_path / "x", precision="int8", samples=samples)
    assert NAME not in {report.name for report in artifact.fusion}
    assert not any(node.op_type == "If" for node in ir.load(artifact.model).graph)
