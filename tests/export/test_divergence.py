import onnx_ir as ir
import pytest
import torch
from surgeon.export.divergence import Stages, find_divergence
from surgeon.export.flattening import Freedom, export_program, flatten
from surgeon.export.fusion import fuse
from surgeon.export.onnx import build_model
from torch import nn

from surgeon.tracing import Example

from .networks import image, small_unet


def example(size=16):
    return Example((image(size=size),), {})


def stages(network, model=None):
    """Bring a network on its way to ONNX; its graph and file are those of `model` where one is given."""
    flat = flatten(model or network, example(), (Freedom.BATCH_AND_SIZES,))
    fused = fuse(flat.graph_module, example().args)
    program = export_program(fused.graph_module, example(), flat.freedom)
    return Stages(network, flat.graph_module, program, build_model(program, 20, ("input",), ("output",), {}))


def test_no_place_is_found_where_nothing_differs():
    assert find_divergence(stages(small_unet()), example(), example(32), 1e-4) is None


def test_a_graph_with_other_numbers_than_the_host_is_told_by_module_and_line():
    network, other = small_unet(), small_unet()
    with torch.no_grad():
        other.bottom[0].weight.mul_(1.1)
    place = find_divergence(stages(network, other), None, example(), 1e-4)
    assert (place.module, place.operation) == ("bottom.0", "conv2d")
    assert place.source.startswith("networks.py:")
    assert "in the traced graph, it differs by" in str(place)


class Grown(nn.Module):
    """Adds the length of a side that was not traced."""

    def forward(self, x):
        return torch.relu(x) + float(len(x[0, 0]))


class TracedWrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = nn.Conv2d(1, 2, 3, padding=1)
        self.grown = Grown()

    def forward(self, x):
        return self.grown(self.before(x)) * 2


def test_a_number_that_was_traced_into_the_graph_is_found_at_another_size():
    network = TracedWrong().eval()
    flat = flatten(network, example(), (Freedom.BATCH,))
    program = export_program(fuse(flat.graph_module, example().args).graph_module, example(), flat.freedom)
    at = Stages(network, flat.graph_module, program, build_model(program, 20, ("input",), ("output",), {}))
    place = find_divergence(at, example(), example(24), 1e-4)
    assert place.module == "grown"
    assert place.source.startswith("test_divergence.py:")


@pytest.mark.parametrize("kind", ["Relu", "Conv"])
def test_a_translation_with_another_operation_is_told_by_its_node(kind):
    found = stages(small_unet())
    node = next(node for node in found.model.graph if node.op_type == kind)
    if kind == "Relu":
        node.op_type = "Abs"
    else:
        weight = node.inputs[1]
        weight.const_value = ir.tensor(weight.const_value.numpy() * 2, name=weight.name)
    place = find_divergence(found, None, example(), 1e-4)
    assert place.node == node.outputs[0].name
    assert "in ONNX, it differs by" in place.finding
