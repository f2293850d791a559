"""Files with attention, whose operator set is one that knows it."""

import onnx
import pytest
import torch
from surgeon.export import to_onnx
from torch import nn

from .fusion.test_attention import Windows
from .networks import stir


def network(window=128):
    return stir(nn.Sequential(nn.Conv1d(1, 6, 3, padding=1), Windows(window=window), nn.Conv1d(6, 2, 1)))


def operations(artifact):
    return [node.op_type for node in onnx.load(artifact.model).graph.node]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_a_file_for_a_cpu_has_attention_as_one_node(tmp_path, precision):
    artifact = to_onnx(network(), torch.randn(1, 1, 256), tmp_path, precision=precision)
    assert artifact.to_dict()["opset"] == onnx.load(artifact.model).opset_import[0].version == 23
    assert operations(artifact).count("Attention") == 1
    assert "Softmax" not in operations(artifact)
    assert artifact.freedom.sizes
    assert artifact.second_opinion is not None
    assert artifact.second_opinion.difference is not None


@pytest.mark.slow
def test_int8_leaves_attention_in_float32(tmp_path):
    samples = [torch.randn(1, 256) for _ in range(4)]
    artifact = to_onnx(network(), torch.randn(1, 1, 256), tmp_path, precision="int8", samples=samples)
    assert operations(artifact).count("Attention") == 1
    assert "QuantizeLinear" in operations(artifact)


@pytest.mark.parametrize(("target", "window", "opset"), [("ort-cuda", 128, 20), ("ort-cpu", 32, 18)])
def test_elsewhere_and_for_few_scores_the_operator_set_is_the_targets(tmp_path, target, window, opset):
    artifact = to_onnx(network(window), torch.randn(1, 1, 256), tmp_path, target=target)
    assert artifact.to_dict()["opset"] == opset
    assert "Attention" not in operations(artifact)


class Volumes(nn.Module):
    """Pools of volumes, and an attention whose keys depend on the volume.

    The first pool reads what was computed channels last, the second what was computed plane by plane.
    """

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.point = nn.Conv3d(4, 4, 1)
        self.norm, self.pool = nn.LayerNorm(4), nn.AvgPool3d(3, 1, 1, count_include_pad=False)
        self.bias = nn.Parameter(torch.randn(1, 1, 128, 128))

    def forward(self, x):
        rows = self.bias[..., :8] * x.mean((1, 2, 3, 4)).view(-1, 1, 1, 1)
        attended = nn.functional.scaled_dot_product_attention(rows, rows, rows, self.bias)
        last = self.norm(self.enter(x).permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
        pooled = self.pool(last) + self.pool(self.leave(last.relu())) + self.pool(self.point(last))
        return pooled + attended.mean((1, 2, 3)).view(-1, 1, 1, 1, 1)


def test_beside_attention_volumes_are_averaged_plane_by_plane(tmp_path):
    artifact = to_onnx(stir(Volumes()), torch.randn(1, 1, 8, 10, 12), tmp_path)
    assert artifact.freedom.sizes
    assert artifact.to_dict()["opset"] == 23
    pools = [node for node in onnx.load(artifact.model).graph.node if node.op_type == "AveragePool"]
    kernels = [
        attribute.ints for pool in pools for attribute in pool.attribute if attribute.name == "kernel_shape"
    ]
    assert len(kernels) == 6
    assert {len(kernel) for kernel in kernels} == {2}


def test_multihead_attention_of_torch_between_the_levels_is_exported_with_free_sizes(tmp_path):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 8, 3, padding=1)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.last = nn.Conv2d(8, 2, 1)

        def forward(self, x):
            x = self.first(x)
            tokens = x.flatten(2).transpose(1, 2)
            return self.last(self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape))

    assert to_onnx(stir(Attending()), torch.rand(1, 1, 8, 8), tmp_path / "out").freedom.sizes
