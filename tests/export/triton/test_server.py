"""A real Triton server answers over HTTP, equal to onnxruntime to the bit."""

import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from surgeon.export import open_session, to_onnx
from surgeon.export.triton import TritonServer, find_server

from surgeon.errors import ExportError, InputError
from tests.export.networks import image, small_unet

needs_server = pytest.mark.skipif(
    find_server() is None, reason="no Triton server: pip install --no-deps nvidia-pytriton (Linux x86-64)"
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a small network for Triton once."""
    return to_onnx(small_unet(), image(), tmp_path_factory.mktemp("export") / "out", "triton", name="nuclei")


@pytest.fixture(scope="module")
def server(exported):
    """Serve it."""
    with TritonServer(exported.folder / "triton") as running:
        yield running


@pytest.fixture
def client(server):
    """Ask it over HTTP."""
    http = pytest.importorskip(
        "tritonclient.http", reason="no tritonclient: pip install 'tritonclient[http]'"
    )
    return http.InferenceServerClient(server.http)


def ask(client, array):
    import tritonclient.http as http

    given = http.InferInput("input", array.shape, "FP32")
    given.set_data_from_numpy(array)
    return client.infer("nuclei", [given]).as_numpy("output")


@needs_server
@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (3, 1, 24, 16), (8, 1, 2, 2)])
def test_a_real_server_answers_as_onnxruntime_does_to_the_bit(client, exported, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = open_session(exported.model).run(None, {"input": x})[0]
    answer = ask(client, x)
    print(f"Triton over HTTP, input {shape}: largest difference {np.abs(answer - expected).max()}")
    np.testing.assert_array_equal(answer, expected)


@needs_server
def test_requests_that_meet_in_a_batch_each_get_their_own_answer(client, server, exported):
    http = pytest.importorskip("tritonclient.http")
    session = open_session(exported.model)
    arrays = [np.full((1, 1, 16, 16), value, np.float32) for value in range(12)]

    def one(array):
        return ask(http.InferenceServerClient(server.http), array)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(one, arrays))
    for array, answer in zip(arrays, answers, strict=True):
        expected = session.run(None, {"input": array})[0]
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


@needs_server
def test_the_server_reads_the_configuration_as_written(client):
    config = client.get_model_config("nuclei")
    assert config["max_batch_size"] == 8
    assert config["input"][0]["dims"] == [1, -1, -1]
    assert [item["kind"] for item in config["instance_group"]] == ["KIND_CPU"]
    assert len(config["model_warmup"]) == 4


@needs_server
def test_a_stopped_server_leaves_its_port(exported):
    with TritonServer(exported.folder / "triton") as running:
        host, port = running.http.split(":")
        assert host == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=1)
    running.stop()


@needs_server
def test_a_repository_that_triton_refuses_is_an_error_with_its_words(tmp_path):
    (tmp_path / "wrong" / "1").mkdir(parents=True)
    (tmp_path / "wrong" / "config.pbtxt").write_text('name: "other"\nbackend: "onnxruntime"\n')
    with pytest.raises(ExportError, match="Triton refuses the model repository: "), TritonServer(tmp_path):
        pass


@needs_server
def test_a_server_that_takes_too_long_is_stopped(exported):
    with (
        pytest.raises(ExportError, match="Triton is not ready after 0 seconds"),
        TritonServer(exported.folder / "triton", timeout=0),
    ):
        pass


def test_a_missing_repository_is_refused(tmp_path):
    with (
        pytest.raises(InputError, match="there is no such model repository"),
        TritonServer(tmp_path / "none"),
    ):
        pass


def test_a_missing_server_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("surgeon.export.triton.server.find_server", lambda: None)
    with pytest.raises(ExportError, match="pip install --no-deps nvidia-pytriton"), TritonServer(tmp_path):
        pass
