import pytest
import torch
from surgeon.export import Runner, open_session, predict_volume, to_onnx
from surgeon.export.runtime import runner

from surgeon.errors import ExportError, InputError

from .networks import image, small_unet


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    network = small_unet(3)
    return network, to_onnx(network, image(3, 8), tmp_path_factory.mktemp("out")).model


def expected(network, x):
    with torch.no_grad():
        return network(x)


def test_free_sizes_run_one_after_the_other(exported):
    network, model = exported
    free = Runner(model, "ort-cpu", threads=1)
    for size, batch in ((8, 1), (12, 2), (8, 3)):
        x = image(3, size, batch=batch)
        torch.testing.assert_close(free(x)[0], expected(network, x), atol=1e-4, rtol=1e-4)


def test_fixed_shapes_keep_their_buffers_and_answers_do_not_change_afterwards(exported):
    network, model = exported
    fixed = Runner(model, shapes=[(1, 1, 8, 8, 8)], threads=1)
    x = image(3, 8)
    first = fixed(x)[0]
    kept = first.clone()
    second = fixed(2 * x.transpose(2, 4))[0]
    assert torch.equal(first, kept)
    torch.testing.assert_close(first, expected(network, x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(second, expected(network, 2 * x.transpose(2, 4)), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match=r"\(1, 1, 8, 8, 8\) was fixed"):
        fixed(image(3, 12))


@pytest.mark.parametrize("fails", ["opening", "running"])
def test_a_file_that_cannot_be_recorded_runs_as_it_is_and_says_why(exported, fails, monkeypatch):
    class Refusing:
        def __init__(self, session):
            self.io_binding = session.io_binding

        def run_with_iobinding(self, binding):
            raise RuntimeError("cannot capture\nmore of it")

    def opened(*arguments, options=None, **settings):
        session = open_session(*arguments, **settings)
        if not options:
            return session
        assert options == {"enable_cuda_graph": "1"}
        if fails == "opening":
            raise ExportError("cannot capture", where="here", fix="none")
        return Refusing(session)

    monkeypatch.setattr(runner, "open_session", opened)
    monkeypatch.setattr(runner, "_RECORDING", {"CPUExecutionProvider"})
    network, model = exported
    fixed = Runner(model, shapes=[(1, 1, 8, 8, 8)], threads=1)
    assert fixed.not_recorded.startswith("cannot capture")
    assert "more of it" not in fixed.not_recorded
    x = image(3, 8)
    torch.testing.assert_close(fixed(x)[0], expected(network, x), atol=1e-4, rtol=1e-4)


def test_a_runner_on_a_cpu_says_that_it_records_nothing(exported):
    assert Runner(exported[1], threads=1).not_recorded == "inputs may have any size"
    assert "records nothing" in Runner(exported[1], shapes=[(1, 1, 8, 8, 8)]).not_recorded


def test_wrong_numbers_of_tensors_and_shapes_are_refused(exported):
    with pytest.raises(InputError, match="2 shapes for 1 inputs"):
        Runner(exported[1], shapes=[(1,), (1,)])
    with pytest.raises(InputError, match="0 tensors for 1 inputs"):
        Runner(exported[1])()


@pytest.mark.parametrize("shapes", [None, [(3, 1, 8, 8, 8)]])
def test_a_volume_is_put_together_as_monai_does_with_the_network(exported, shapes):
    from monai.inferers import sliding_window_inference

    network, model = exported
    volume = torch.randn(1, 1, 14, 9, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = sliding_window_inference(volume, (8, 8, 8), 2, network, overlap=0.5, mode="gaussian")
    found = predict_volume(Runner(model, shapes=shapes, threads=1), volume, (8, 8, 8), batch=2)
    assert found.shape == (1, 2, 14, 9, 12)
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


class _Stages(torch.nn.Module):
    """Gives two maps of one size, the answer last."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return torch.zeros_like(x), self.conv(x)


def test_the_answer_of_a_file_is_what_is_blended(tmp_path):
    network = _Stages().eval()
    artifact = to_onnx(network, image(2, 8), tmp_path, answer=-1)
    runner = Runner(artifact.model)
    assert runner.answer == 1
    volume = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(predict_volume(runner, volume, (8, 8)), expected(network, volume)[1])
    assert not predict_volume(runner, volume, (8, 8), output=0).any()


def test_an_answer_that_is_no_map_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="output 2 of the network is no map"):
        to_onnx(_Stages().eval(), image(2, 8), tmp_path / "out", answer=2)
    assert not (tmp_path / "out").exists()


def test_windows_that_do_not_suit_are_refused(exported):
    fixed = Runner(exported[1], shapes=[(1, 1, 8, 8, 8)])
    volume = torch.zeros(1, 1, 16, 16, 16)
    with pytest.raises(InputError, match="does not suit a volume"):
        predict_volume(fixed, volume, (8, 8))
    with pytest.raises(InputError, match="does not suit a volume"):
        predict_volume(fixed, volume, (8, 8, 8), overlap=1.0)
    with pytest.raises(InputError, match=r"the runner is fixed to \(8, 8, 8\)"):
        predict_volume(fixed, volume, (16, 16, 16))
