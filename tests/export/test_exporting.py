import json

import numpy as np
import onnx
import onnxruntime
import pytest
import surgeon.export
import torch
from onnxscript.rewriter.rules.common import slice_split_rule
from surgeon.export import Freedom, to_onnx
from torch import nn

from surgeon.errors import ExportError, InputError, SurgeonError
from surgeon.files import sha256

from .networks import image, small_unet


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a small network once."""
    folder = tmp_path_factory.mktemp("export") / "deep" / "out"
    network = small_unet()
    artifact = to_onnx(
        network,
        image(),
        folder,
        samples=[torch.rand(1, 24, 16), torch.rand(2, 1, 16, 16)],
        metadata={"classes": ["background", "cell"], "host_fingerprint": "ab12"},
    )
    return network, folder, artifact


def test_the_file_answers_as_the_network_does(exported):
    network, folder, _ = exported
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    x = torch.randn(2, 1, 20, 28)
    with torch.no_grad():
        expected = network(x).numpy()
    found = session.run(None, {"input": x.numpy()})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_folder_holds_the_model_and_the_proof_and_nothing_else(exported):
    _, folder, artifact = exported
    assert sorted(path.name for path in folder.iterdir()) == ["export.json", "model.onnx"]
    assert not list(folder.parent.glob("*.part"))
    assert artifact.model == folder / "model.onnx"
    assert artifact.sha256 == sha256(folder / "model.onnx")


def test_export_json_says_what_is_pinned(exported):
    _, folder, artifact = exported
    content = json.loads((folder / "export.json").read_text())
    assert content == artifact.to_dict()
    assert (content["target"], content["opset"], content["precision"]) == ("ort-cpu", 18, "fp32")
    assert content["inputs"] == [
        {"name": "input", "shape": ["batch", 1, "height", "width"], "type": "float32"}
    ]
    assert content["outputs"] == [
        {"name": "output", "shape": ["batch", 2, "height", "width"], "type": "float32"}
    ]
    whats = [case["what"] for case in content["parity"]]
    assert {
        "example",
        "seed 1",
        "batch 3",
        "larger",
        "not square",
        "smallest",
        "sample 0",
        "sample 1",
    } <= set(whats)
    assert all(case["relative"] <= 1e-4 and case["argmax_agreement"] > 0.99 for case in content["parity"])
    assert set(content["latency"]) >= {"host", "export"}
    assert content["latency"]["host"]["p50"] <= content["latency"]["host"]["p99"]
    # More, for a CPU.
    assert {report["name"] for report in content["fusion"]} >= {name for name, _ in surgeon.export.PASSES}
    assert content["free"] == Freedom.BATCH_AND_SIZES.value
    assert content["sizes"]["step"] == 2


def test_the_cell_is_folded_into_convolutions(exported):
    _, folder, artifact = exported
    kinds = [node.op_type for node in onnx.load(folder / "model.onnx").graph.node]
    assert "BatchNormalization" not in kinds
    # Down, bottom, up, head; entry of the cell, and its summed edge with the exit, a 1x1, composed into it.
    assert kinds.count("Conv") + kinds.count("ConvTranspose") == 6
    assert "Mul" not in kinds
    assert artifact.nodes == len(kinds)


def test_the_file_says_what_it_is_and_not_where_it_was_made(exported):
    _, folder, _ = exported
    model = onnx.load(folder / "model.onnx")
    assert {item.key: item.value for item in model.metadata_props} == {
        "name": "model",
        "classes": '["background", "cell"]',
        "host_fingerprint": "ab12",
    }
    raw = (folder / "model.onnx").read_bytes()
    assert b"site-packages" not in raw
    assert b".py" not in raw


def test_the_network_is_left_as_it_was(tmp_path):
    network = small_unet()
    network.down.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    to_onnx(network, image(), tmp_path / "out")
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("rank", [1, 3])
def test_other_numbers_of_dimensions_export_as_well(rank, tmp_path):
    artifact = to_onnx(small_unet(rank), image(rank, 8), tmp_path / "out")
    assert artifact.freedom is (Freedom.BATCH if rank == 1 else Freedom.BATCH_AND_SIZES)
    # torch.export fixes the size of a one-dimensional maximum: said, not hidden.
    assert bool(artifact.to_dict()["not_free"]) == (rank == 1)


class Several(nn.Module):
    """Two inputs, one by keyword; two outputs of different scale, as deep supervision gives."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x, prior=None, *, double=False):
        y = self.first(x) + self.second(prior)
        y = y * 2 if double else y
        return {"out": y, "coarse": nn.functional.avg_pool2d(y, 2)}


def test_several_inputs_and_outputs_keep_their_names(tmp_path):
    kwargs = {"prior": image(), "double": True}
    artifact = to_onnx(Several(), image(), tmp_path / "out", kwargs=kwargs)
    assert [port.name for port in artifact.inputs] == ["x", "prior"]
    assert [port.name for port in artifact.outputs] == ["out", "coarse"]
    assert artifact.inputs[1].shape == ("batch", 1, "height", "width")


def test_a_network_of_one_size_is_exported_for_it_and_that_is_said(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.randn(1, 1, 16, 16))

        def forward(self, x):
            return torch.cat([x + self.position, x], 1)

    artifact = to_onnx(Fixed(), image(), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH
    assert "takes no larger size" in artifact.refusals[0].reason
    assert artifact.inputs[0].shape == ("batch", 1, 16, 16)


class Lies(nn.Module):
    """Computes something else while it is traced."""

    def forward(self, x):
        return x * (3 if torch.compiler.is_compiling() else 2)


def test_a_wrong_export_leaves_nothing_behind(tmp_path):
    with pytest.raises(ExportError, match=r"does not compute what the network computes.*\n  where: example"):
        to_onnx(Lies(), image(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_wrong_export_leaves_a_former_one_as_it_was(tmp_path):
    to_onnx(nn.Conv2d(1, 2, 1), image(), tmp_path, sizes="fixed")
    (tmp_path / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ExportError):
        to_onnx(Lies(), image(), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    to_onnx(nn.Conv2d(1, 3, 1), image(), tmp_path, sizes="fixed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.json", "model.onnx", "notes.txt"]
    assert json.loads((tmp_path / "export.json").read_text())["outputs"][0]["shape"][1] == 3


def test_no_pattern_is_tried_on_all_pairs_of_nodes(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(slice_split_rule, "match", lambda *_, **__: tried.append(True))
    to_onnx(nn.Conv2d(1, 3, 1), image(), tmp_path)
    assert not tried
    assert "try_rewrite" not in vars(slice_split_rule)  # others who export find it as it was


@pytest.mark.parametrize("least", [1e-8, 1e-12])
def test_what_keeps_a_network_from_dividing_by_zero_stays(least, tmp_path):
    class Spread(nn.Module):
        def forward(self, x):
            x = x.sigmoid()
            return (x - x.amin()) / (x.amax() - x.amin() + least)

    artifact = to_onnx(Spread().eval(), image(), tmp_path / "out")
    assert "blank" in [case.what for case in artifact.parity]


def test_an_operation_without_a_translation_is_refused(tmp_path):
    class Exotic(nn.Module):
        def forward(self, x):
            return torch.special.airy_ai(x)

    with pytest.raises(ExportError, match="it cannot be written as ONNX: "):
        to_onnx(Exotic(), image(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tpu"}, "no export target is called 'tpu'"),
        ({"precision": "fp8"}, "no precision is called 'fp8'"),
        ({"sizes": "some"}, "no size policy is called 'some'"),
        ({"name": "../up"}, "a model cannot be called '../up'"),
        ({"samples": [torch.zeros(3, 16, 16)]}, "sample 0 has the shape"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        to_onnx(nn.Conv2d(1, 2, 1), image(), tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(InputError, match="is a file, not a folder"):
            to_onnx(nn.Conv2d(1, 2, 1), image(), folder)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("surgeon.export.placing.tempfile.mkdtemp", full)
    with pytest.raises(InputError, match="the folder cannot be written to: No space left"):
        to_onnx(nn.Conv2d(1, 2, 1), image(), tmp_path / "out")


def test_inputs_that_the_network_refuses_are_bad_input(tmp_path):
    with pytest.raises(InputError, match="the network fails on the example: "):
        to_onnx(nn.Conv2d(3, 2, 1), image(), tmp_path / "out")


def test_a_file_that_the_checker_refuses_is_not_kept(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise onnx.checker.ValidationError("bad node")

    monkeypatch.setattr("surgeon.export.onnx.onnx.checker.check_model", refuse)
    with pytest.raises(ExportError, match=r"onnx\.checker refuses the file: bad node"):
        to_onnx(nn.Conv2d(1, 2, 1), image(), tmp_path / "out", sizes="fixed")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_one_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("surgeon.export.onnx._LARGEST_FILE", 4)
    with pytest.raises(ExportError, match="one ONNX file holds 2"):
        to_onnx(nn.Conv2d(1, 2, 1), image(), tmp_path / "out", sizes="fixed")


class FilterForEach(nn.Module):
    """Makes a filter of its own for every image, as dynamic convolutions do: as many groups as images."""

    def __init__(self):
        super().__init__()
        self.first, self.choose = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 4 * 4 * 9)

    def forward(self, x):
        x = self.first(x)
        filters = self.choose(x.mean((2, 3))).reshape(-1, 4, 3, 3)
        together = nn.functional.conv2d(x.flatten(0, 1)[None], filters, padding=1, groups=x.shape[0])
        return together.reshape(x.shape)


def test_what_can_be_written_for_one_batch_alone_is_and_says_so(tmp_path):
    artifact = to_onnx(FilterForEach().eval(), image(), tmp_path / "out")
    assert artifact.freedom is Freedom.SIZES
    assert artifact.refusals[0].reason.startswith("it cannot be written as ONNX")
    assert {case.shapes[0][0] for case in artifact.parity} == {1}
    assert len({case.shapes[0][2:] for case in artifact.parity}) > 2


def test_what_cannot_be_written_for_one_batch_either_is_refused(tmp_path):
    class Highest(nn.Module):
        def forward(self, x):
            return x - x.cummax(2)[0]

    with pytest.raises(ExportError, match=r"no translation of aten\.cummax\.default") as refused:
        to_onnx(Highest(), image(), tmp_path / "out")
    assert refused.value.where.endswith("(`return x - x.cummax(2)[0]`)")
    assert not (tmp_path / "out").exists()


def test_every_error_is_one_that_a_user_can_mend():
    assert issubclass(ExportError, SurgeonError)
    assert ExportError.exit_code == 1
    assert InputError.exit_code == 2
