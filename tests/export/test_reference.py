import onnx
import pytest
from surgeon.export import proving as proving_module
from surgeon.export import to_onnx
from surgeon.export.reference import Opinion, ask_reference
from torch import nn

from surgeon.errors import ExportError
from surgeon.parity import Difference
from surgeon.tracing import Example, run

from .networks import image, small_unet


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    network = small_unet()
    return network, to_onnx(network, image(), tmp_path_factory.mktemp("out"))


def host_of(network):
    return lambda example: run(network, example)


def test_the_reference_evaluator_agrees_and_its_opinion_is_kept(exported):
    _, artifact = exported
    assert artifact.second_opinion.difference.relative < 1e-5
    assert artifact.to_dict()["second_opinion"]["argmax_agreement"] == 1.0


def test_it_sees_a_wrong_weight(exported, tmp_path):
    network, artifact = exported
    model = onnx.load(artifact.model)
    weight = next(item for item in model.graph.initializer if len(item.dims) == 4)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 2, weight.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    opinion = ask_reference(tmp_path / "wrong.onnx", host_of(network), Example((image(),), {}))
    assert opinion.difference.relative > 1e-2


def test_it_gives_up_in_time_and_says_so(exported):
    network, artifact = exported
    opinion = ask_reference(artifact.model, host_of(network), Example((image(),), {}), seconds=0)
    assert opinion.to_dict() == {"shape": [1, 1, 16, 16], "reason": "it took longer than 0 seconds"}


def test_a_large_network_is_not_given_to_it(exported):
    wide = nn.Conv2d(1, 4096, 3, padding=1)
    opinion = ask_reference(exported[1].model, host_of(wide), Example((image(size=256),), {}))
    assert "operations are too many for it" in opinion.reason


def test_a_file_it_cannot_run_is_no_failure(exported, tmp_path):
    network, artifact = exported
    model = onnx.load(artifact.model)
    model.graph.node[0].op_type = "NoSuchOperation"
    onnx.save(model, tmp_path / "unknown.onnx")
    opinion = ask_reference(tmp_path / "unknown.onnx", host_of(network), Example((image(),), {}))
    assert opinion.reason.startswith("it fails: ")


def test_another_opinion_refuses_the_export_and_may_be_left_out(tmp_path, monkeypatch):
    other = Opinion((1, 1, 16, 16), Difference(1.0, 0.5, 0.5, 0.5, False))
    monkeypatch.setattr(proving_module, "ask_reference", lambda *_: other)
    with pytest.raises(ExportError, match=r"differs by 5\.0e-01 of the range[\s\S]*--no-second-opinion"):
        to_onnx(small_unet(), image(), tmp_path / "out")
    assert not list(tmp_path.iterdir())
    artifact = to_onnx(small_unet(), image(), tmp_path / "out", second_opinion=False)
    assert artifact.second_opinion is None
