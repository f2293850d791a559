import pytest
import torch
from surgeon.export import Freedom, flatten
from torch import nn

from surgeon.errors import ExportError
from surgeon.tracing import Example
from tests.core.tracing import conditional

from .networks import image, small_unet


def test_batch_and_sizes_are_free_for_an_example_of_batch_one():
    flat = flatten(small_unet(), Example((image(),), {}))
    assert flat.freedom is Freedom.BATCH_AND_SIZES
    module = flat.graph_module
    assert module(torch.randn(3, 1, 24, 20)).shape == (3, 2, 24, 20)


def test_the_graph_is_functional_and_keeps_convolutions_whole():
    flat = flatten(small_unet(), Example((image(),), {}))
    names = {str(node.target) for node in flat.graph_module.graph.nodes if node.op == "call_function"}
    assert "aten.conv2d.default" in names
    assert "aten.relu_.default" not in names


def test_a_network_of_one_size_falls_back_and_says_why():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 1, 16, 16))

        def forward(self, x):
            return x + self.position

    flat = flatten(Fixed().eval(), Example((image(),), {}))
    assert flat.freedom is Freedom.BATCH
    assert [refusal.freedom for refusal in flat.refusals] == [Freedom.BATCH_AND_SIZES]
    assert flat.refusals[0].reason


def test_a_network_that_looks_at_values_is_refused():
    class Looks(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ExportError, match=r"torch\.export cannot make a graph of it"):
        flatten(Looks().eval(), Example((image(),), {}))


def test_a_network_that_writes_into_its_inputs_is_refused():
    with pytest.raises(ExportError, match="it writes into its own inputs"):
        flatten(nn.ReLU(inplace=True).eval(), Example((image(),), {}))


def test_a_network_that_crops_by_tensors_of_sizes_keeps_free_sizes():
    host = conditional.CropsByTensor().eval()
    flat = flatten(host, Example((image(),), {}))
    assert flat.freedom is Freedom.BATCH_AND_SIZES
    x = torch.rand(3, 1, 22, 18)
    with torch.no_grad():
        assert torch.equal(flat.graph_module(x), host(x))
