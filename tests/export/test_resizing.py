"""Smoothed resizing as products."""

import pytest
import torch
from surgeon.export import to_onnx
from surgeon.export.resizing import _cubic, _triangle, smoothing_matrix
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("mode", "kernel"), [("bilinear", _triangle), ("bicubic", _cubic)])
@pytest.mark.parametrize(
    ("before", "after", "factor"),
    [(9, 24, None), (33, 16, None), (33, 16, 0.5), (7, 17, 2.5), (2, 1, None), (5, 5, None)],
)
def test_the_matrix_is_that_of_torch(mode, kernel, align_corners, before, after, factor):
    images = torch.eye(before).reshape(before, 1, before, 1).expand(-1, -1, -1, 4)
    scale = None if factor is None else (factor, 1.0)
    size = (after, 4) if factor is None else None
    settings = {"mode": mode, "align_corners": align_corners, "antialias": True}
    expected = F.interpolate(images, size, scale, **settings)[:, 0, :, 0].T
    found = smoothing_matrix(before, after, kernel, align_corners, factor)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


class Smoothed(nn.Module):
    """Halves and doubles what it has, smoothly."""

    def __init__(self, mode, align_corners):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.settings = {"mode": mode, "align_corners": align_corners, "antialias": True}

    def forward(self, x):
        half = F.interpolate(self.conv(x), scale_factor=0.5, **self.settings)
        return F.interpolate(half, size=x.shape[2:], **self.settings)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_smoothed_resizing_is_exported_with_free_sizes(tmp_path, mode, align_corners):
    torch.manual_seed(0)
    host = Smoothed(mode, align_corners).eval()
    artifact = to_onnx(host, torch.rand(1, 1, 16, 20), tmp_path)
    assert artifact.to_dict()["sizes"]["free"]
    assert artifact.to_dict()["sizes"]["step"] == 1
