import pytest
import torch
from surgeon.export import to_onnx
from surgeon.export.fusion import norms
from surgeon.export.fusion.norms import steady_norms
from torch import nn

from surgeon.errors import ExportError

from .graphs import assert_exact, graph_of, operations


def with_parameters(norm):
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, -1.5, 1.5)
    return norm


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(norms, "MOST", 63)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.InstanceNorm3d(4, affine=True), (2, 4, 5, 6, 7)),
        (nn.InstanceNorm2d(4), (2, 4, 9, 8)),
        (nn.GroupNorm(2, 4), (2, 4, 5, 6, 7)),
        (nn.GroupNorm(1, 6, affine=False, eps=1e-3), (1, 6, 9, 8)),
    ],
)
def test_a_norm_over_many_values_goes_in_steps_and_gives_the_same(norm, shape):
    before, x = graph_of(nn.Sequential(with_parameters(norm), nn.ReLU()), *shape)
    after, report = steady_norms(before)
    assert report.changed == 1
    assert not {"instance_norm", "group_norm"} & set(operations(after))
    assert_exact(before, after, x)
    again, report = steady_norms(after)
    assert again is after


@pytest.mark.usefixtures("_small")
def test_norms_over_few_values_stay_without_a_word():
    before, _ = graph_of(nn.InstanceNorm2d(4), 2, 4, 7, 9)
    same, report = steady_norms(before)
    assert same is before
    assert report.rejected == ()


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    ("norm", "shape", "reason"),
    [
        (nn.InstanceNorm2d(4, track_running_stats=True), (2, 4, 9, 8), "running statistics"),
        (nn.InstanceNorm1d(4), (2, 4, 99), "one line"),
    ],
)
def test_norms_that_have_no_steps_stay_with_a_reason(norm, shape, reason):
    before, _ = graph_of(norm, *shape)
    same, report = steady_norms(before)
    assert same is before
    assert [reason in rejected.reason for rejected in report.rejected] == [True]


@pytest.fixture
def normed():
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv3d(1, 2, 1), nn.InstanceNorm3d(2), nn.Conv3d(2, 2, 1)).eval()


VOLUME = torch.randn(1, 1, 96, 96, 96, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("target", ["ort-cpu", pytest.param("triton", marks=pytest.mark.slow)])
def test_a_large_volume_is_exported_right_also_where_it_shows_nothing(normed, target, tmp_path):
    told = to_onnx(normed, VOLUME, tmp_path / "steady", target=target, sizes="fixed").to_dict()
    assert {case["what"] for case in told["parity"]} > {"example", "blank"}
    assert max(case["relative"] for case in told["parity"]) < 1e-5
    assert [one["changed"] for one in told["fusion"] if one["name"] == "steady_norms"] == [1]


def test_the_kernel_of_the_runtime_is_refused_on_a_large_volume(normed, tmp_path, monkeypatch):
    monkeypatch.setattr("surgeon.export.exporting.has_norms", lambda _: False)
    with pytest.raises(ExportError, match="where: blank"):
        to_onnx(normed, VOLUME, tmp_path / "plain", target="ort-cuda", sizes="fixed")
    assert not (tmp_path / "plain").exists()
