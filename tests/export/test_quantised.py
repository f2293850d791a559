import onnx
import pytest
import torch
from surgeon.export import open_session, run_session, to_onnx
from surgeon.export import proving as proving_module
from torch import nn

from surgeon.errors import ExportError, InputError

from .networks import image, small_unet


def samples(rank=2, count=4):
    return [image(rank, 16 + 2 * index)[0] for index in range(count)]


@pytest.mark.parametrize("rank", [2, 3])
def test_convolutions_run_in_int8_except_the_last_and_classes_stay(rank, tmp_path):
    network = small_unet(rank)
    given = [x[..., :16] for x in samples(rank)] if rank == 3 else samples()
    artifact = to_onnx(network, image(rank), tmp_path / "out", precision="int8", samples=given)
    model = onnx.load(artifact.model)
    producers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    wholes = [node.name for node in convolutions if producers.get(node.input[1]) is None]
    assert wholes == list(artifact.kept_in_fp32)
    assert len(wholes) < len(convolutions)
    judged = [case for case in artifact.parity if "before int8" not in case.what]
    names = [f"sample {index}" for index in range(4)]
    assert [case.what for case in judged] == [*names, "sample 0, batch 3", "sample 0, uneven"]
    assert judged[4].shapes[0] == (3, *judged[0].shapes[0][1:])
    assert all(b > a for a, b in zip(judged[0].shapes[0][2:], judged[5].shapes[0][2:], strict=True))
    assert 1e-4 < max(case.difference.relative for case in judged) < 0.2
    assert max(case.difference.relative for case in artifact.parity[:-6]) < 1e-4
    assert set(artifact.latency) == {"host", "export", "fp32"}
    assert sorted(path.name for path in artifact.folder.iterdir()) == ["export.json", "model.onnx"]


def test_int8_labels_are_those_of_the_network_nearly_everywhere(tmp_path):
    network, x = small_unet(), image(size=22)
    artifact = to_onnx(
        network, image(), tmp_path / "out", precision="int8", samples=samples(), include=["argmax"]
    )
    with torch.no_grad():
        expected = network(x).argmax(1)
    assert (run_session(open_session(artifact.model), x)[0] == expected).double().mean() > 0.95


def test_signed_and_symmetric_where_a_gpu_runs_it(tmp_path):
    artifact = to_onnx(
        small_unet(), image(), tmp_path / "out", "ort-cuda", precision="int8", samples=samples()
    )
    content = onnx.load(artifact.model).graph
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in content.initializer}
    zeros = [constants[node.input[2]] for node in content.node if node.op_type == "QuantizeLinear"]
    assert {zero.dtype.name for zero in zeros} == {"int8"}
    assert not any(zero.any() for zero in zeros)


def test_int8_without_samples_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none were given\n.*\n  fix: give samples \(--data DIR\)"):
        to_onnx(small_unet(), image(), tmp_path / "out", precision="int8")


def test_samples_of_ranges_too_far_apart_for_a_byte_are_refused(tmp_path):
    given = [image()[0], 500 * image()[0]]
    with pytest.raises(ExportError, match=r"argmax agreement[\s\S]*where: sample 0"):
        to_onnx(small_unet(), image(), tmp_path / "out", precision="int8", samples=given)
    assert not list(tmp_path.iterdir())


def test_a_network_without_products_cannot_run_in_int8(tmp_path):
    with pytest.raises(ExportError, match="none of its nodes can run in int8"):
        to_onnx(nn.Sigmoid(), image(), tmp_path / "out", precision="int8", samples=samples())


def test_int8_that_costs_too_much_on_the_mean_of_all_samples_is_refused(tmp_path, monkeypatch):
    """No Dice reaches a bar above one: each sample alone is within its own threshold."""
    monkeypatch.setattr(proving_module, "_LEAST_DICE", 1.01)
    with pytest.raises(
        ExportError, match=r"changes too much: a Dice of \d\.\d\d\d to[\s\S]*fix: give more samples"
    ):
        to_onnx(small_unet(), image(), tmp_path / "out", precision="int8", samples=samples())
    assert not list(tmp_path.iterdir())


def test_a_probability_at_a_border_may_change_sides(tmp_path):
    network = nn.Sequential(small_unet(classes=1), nn.Conv2d(1, 1, 1), nn.Sigmoid()).eval()
    with torch.no_grad():
        network[1].weight.fill_(30.0)
        network[1].bias.zero_()
    artifact = to_onnx(network, image(), tmp_path / "out", precision="int8", samples=samples())
    assert artifact.threshold.relative == 1.0
    assert artifact.threshold.agreement == 0.95
