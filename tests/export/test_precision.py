import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx_ir.passes.common import TopologicalSortPass
from onnxruntime.transformers.float16 import convert_float_to_float16
from surgeon.export import Freedom, flatten, to_onnx
from surgeon.export.onnx import build_model
from surgeon.export.precision import halve, measure_ranges
from surgeon.export.rounding import rounding_twin
from torch import nn

from surgeon.errors import ExportError
from surgeon.tracing import Example

from .networks import image, small_unet, stir


def model_of(network, x):
    program = flatten(network.eval(), Example((x,), {}), (Freedom.NOTHING,)).program
    return build_model(program, 20, ("input",), ("output",), {})


def types_of(path):
    """Return the type of the weights of each operator."""
    model = onnx.load(path)
    weights = {item.name: item.data_type for item in model.graph.initializer}
    return {
        (node.op_type, weights[name]) for node in model.graph.node for name in node.input if name in weights
    }


def test_a_half_export_computes_in_half_and_speaks_float(tmp_path):
    network = small_unet()
    artifact = to_onnx(network, image(), tmp_path / "out", "ort-cuda", "fp16")
    assert ("Conv", onnx.TensorProto.FLOAT16) in types_of(artifact.model)
    assert {port.type for port in (*artifact.inputs, *artifact.outputs)} == {"float32"}
    assert [port.name for port in artifact.outputs] == ["output"]
    assert 1e-7 < max(case.difference.relative for case in artifact.parity) < 2e-2


def test_the_file_is_about_half_as_large(tmp_path):
    network = stir(nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)))
    sizes = [
        to_onnx(network, image(), tmp_path / name, precision=name, sizes="fixed").model.stat().st_size
        for name in ("fp32", "fp16")
    ]
    assert sizes[1] < 0.55 * sizes[0]


class Loud(nn.Module):
    """Activations beyond 65504 in its middle, from weights that float16 holds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.InstanceNorm2d(4),
            nn.Conv2d(4, 2, 1),
        )
        with torch.no_grad():
            self.first.weight.mul_(1.5e5)

    def forward(self, x):
        return self.second(self.norm(torch.relu(self.first(x))))


def answer(model, x):
    """Run a model, given as bytes or as a path."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x.numpy()})[0]


def test_activations_beyond_float16_stay_right_where_a_naive_conversion_breaks(tmp_path):
    network, x = Loud().eval(), image()
    with torch.no_grad():
        assert network.first(x).abs().max() > 65504
        expected = network(x).numpy()
    artifact = to_onnx(network, x, tmp_path / "out", precision="fp16")
    assert any("norms" in reason for reason in artifact.kept_in_fp32.values())
    assert any("reaches" in reason for reason in artifact.kept_in_fp32.values())
    onnx.checker.check_model(str(artifact.model), full_check=True)
    # Right as onnxruntime runs it here, and where every float16 value is rounded as on a GPU.
    twin = ir.to_proto(rounding_twin(ir.load(artifact.model))).SerializeToString()
    for found in (answer(str(artifact.model), x), answer(twin, x)):
        assert np.abs(found - expected).max() < 2e-2 * np.abs(expected).max()
    assert sum("rounded to float16" in case.what for case in artifact.parity) >= len(artifact.parity) // 3

    plain = to_onnx(network, x, tmp_path / "plain").model
    naive = ir.from_proto(convert_float_to_float16(onnx.load(plain), keep_io_types=True))
    TopologicalSortPass()(naive)
    broken = answer(ir.to_proto(rounding_twin(naive)).SerializeToString(), x)
    assert not np.isfinite(broken).all()


def test_a_naive_conversion_is_refused_by_the_gate(tmp_path, monkeypatch):
    def convert(model, _inputs):
        naive = ir.from_proto(convert_float_to_float16(ir.to_proto(model), keep_io_types=True))
        return naive, {}

    monkeypatch.setattr("surgeon.export.writing.halve", convert)
    with pytest.raises(
        ExportError, match="does not compute what the network computes: largest difference inf"
    ):
        to_onnx(Loud(), image(), tmp_path / "out", precision="fp16")
    assert not list(tmp_path.iterdir())


class Shares(nn.Module):
    """Divides by sums that a number below float16's smallest keeps from zero."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)

    def forward(self, x):
        x = self.first(x).relu()
        x = self.last(x / (x.sum(1, keepdim=True) + 1e-8))
        return x / torch.sqrt((x * x).mean((2, 3), keepdim=True) + 1e-8)


def test_what_divides_by_what_float16_takes_for_zero_stays_float(tmp_path):
    torch.manual_seed(0)
    artifact = to_onnx(stir(Shares()), image(), tmp_path / "out", precision="fp16")
    reasons = [why for name, why in artifact.kept_in_fp32.items() if name.startswith("Div")]
    assert reasons == ["it divides by what may be next to zero"] * 2
    assert ("Conv", onnx.TensorProto.FLOAT16) in types_of(artifact.model)


def test_samples_say_how_far_activations_reach(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    with torch.no_grad():
        network[0].weight.fill_(100.0)
        network[2].weight.mul_(0.001)
    quiet = to_onnx(network, image(), tmp_path / "quiet", precision="fp16", sizes="fixed")
    loud = to_onnx(
        network, image(), tmp_path / "loud", precision="fp16", sizes="fixed", samples=[100 * image()[0]]
    )
    assert not quiet.kept_in_fp32
    assert any("reaches" in reason for reason in loud.kept_in_fp32.values())


def test_rounding_happens_where_a_cpu_would_leave_it_out(tmp_path):
    """A third in float16 is 0.33325195; what onnxruntime's CPU gives is a float32 third."""
    network = nn.Conv2d(1, 1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(1.0)
    half, _ = halve(model_of(nn.Sequential(network, nn.ReLU(), network), image()), [[image()]])
    x = torch.full((1, 1, 16, 16), 1 / 3)
    twin = ir.to_proto(rounding_twin(half)).SerializeToString()
    assert np.unique(answer(twin, x)).tolist() == [float(np.float16(1 / 3))]


def test_ranges_are_measured_for_every_tensor():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    x = image()
    ranges = measure_ranges(model_of(network, x), [[0.5 * x], [x]])
    assert ranges["input"] == pytest.approx(float(x.abs().max()))
    assert ranges["output"] == pytest.approx(float(network(x).abs().max().detach()), rel=1e-5)


def test_the_given_model_stays_as_it_was():
    model = model_of(nn.Conv2d(1, 2, 1), image())

    def types():
        outputs = [str(value.dtype) for node in model.graph for value in node.outputs]
        return outputs + [str(value.dtype) for value in model.graph.initializers.values()]

    before = types()
    rounding_twin(halve(model, [[image()]])[0])
    assert types() == before


def test_a_network_without_a_safe_node_is_refused():
    with pytest.raises(ExportError, match="none of its nodes can run in float16"):
        halve(model_of(nn.InstanceNorm2d(1), image()), [[image()]])


def test_a_graph_with_branches_is_refused():
    class Branches(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))

    with pytest.raises(ExportError, match="branches or functions cannot be turned into float16"):
        halve(model_of(Branches(), image()), [[image()]])
