import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from surgeon.export.runtime import measure_latency, open_session, run_session

from surgeon.errors import ExportError, InputError


@pytest.fixture
def doubler(tmp_path):
    """Write a model that adds its two inputs."""
    names = ("a", "b", "sum")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in names]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "sum", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_session_runs_tensors_in_the_order_of_its_inputs(doubler):
    session = open_session(doubler, "ort-cpu", threads=1)
    (total,) = run_session(session, [torch.ones(3, 2), torch.full((3, 2), 2.0)])
    np.testing.assert_array_equal(total.numpy(), np.full((3, 2), 3.0, np.float32))


def test_the_threads_of_a_session_rest_between_its_runs(doubler):
    settings = open_session(doubler, "ort-cpu").get_session_options()
    assert settings.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("provider", ["ort-cuda", "CUDAExecutionProvider", "ort-tensorrt", "triton"])
def test_a_provider_that_would_silently_fall_back_is_refused(doubler, provider):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built without CUDA")
    with pytest.raises(ExportError, match=r"asked for \w+, but onnxruntime would run CPUExecutionProvider"):
        open_session(doubler, provider)


def test_an_unknown_provider_is_refused(doubler):
    with pytest.raises(InputError, match="no provider or target is called 'abacus'"):
        open_session(doubler, "abacus")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such ONNX file"):
        open_session(tmp_path / "none.onnx")


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError, match="onnxruntime cannot open it"):
        open_session(tmp_path / "model.onnx")


def test_latencies_are_measured_in_turn():
    calls: list[str] = []
    first, second = measure_latency(
        (lambda: calls.append("a"), lambda: calls.append("b")), runs=5, seconds=5, warmup=1
    )
    assert "".join(calls) == "ab" * 6
    assert first.runs == second.runs == 5
    assert 0 <= first.p50 <= first.p99
    assert set(first.to_dict()) == {"p50", "p99", "runs"}


def test_slow_calls_are_still_timed_three_times():
    (latency,) = measure_latency((lambda: None,), runs=50, seconds=0)
    assert latency.runs == 3
