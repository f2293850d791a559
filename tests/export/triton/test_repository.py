import pytest
import torch
from surgeon.export import to_onnx
from surgeon.export.onnx import Port
from surgeon.export.triton.repository import _load_schema, check_config, model_config

from surgeon.errors import ExportError
from tests.export.networks import image, small_unet


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a small network for Triton once."""
    return to_onnx(small_unet(), image(), tmp_path_factory.mktemp("export") / "out", "triton", name="nuclei")


def test_the_repository_has_the_layout_of_triton(exported):
    root = exported.folder / "triton" / "nuclei"
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "1/model.onnx",
        "config.pbtxt",
        "configs/cpu.pbtxt",
    ]
    assert (root / "1" / "model.onnx").read_bytes() == exported.model.read_bytes()


def test_both_configurations_parse_with_tritons_schema(exported):
    text_format = pytest.importorskip("google.protobuf.text_format")
    schema = _load_schema()
    if schema is None:
        pytest.skip("tritonclient is not installed")
    root = exported.folder / "triton" / "nuclei"
    gpu, cpu = (
        text_format.Parse((root / name).read_text(), schema.ModelConfig())
        for name in ("config.pbtxt", "configs/cpu.pbtxt")
    )
    assert gpu.name == cpu.name == "nuclei"
    assert gpu.backend == "onnxruntime"
    assert gpu.max_batch_size == 8
    assert list(gpu.input[0].dims) == [1, -1, -1]
    assert list(gpu.output[0].dims) == [2, -1, -1]
    assert gpu.instance_group[0].Kind.Name(gpu.instance_group[0].kind) == "KIND_GPU"
    assert cpu.instance_group[0].Kind.Name(cpu.instance_group[0].kind) == "KIND_CPU"
    assert gpu.HasField("dynamic_batching")
    assert gpu.parameters["cudnn_conv_algo_search"].string_value == "1"
    assert not cpu.parameters
    shapes = {(item.batch_size, tuple(item.inputs["input"].dims)) for item in gpu.model_warmup}
    assert shapes == {(1, (1, 16, 16)), (8, (1, 16, 16)), (1, (1, 2, 2)), (1, (1, 32, 32))}


def test_an_unknown_field_is_refused():
    if _load_schema() is None:
        pytest.skip("tritonclient is not installed")
    with pytest.raises(ExportError, match="Triton's parser refuses the configuration"):
        check_config('name: "x"\nmax_batchsize: 8\n')


def test_without_tritonclient_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr("surgeon.export.triton.repository._load_schema", lambda: None)
    assert not check_config("nonsense")


def test_a_type_that_triton_lacks_is_refused(exported):
    import dataclasses

    odd = dataclasses.replace(exported, inputs=(Port("input", ("batch", 1), "complex64"),))
    with pytest.raises(ExportError, match="Triton has no type for complex64"):
        model_config(odd, [torch.zeros(1, 1)], "KIND_CPU")


def test_a_fixed_batch_is_served_without_batching(exported):
    import dataclasses

    fixed = [
        Port(port.name, (1, *port.shape[1:]), port.type) for port in (*exported.inputs, *exported.outputs)
    ]
    text = model_config(
        dataclasses.replace(exported, inputs=(fixed[0],), outputs=(fixed[1],)), [image()], "KIND_CPU"
    )
    assert "max_batch_size: 0" in text
    assert "dims: [ 1, 1, -1, -1 ]" in text
    assert "dynamic_batching" not in text
