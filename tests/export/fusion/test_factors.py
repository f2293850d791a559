import json

import pytest
import torch
from surgeon.export import to_onnx
from surgeon.export.fusion.factors import merge_factors
from torch import nn

from .graphs import assert_exact, graph_of, operations


class Computes(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, x):
        return self.compute(x)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x * 0.5 * 3,
        lambda x: 0.5 * (x / 3),
        lambda x: x / 7 / 5,
        lambda x: torch.mul(x, -0.5) * 3 * 0.25,
    ],
)
def test_numbers_one_after_the_other_become_one(compute):
    before, x = graph_of(Computes(compute), 2, 2, 5, 5)
    after, report = merge_factors(before)
    assert report.changed >= 1
    assert operations(after) == ["mul"]
    assert_exact(before, after, x)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: (x + 1) * 3,
        lambda x: 3 / (x * 2),
        lambda x: torch.div(x * 2, 3, rounding_mode="floor"),
        lambda x: (x > 0) * 2 * 0.5,
        lambda x: x * 1e-20 * 1e-20,
        lambda x: x * 0 * 2,
        lambda x: x.mul(x) * 2,
    ],
)
def test_what_is_no_product_with_two_numbers_stays(compute):
    before, _ = graph_of(Computes(compute), 2, 2, 5, 5)
    after, report = merge_factors(before)
    assert report.changed == 0
    assert after is before


class _ScaledTwice(nn.Module):
    """Queries that are scaled once for each of two keys, as those of VT-UNet's decoder."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.other = (nn.Conv2d(2, 4, 1) for _ in range(3))

    def forward(self, x):
        key, other = self.key(x).flatten(2), self.other(x).flatten(2)
        query = self.query(x).flatten(2).transpose(1, 2) * 0.5
        first = query @ key
        query = query * 0.5
        return (first + query @ other).softmax(-1)


def test_queries_that_are_scaled_twice_are_written_as_onnxruntime_takes_them(tmp_path):
    torch.manual_seed(0)
    to_onnx(_ScaledTwice().eval(), torch.randn(1, 2, 6, 5), tmp_path / "out")
    passes = json.loads((tmp_path / "out" / "export.json").read_text())["fusion"]
    assert [each["changed"] for each in passes if each["name"] == "merge_factors"] == [1]
