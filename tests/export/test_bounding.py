import json

import onnx
import onnxruntime
import pytest
import torch
from surgeon.export import to_onnx, writing
from surgeon.export.bounding import stepped
from surgeon.export.runtime import Runner

import surgeon
from surgeon.errors import InputError
from surgeon.tracing import Example, Limits
from tests.core.tracing.test_bounds import forked, windowed


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    spliced = surgeon.splice(forked(), torch.randn(1, 1, 16, 16), {"s0": torch.nn.Identity()})
    return to_onnx(spliced, torch.randn(1, 1, 16, 16), tmp_path_factory.mktemp("bounded") / "out", "triton")


def test_sizes_are_free_within_the_limits_of_a_network_that_goes_two_ways(export):
    assert export.freedom.sizes
    assert export.limits is not None
    assert export.limits.largest == 24
    shapes = {case.shapes[0][2:] for case in export.parity}
    assert {(16, 16), (24, 16), (16, 24), (24, 24)} <= shapes
    assert max(max(shape) for shape in shapes) == 24


def test_an_unspliced_network_has_the_same_limits(tmp_path):
    limits = to_onnx(forked(), torch.randn(1, 1, 16, 16), tmp_path / "out").limits
    assert limits is not None
    assert limits.largest == 24


def test_the_file_itself_refuses_other_sizes_and_says_which_it_takes(export):
    session = onnxruntime.InferenceSession(str(export.model), providers=["CPUExecutionProvider"])
    session.run(None, {"input": torch.randn(3, 1, 24, 18).numpy()})
    for sizes in ((26, 16), (16, 26), (30, 30), (1, 16)):
        with pytest.raises(
            Exception, match="input_takes_sizes_from_2_to_24"
        ):  # of onnxruntime, no public class
            session.run(None, {"input": torch.randn(1, 1, *sizes).numpy()})


def test_metadata_report_and_server_say_the_limits(export):
    metadata = {item.key: item.value for item in onnx.load(export.model).metadata_props}
    assert json.loads(metadata["sizes"]) == {"smallest": 2, "largest": 24}
    assert export.to_dict()["sizes"]["refused_outside"] == {"smallest": 2, "largest": 24}
    config = export.folder / "triton" / "model" / "config.pbtxt"
    assert '"spatial_sizes" value { string_value: "sizes from 2 to 24" }' in config.read_text()


def test_the_runner_refuses_them_in_words(export):
    runner = Runner(export.model)
    assert runner(torch.randn(1, 1, 20, 24))[0].shape == (1, 2, 20, 24)
    with pytest.raises(InputError, match="holds for sizes from 2 to 24"):
        runner(torch.randn(1, 1, 20, 26))


class _Masked(torch.nn.Module):
    """Goes another way for small images, and writes into a part of a tensor, as masks of windows are made."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        if x.shape[2] < 12 or x.shape[3] < 12:
            return y
        weight = torch.ones_like(y)
        weight[:, :, :4] = 2.0
        return y * weight


def test_limits_are_found_where_the_graph_had_to_be_made_functional(tmp_path):
    torch.manual_seed(0)
    export = to_onnx(_Masked().eval(), torch.randn(1, 1, 16, 16), tmp_path / "out")
    assert export.limits is not None
    assert (export.limits.smallest, export.limits.largest) == (12, None)
    with pytest.raises(InputError, match="holds for sizes from 12"):
        Runner(export.model)(torch.randn(1, 1, 8, 16))


@pytest.mark.parametrize("is_spliced", [False, True])
def test_a_file_refuses_sizes_between_the_steps_in_which_its_network_goes_one_way(is_spliced, tmp_path):
    host, x = windowed(), torch.randn(1, 1, 16, 20)
    network = surgeon.splice(host, x, {"s0": torch.nn.Identity()}) if is_spliced else host
    export = to_onnx(network, x, tmp_path / "out")
    assert export.limits is not None
    assert (export.limits.step, export.limits.like, export.sizes.step) == (4, (16, 20), 4)
    session = onnxruntime.InferenceSession(str(export.model), providers=["CPUExecutionProvider"])
    held = torch.randn(2, 1, 28, 8)
    torch.testing.assert_close(
        torch.from_numpy(session.run(None, {"input": held.numpy()})[0]), host(held), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(Exception, match="in_steps_of_4_from_16_x_20"):  # of onnxruntime, no public class
        session.run(None, {"input": torch.randn(1, 1, 16, 22).numpy()})
    with pytest.raises(InputError, match="in steps of 4 from 16 x 20"):
        Runner(export.model)(torch.randn(1, 1, 18, 20))


class _CutToFit(torch.nn.Module):
    """Brings a decoder's map back to the image's size where that is not two beyond a multiple of four."""

    def __init__(self):
        super().__init__()
        self.down, self.up = torch.nn.Conv2d(1, 4, 4, 4, 2), torch.nn.ConvTranspose2d(4, 2, 4, 4)

    def forward(self, x):
        y = self.up(self.down(x))[..., 2:, 2:]
        if y.shape[2:] != x.shape[2:]:
            y = torch.nn.functional.interpolate(y, x.shape[2:])
        return y


def test_a_graph_whose_output_has_another_shape_between_steps_refuses_these_sizes(tmp_path):
    torch.manual_seed(0)
    host = _CutToFit().eval()
    export = to_onnx(host, torch.randn(1, 1, 18, 18), tmp_path / "out")
    assert export.limits is not None
    assert export.limits.step == 4
    with pytest.raises(InputError, match="in steps of 4"):
        Runner(export.model)(torch.randn(1, 1, 19, 18))


class OneWay(torch.nn.Module):
    """Goes another way for every size but one."""

    def forward(self, x):
        return x * 2.0 if x.shape[2] == 16 else x.sigmoid()


def test_a_network_that_goes_another_way_for_all_other_sizes_is_written_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "stepped", lambda *_: None)
    export = to_onnx(windowed(), torch.randn(1, 1, 16, 16), tmp_path / "out")
    assert not export.freedom.sizes
    assert "computes something else" in export.refusals[0].reason


def test_no_step_is_found_where_there_is_none():
    x, graph = Example((torch.randn(1, 1, 16, 16),), {}), torch.fx.symbolic_trace(torch.nn.Sigmoid())
    assert stepped(Limits(), lambda example: OneWay()(*example.args), graph, x) == Limits()
    twice = torch.fx.GraphModule({}, torch.fx.symbolic_trace(lambda x: x * 2.0).graph)
    assert stepped(Limits(), lambda example: OneWay()(*example.args), twice, x) is None
