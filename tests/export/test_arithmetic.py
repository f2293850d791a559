"""What networks reckon with their sizes: Python's whole numbers, in the file too."""

import math
from unittest.mock import Mock

import pytest
import torch
from surgeon.export import open_session, run_session, to_onnx, writing
from surgeon.export.flattening import Freedom, export_program, flatten
from surgeon.export.fusion.norms import steady_norms
from torch import nn
from torch.nn import functional as F

from surgeon.errors import ExportError
from surgeon.tracing import Example, trace
from tests.core.tracing.test_freeing import Coordinates
from tests.core.tracing.test_pooling import POOLS, Weighing
from tests.core.tracing.test_wholes import Floated, Rooted, Shifting

from .freely import assert_exported_freely
from .networks import stir


class Fitting(nn.Module):
    """A level whose way up is a pixel too large for odd sizes, and is cut to fit."""

    def __init__(self):
        super().__init__()
        self.first, self.down = nn.Conv1d(1, 4, 3, padding=1), nn.Conv1d(4, 4, 3, stride=2, padding=1)
        self.up, self.last = nn.ConvTranspose1d(4, 4, 2, stride=2), nn.Conv1d(8, 2, 1)

    def forward(self, x):
        skip = self.first(x)
        return self.last(torch.cat([skip, self.fit(self.up(self.down(skip)), skip.shape[-1])], 1))


class Padded(Fitting):
    """Fills up what is missing, half on each side; what is missing may be below zero."""

    def fit(self, x, wanted):
        missing = wanted - x.shape[-1]
        return F.pad(x, (missing // 2, missing - missing // 2))


class Rounded(Fitting):
    """Fills the image up to a size that it reckons with `math.ceil`, of a whole number too."""

    def forward(self, x):
        wanted = math.ceil(math.ceil(x.shape[-1] * 2) / 8) * 4
        return super().forward(F.pad(x, (0, wanted - x.shape[-1])))[..., : x.shape[-1]]

    def fit(self, x, wanted):
        return x[..., :wanted]


class RoundedToNearest(Rounded):
    """Fills the image up to the nearest size, of two that are as near the even one."""

    def forward(self, x):
        length = x.shape[-1]
        wanted = length + 2 * round(length / 4) + round(length)
        return Fitting.forward(self, F.pad(x, (0, wanted - length)))[..., :length]


class ReadFromTensors(nn.Module):
    """Reckons with tensors of sizes, and reads the numbers back."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 16, 3, padding=1), nn.Conv3d(32, 16, 3, padding=1)
        self.each = nn.Conv3d(16, 16, 3, padding=1, groups=16)

    def forward(self, x):
        skip = self.first(x)
        deep = F.interpolate(F.max_pool3d(skip, 2), scale_factor=2.0)
        missing = ((torch.tensor(skip.shape) - torch.tensor(deep.shape))[2:] / 2).int()
        pad = -torch.stack((missing, missing)).t().flatten()
        return F.instance_norm(self.each(self.last(torch.cat([F.pad(skip, pad.tolist()), deep], 1))))


def test_volumes_whose_sizes_are_read_from_tensors_are_rewritten_where_that_asks_for_no_shapes(tmp_path):
    network, x = stir(ReadFromTensors()), torch.rand(1, 1, 10, 12, 8)
    artifact = to_onnx(network, torch.rand(1, 1, 8, 8, 8), tmp_path / "out")
    reports = {report.name: report for report in artifact.fusion}
    assert reports["convolve_planes"].changed == 1
    assert reports["slice_depthwise"].changed == 1
    found = run_session(open_session(artifact.model), [x])[0]
    torch.testing.assert_close(found, network(x), atol=1e-5, rtol=1e-4)


def test_norms_of_volumes_whose_sizes_are_read_from_tensors_keep_their_form():
    example = Example((torch.rand(1, 1, 8, 8, 8),), {})
    graph = flatten(stir(ReadFromTensors()), example, (Freedom.BATCH_AND_SIZES,)).graph_module
    _, report = steady_norms(graph, most=0)
    assert [one.reason for one in report.rejected] == ["its sizes are read from tensors"]


@pytest.mark.parametrize("kind", [Padded, Rounded, RoundedToNearest])
@pytest.mark.parametrize("traced", [30, 31])
def test_a_network_that_cuts_to_fit_is_exported_for_all_sizes(kind, traced, tmp_path):
    network = stir(kind())
    artifact = to_onnx(network, torch.rand(1, 1, traced), tmp_path / "out")
    assert artifact.freedom.sizes
    session = open_session(artifact.model)
    for size in (29, 32, 47):
        x = torch.rand(1, 1, size)
        torch.testing.assert_close(run_session(session, [x])[0], network(x), atol=1e-5, rtol=1e-4)


def test_coordinates_are_exported_for_all_sizes(tmp_path):
    network, x = stir(Coordinates()), torch.rand(2, 1, 9, 21)
    artifact = to_onnx(network, torch.rand(1, 1, 12, 16), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    found = run_session(open_session(artifact.model), [x])[0]
    torch.testing.assert_close(found, network(x), atol=1e-5, rtol=1e-4)


def test_roots_of_sizes_are_exported_for_all_sizes(tmp_path):
    network = stir(Rooted())
    artifact = to_onnx(network, torch.rand(1, 1, 12, 16), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    x = torch.rand(2, 1, 9, 21)
    found = run_session(open_session(artifact.model), [x])[0]
    torch.testing.assert_close(found, network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("retraced", [False, True])
def test_pools_over_everything_are_exported_for_all_sizes(tmp_path, retraced):
    network = stir(Weighing(lambda x: sum(pool(x) for pool in POOLS.values())))
    model = trace(network, torch.rand(1, 1, 12, 16)).graph_module if retraced else network
    artifact = to_onnx(model, torch.rand(1, 1, 12, 16), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    x = torch.rand(2, 1, 9, 21)
    found = run_session(open_session(artifact.model), [x])[0]
    torch.testing.assert_close(found, network(x), atol=1e-5, rtol=1e-4)


class Parities(nn.Module):
    """Goes one way for odd sizes and another for even ones, down to a map of one value."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.down, self.norm = nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2)

    def forward(self, x):
        skips = [self.first(x)]
        for _ in range(3):
            x = skips[-1]
            x = F.pad(x, (1, 0, 1, 0))[:, :, 1:, 1:] if x.shape[-1] % 2 == 0 else x
            skips.append(torch.relu(self.norm(self.down(x))))
        for _ in range(3):
            x, skip = self.up(skips.pop()), skips[-1]
            x = x[:, :, :-1, :-1] if skip.shape[-1] % 2 == 0 else x[:, :, :-2, :-2]
            skips[-1] = skip + x
        return self.last(torch.cat([skips[0], self.first(x[:, :1])], 1))


@pytest.mark.parametrize("size", [(7, 7), (15, 23)])
def test_a_network_that_asks_for_parity_is_exported_where_its_way_holds(size, tmp_path):
    network, x = stir(Parities()), torch.rand(1, 1, *size)
    session = open_session(to_onnx(network, torch.rand(1, 1, 7, 7), tmp_path / "out").model)
    torch.testing.assert_close(run_session(session, [x])[0], network(x), atol=1e-5, rtol=1e-4)


def test_a_fused_graph_that_cannot_be_traced_with_free_sizes_is_fixed_and_says_so(tmp_path, monkeypatch):
    def without_sizes(model, example, freedom):
        if freedom.sizes:
            raise ValueError("the sizes are inconsistent")
        return export_program(model, example, freedom)

    monkeypatch.setattr(writing, "export_program", without_sizes)
    artifact = to_onnx(stir(Padded()), torch.rand(1, 1, 30), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH
    assert "the sizes are inconsistent" in artifact.refusals[-1].reason
    assert {case.shapes[0][2:] for case in artifact.parity} == {(30,)}


def test_a_fused_graph_that_cannot_be_traced_at_all_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "export_program", Mock(side_effect=ValueError("no way")))
    with pytest.raises(ExportError, match="cannot trace the fused graph: no way"):
        to_onnx(stir(Padded()), torch.rand(1, 1, 30), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("network", [Floated, Shifting])
def test_a_file_reckons_with_sizes_as_real_numbers_and_by_their_digits(network, tmp_path):
    assert_exported_freely(network(), tmp_path)


class RoundedToDigits(nn.Module):
    """Rounds a quotient of its sizes to three digits, which ONNX has no operator for."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return self.stem(x) * round(float(x.shape[2]) / x.shape[3], 3)


def test_what_cannot_be_reckoned_of_free_sizes_is_written_for_the_examples(tmp_path):
    torch.manual_seed(0)
    network = stir(RoundedToDigits())
    artifact = to_onnx(network, torch.rand(1, 1, 8, 12), tmp_path)
    assert artifact.freedom is Freedom.BATCH
    assert any("rounded to 3 digits" in refusal.reason for refusal in artifact.refusals)
    x = torch.rand(3, 1, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(run_session(open_session(artifact.model), x)[0], network(x))
