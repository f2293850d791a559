import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from surgeon.export import Freedom, flatten, to_onnx
from surgeon.export.onnx import build_model
from surgeon.export.precision import halve, measure_ranges
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


def test_norms_stay_in_float32_and_survive_large_activations(tmp_path):
    class Loud(nn.Module):
        """Means of squares near 1e8: beyond float16 by three orders."""

        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = (
                nn.Conv2d(1, 4, 3, padding=1),
                nn.InstanceNorm2d(4),
                nn.Conv2d(4, 2, 1),
            )

        def forward(self, x):
            return self.second(self.norm(self.first(x) * 20000))

    torch.manual_seed(0)
    artifact = to_onnx(Loud(), image(), tmp_path / "out", precision="fp16")
    kept = artifact.kept_in_fp32
    assert any("norms" in reason for reason in kept.values())
    assert any("reaches" in reason for reason in kept.values())
    session = onnxruntime.InferenceSession(artifact.model, providers=["CPUExecutionProvider"])
    assert np.isfinite(session.run(None, {"input": image().numpy()})[0]).all()


def test_ranges_are_measured_for_every_tensor():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    x = image()
    ranges = measure_ranges(model_of(network, x), [x])
    assert ranges["input"] == pytest.approx(float(x.abs().max()))
    assert ranges["output"] == pytest.approx(float(network(x).abs().max().detach()), rel=1e-5)


def test_the_given_model_stays_as_it_was():
    model = model_of(nn.Conv2d(1, 2, 1), image())
    before = [str(value.dtype) for value in model.graph.initializers.values()]
    halve(model, [image()])
    assert [str(value.dtype) for value in model.graph.initializers.values()] == before


def test_a_network_without_a_safe_node_is_refused():
    with pytest.raises(ExportError, match="none of its nodes can run in float16"):
        halve(model_of(nn.InstanceNorm2d(1), image()), [image()])


def test_a_graph_with_branches_is_refused():
    class Branches(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))

    with pytest.raises(ExportError, match="branches or functions cannot be turned into float16"):
        halve(model_of(Branches(), image()), [image()])
