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
