"""Files that say something else than their network: the gate has to see each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from surgeon.export import open_session, run_session, to_onnx
from surgeon.export import writing as writing_module
from surgeon.export.cases import check_everything
from surgeon.export.flattening import Freedom, leaves_of
from surgeon.export.gate import THRESHOLDS, Gate
from surgeon.export.order import Order, SizePolicy
from surgeon.export.targets import Precision, find_target
from surgeon.export.writing import write_network
from torch import nn
from torch.nn import functional as F

from surgeon.errors import ExportError
from surgeon.tracing import Example, run, size_limits

from .networks import image, small_unet, stir


class Everything(nn.Module):
    """Whatever a translation can get wrong, once."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(2, 8, 3, padding=1, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(8, affine=True, eps=1e-3)
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.tokens = nn.LayerNorm(8, eps=1e-3)
        self.head = nn.Conv2d(24, 3, 1)

    def forward(self, x):
        a = F.leaky_relu(self.norm(self.entry(x)), 0.2)
        b = F.relu6(4 * self.wide(a))
        low = self.down(b)
        average = F.avg_pool2d(low, 3, 1, 1, count_include_pad=False)
        largest = F.max_pool2d(low, 2, ceil_mode=True)
        row = self.tokens(average.flatten(2).transpose(1, 2))  # (N, L, C)
        attended = (row @ row.transpose(1, 2) / 8).softmax(-1) @ row
        middle = attended.transpose(1, 2).reshape(low.shape)
        up = F.interpolate(self.up(middle), x.shape[2:], mode="nearest")
        return self.head(torch.cat([b, up, F.interpolate(largest, x.shape[2:], mode="bilinear")], 1))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a file that is right, and give it with its network."""
    torch.manual_seed(0)
    network = stir(Everything())
    order = Order(
        network,
        Example((image(channels=2),), {}),
        (),
        "model",
        find_target("ort-cpu"),
        Precision.FP32,
        SizePolicy.FREE,
        {},
        False,
    )
    made = write_network(order, tmp_path_factory.mktemp("out") / "model.onnx")
    assert made.flat.freedom is Freedom.BATCH_AND_SIZES
    return network, made


def judge(network, written, path):
    """Put a file through the gate as an export does."""
    session = open_session(path, threads=1)
    gate = Gate(
        lambda example: run(network, example),
        lambda example: run_session(session, leaves_of(example)),
        THRESHOLDS[Precision.FP32],
    )
    example = Example((image(channels=2),), {})
    return check_everything(gate, example, written.flat.freedom, size_limits(written.program), [])


def test_the_file_as_it_was_written_passes(written):
    network, made = written
    assert judge(network, made, made.path).free


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    found = [node for node in model.graph.node if node.op_type == kind]
    assert found, f"no {kind} among {sorted({node.op_type for node in model.graph.node})}"
    return found


def attribute(kind: str, name: str, value: object, which: int = 0) -> Callable[[onnx.ModelProto], None]:
    """Give a node another attribute than it has."""

    def change(model: onnx.ModelProto) -> None:
        node = nodes(model, kind)[which]
        before = [item for item in node.attribute if item.name == name]
        assert not before or helper.get_attribute_value(before[0]) != value
        for item in before:
            node.attribute.remove(item)
        node.attribute.append(helper.make_attribute(name, value))

    return change


def constant(kind: str, place: int, change: Callable[[np.ndarray], np.ndarray], which: int = 0):
    """Change the constant that a node reads at a place."""

    def mutate(model: onnx.ModelProto) -> None:
        name = nodes(model, kind)[which].input[place]
        held = next(item for item in model.graph.initializer if item.name == name)
        held.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(held).copy()), name))

    return mutate


def other_kind(kind: str, new: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        node = nodes(model, kind)[0]
        node.op_type = new
        del node.attribute[:]

    return change


def swapped(model: onnx.ModelProto) -> None:
    node = next(node for node in nodes(model, "Concat") if len(node.input) == 3)
    node.input[1], node.input[2] = node.input[2], node.input[1]


def undilated(model: onnx.ModelProto) -> None:
    attribute("Conv", "dilations", [1, 1], 1)(model)
    attribute("Conv", "pads", [1, 1, 1, 1], 1)(model)


def one_weight(array: np.ndarray) -> np.ndarray:
    array.flat[3] += 0.05 * np.abs(array).max()
    return array


ADVERSARIES = {
    "one weight of one convolution": constant("Conv", 1, one_weight, 2),
    "a bias": constant("Conv", 2, lambda x: x + 0.01, 1),
    "a transposed weight": constant("ConvTranspose", 1, lambda x: x.swapaxes(0, 1).copy()),
    "the epsilon of a norm": attribute("InstanceNormalization", "epsilon", 1e-5),
    "the epsilon of a norm of tokens": attribute("LayerNormalization", "epsilon", 1e-5),
    "the mode of a pad": attribute("Pad", "mode", "edge"),
    "the place of a pad": attribute("Conv", "pads", [0, 0, 2, 2], 2),
    "a dilation with its pad": undilated,
    "a slope": attribute("LeakyRelu", "alpha", 0.21),
    "a limit": constant("Clip", 2, lambda x: x * 1.5),
    "the border of a mean": attribute("AveragePool", "count_include_pad", 1),
    "the rounding of a pool": attribute("MaxPool", "ceil_mode", 0),
    "linear for nearest": attribute("Resize", "mode", "linear"),
    "the rounding of nearest": attribute("Resize", "nearest_mode", "ceil"),
    "the corners of linear": attribute("Resize", "coordinate_transformation_mode", "align_corners", 1),
    "the axis of a softmax": attribute("Softmax", "axis", 1),
    "the order of a concatenation": swapped,
    "another activation": other_kind("LeakyRelu", "Relu"),
}


@pytest.mark.parametrize("what", ADVERSARIES)
def test_a_file_that_differs_in_one_thing_is_refused(what, written, tmp_path):
    network, made = written
    model = onnx.load(made.path)
    before = model.SerializeToString()
    ADVERSARIES[what](model)
    assert model.SerializeToString() != before
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="does not compute what the network computes"):
        judge(network, made, tmp_path / "model.onnx")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_translation_that_goes_wrong_on_its_way_to_the_disk_is_told_by_module_and_line(
    precision, tmp_path, monkeypatch
):
    honest = writing_module.write_model

    def wrong(model: ir.Model, path) -> None:
        node = next(node for node in model.graph if "'bottom.0'" in node.metadata_props.get("source", ""))
        weight = node.inputs[1]
        weight.const_value = ir.tensor(weight.const_value.numpy() * 2, name=weight.name)
        honest(model, path)

    monkeypatch.setattr(writing_module, "write_model", wrong)
    with pytest.raises(ExportError, match=r"does not compute what the network computes") as refused:
        to_onnx(small_unet(), image(), tmp_path / "out", precision=precision)
    assert refused.value.exit_code == 1
    assert refused.value.where.startswith("example, input 1x1x16x16; values part first at")
    assert "module bottom" in refused.value.where
    assert "networks.py:" in refused.value.where
    assert not list(tmp_path.iterdir())
