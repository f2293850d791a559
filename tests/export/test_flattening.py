import math
import time

import pytest
import torch
from surgeon.export import Freedom, flatten, flattening, to_onnx
from surgeon.export.flattening import export_program
from torch import nn

from surgeon.errors import ExportError
from surgeon.tracing import Example, as_example, size_limits
from tests.core.networks import Deepest
from tests.core.tracing import conditional
from tests.core.tracing.test_remembering import BySize, InBuffer
from tests.core.tracing.test_wholes import Windowed

from .networks import image, small_unet


def test_batch_and_sizes_are_free_for_an_example_of_batch_one():
    flat = flatten(small_unet(), Example((image(),), {}))
    assert flat.freedom is Freedom.BATCH_AND_SIZES
    module = flat.graph_module
    assert module(torch.randn(3, 1, 24, 20)).shape == (3, 2, 24, 20)


def test_the_graph_is_functional_and_keeps_convolutions_whole():
    flat = flatten(small_unet(), Example((image(),), {}))
    names = {str(node.target) for node in flat.graph_module.graph.nodes if node.op == "call_function"}
    assert "aten.conv2d.default" in names
    assert "aten.relu_.default" not in names


def test_checks_of_types_do_not_read_what_the_network_computes():
    class Cast(nn.Module):
        def forward(self, x):
            return x + (2 * x).to(x.dtype)

    flat = flatten(Cast().eval(), Example((image(),), {}))
    assert not [node for node in flat.graph_module.graph.nodes if "assert" in str(node.target)]


def test_free_sizes_over_which_torch_reasons_for_too_long_are_given_up(monkeypatch):
    class Brooding(nn.Module):
        def forward(self, x):
            end = time.process_time() + 5.0
            while isinstance(x.shape[2], torch.SymInt) and time.process_time() < end:
                pass
            return 2 * x

    monkeypatch.setattr(flattening, "TIME_LIMIT", 0.1)
    flat = flatten(Brooding().eval(), Example((image(),), {}))
    assert flat.freedom is Freedom.BATCH
    assert flat.refusals[0].reason == "torch.export took longer than 0 seconds"


def test_a_network_of_one_size_falls_back_and_says_why():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 1, 16, 16))

        def forward(self, x):
            return x + self.position

    flat = flatten(Fixed().eval(), Example((image(),), {}))
    assert flat.freedom is Freedom.BATCH
    assert [refusal.freedom for refusal in flat.refusals] == [Freedom.BATCH_AND_SIZES]
    assert flat.refusals[0].reason


def test_a_volume_of_two_planes_keeps_its_sizes_free(tmp_path):
    network = nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 4, 3, padding=1))
    artifact = to_onnx(network.eval(), torch.randn(1, 4, 2, 8, 8), tmp_path / "flat")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    assert len({case.shapes[0][2] for case in artifact.parity}) > 2


def test_a_network_that_looks_at_values_is_refused():
    class Looks(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ExportError, match=r"torch\.export cannot make a graph of it"):
        flatten(Looks().eval(), Example((image(),), {}))


def test_a_network_that_writes_into_its_inputs_is_refused():
    with pytest.raises(ExportError, match="it writes into its own inputs"):
        flatten(nn.ReLU(inplace=True).eval(), Example((image(),), {}))


def test_a_network_that_crops_by_tensors_of_sizes_keeps_free_sizes():
    host = conditional.CropsByTensor().eval()
    flat = flatten(host, Example((image(),), {}))
    assert flat.freedom is Freedom.BATCH_AND_SIZES
    x = torch.rand(3, 1, 22, 18)
    with torch.no_grad():
        assert torch.equal(flat.graph_module(x), host(x))


class Halved(nn.Module):
    """Joins a strided convolution with a mean, as residual encoders do: their sizes must come out equal."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, stride=4, padding=1)
        self.strided, self.mean = nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.AvgPool2d(2, 2)

    def forward(self, x):
        x = self.first(x)
        return self.strided(x) + self.mean(x)


def test_sizes_that_sympy_cannot_solve_for_stay_free(tmp_path):
    artifact = to_onnx(Halved().eval(), image(size=32), tmp_path / "out", second_opinion=False)
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    assert artifact.sizes.step == 8


class Pooled(nn.Module):
    """Adds what it sees through a window much larger than its example, as pyramids of pools do (DDRNet)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        x = self.layer(x)
        wide = nn.functional.avg_pool2d(x, 17, 16, 8)
        return x + nn.functional.interpolate(wide, x.shape[2:], mode="bilinear")


def test_a_map_of_one_value_at_twice_the_example_does_not_bound_the_sizes_either(tmp_path):
    flat = flatten(Pooled().eval(), Example((image(size=8),), {}))
    assert flat.example.args[0].shape == (1, 1, 128, 128)
    artifact = to_onnx(Pooled().eval(), image(size=8), tmp_path / "out", samples=[image(size=48)[0]])
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    assert artifact.parity[-1].shapes == ((1, 1, 48, 48),)


def test_a_map_of_one_value_at_the_example_does_not_bound_the_sizes(tmp_path):
    example = Example((image(size=16),), {})
    assert size_limits(export_program(Deepest().eval(), example, Freedom.BATCH_AND_SIZES)).largest == 47
    flat = flatten(Deepest().eval(), example)
    assert flat.freedom is Freedom.BATCH_AND_SIZES
    assert size_limits(flat.program).largest is None
    assert flat.example.args[0].shape == (1, 1, 32, 32)
    samples = [image(size=64)[0]]
    artifact = to_onnx(Deepest().eval(), image(size=16), tmp_path / "out", samples=samples)
    assert artifact.parity[-1].shapes == ((1, 1, 64, 64),)


class Graded(nn.Module):
    """Grows back to its size in steps of one factor, a root of the quotient of sizes (SeisT)."""

    def __init__(self):
        super().__init__()
        self.down, self.last = nn.Conv1d(1, 4, 5, stride=4, padding=2), nn.Conv1d(4, 1, 1)

    def forward(self, x):
        low, size = self.down(x), x.shape[-1]
        factor = (size / low.shape[-1]) ** (1 / 2)
        middle = nn.functional.interpolate(low, size=int(size / factor), mode="linear")
        return self.last(nn.functional.interpolate(middle, size=size, mode="linear"))


def test_sizes_of_roots_of_quotients_are_written(tmp_path):
    artifact = to_onnx(Graded().eval(), torch.rand(1, 1, 64), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES


class Passing(nn.Module):
    """Passes messages from row to row of a map that is smaller than the image (SCNN)."""

    def __init__(self):
        super().__init__()
        self.down, self.layer = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, (1, 3), padding=(0, 1))

    def forward(self, x):
        x = nn.functional.max_pool2d(self.down(x), 4)
        rows = [x[:, :, i : i + 1] for i in range(x.shape[2])]
        for i in range(1, len(rows)):
            rows[i] = rows[i] + self.layer(rows[i - 1]).relu()
        return torch.cat(rows, 2)


def test_a_network_that_goes_row_by_row_is_written_for_its_size(tmp_path):
    artifact = to_onnx(Passing().eval(), image(size=16), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH


def test_a_network_that_keeps_what_it_made_for_its_size_is_written_for_all(tmp_path):
    for network in (BySize(), InBuffer()):
        network.eval()(image())
        artifact = to_onnx(network, image(), tmp_path / type(network).__name__, second_opinion=False)
        assert artifact.freedom is Freedom.BATCH_AND_SIZES


class OneWindow(nn.Module):
    """Attends within windows of 4 x 4, as einops writes it: the images are the windows divided."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 12, 3, stride=2, padding=1)

    def forward(self, x):
        x = self.down(x)
        batch, rows, columns = x.shape[0], x.shape[2] // 4, x.shape[3] // 4
        windows = x.reshape(batch, 3, 2, 2, rows, 4, columns, 4).permute(1, 0, 4, 6, 2, 5, 7, 3)
        query, key, value = windows.reshape(3, batch * rows * columns, 2, 16, 2)
        mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        images = mixed.shape[0] // (rows * columns)
        joined = mixed.reshape(images, rows, columns, 2, 4, 4, 2).permute(0, 3, 6, 1, 4, 2, 5)
        return joined.reshape(images, 4, rows * 4, columns * 4)[:, :, : x.shape[2], : x.shape[3]]


def test_one_window_at_the_example_does_not_bound_the_sizes(tmp_path):
    artifact = to_onnx(OneWindow().eval(), image(size=8), tmp_path / "out", samples=[image(size=32)[0]])
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    assert artifact.parity[-1].shapes == ((1, 1, 32, 32),)


def test_a_text_beside_the_image_keeps_its_width():
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.text = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(6, 4)

        def forward(self, x, text):
            return self.head(x) + self.text(text).mean(1)[..., None, None]

    flat = flatten(Told().eval(), Example((image(), torch.randn(1, 5, 6)), {}))
    assert flat.freedom is Freedom.BATCH_AND_SIZES
    assert [
        tuple(map(str, node.meta["val"].shape))[1:]
        for node in flat.program.graph.nodes
        if node.name == "text"
    ] == [("5", "6")]


def test_a_batch_that_goes_through_int_and_len_is_left_free():
    flat = flatten(Windowed().eval(), as_example(torch.rand(1, 1, 16, 16)))
    assert flat.freedom is Freedom.BATCH
    assert not [node for node in flat.graph_module.graph.nodes if node.target is math.trunc]
