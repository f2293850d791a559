import pytest
import torch
from surgeon.export import Freedom, flatten, to_onnx
from surgeon.export import flattening as flattening_module
from surgeon.export.adaptive import average_bins, largest_of_bins, with_free_bins
from torch import nn
from torch.nn import functional as F

from surgeon.errors import ExportError
from surgeon.tracing import Example

from .networks import image, small_unet, stir

AVERAGES = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
MAXIMA = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("bins", [(1, 2, 3), (6, 3, 2), (5, 7, 4)])
def test_bins_are_those_of_torch_for_every_size(rank, bins):
    for sizes in ((6, 6, 6), (5, 8, 11), (3, 13, 7)):
        x = image(rank, 16, channels=2)[(..., *(slice(size) for size in sizes[:rank]))]
        torch.testing.assert_close(average_bins(x, bins[:rank]), AVERAGES[rank - 1](x, bins[:rank]))
        assert torch.equal(largest_of_bins(x, bins[:rank])[0], MAXIMA[rank - 1](x, bins[:rank]))


class Pyramid(nn.Module):
    """The pyramid of PSPNet: bins of the image, enlarged and put beside it."""

    def __init__(self, pool, bins=(2, 3)):
        super().__init__()
        self.pool, self.bins = pool, bins
        self.entry, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.entry(x)
        pooled = self.pool(x, self.bins)
        return self.head(torch.cat([x, F.interpolate(pooled, x.shape[2:], mode="bilinear")], 1))


@pytest.mark.parametrize("pool", [F.adaptive_avg_pool2d, F.adaptive_max_pool2d])
def test_a_pyramid_is_right_at_every_size(pool, tmp_path):
    artifact = to_onnx(stir(Pyramid(pool)), image(size=12), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    assert len({case.shapes[0][2:] for case in artifact.parity}) >= 5
    assert artifact.second_opinion.difference.relative < 1e-5


def test_without_it_the_gate_refuses_what_the_exporter_writes_and_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(flattening_module, "with_free_bins", lambda module: module)
    with pytest.raises(ExportError, match="sizes='fixed'") as refused:
        to_onnx(stir(Pyramid(F.adaptive_avg_pool2d)), image(size=12), tmp_path / "out")
    assert "values part first at adaptive_avg_pool2d" in refused.value.where
    assert "test_adaptive.py:" in refused.value.where
    assert not list(tmp_path.iterdir())


def test_what_needs_nothing_is_left_alone():
    class Places(nn.Module):
        def forward(self, x):
            values, places = F.adaptive_max_pool2d(x, (2, 2), return_indices=True)
            return values, places

    for network in (small_unet(), Pyramid(F.adaptive_avg_pool2d, (1, 1)), Places()):
        graph = flatten(network.eval(), Example((image(size=12),), {})).graph_module
        assert with_free_bins(graph) is graph
    fixed = flatten(Pyramid(F.adaptive_avg_pool2d).eval(), Example((image(),), {}), (Freedom.BATCH,))
    assert with_free_bins(fixed.graph_module) is fixed.graph_module
