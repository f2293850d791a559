"""Sizes that go through `int()` and `len()` stay free, and nothing of that is left behind."""

from __future__ import annotations

import importlib
import math
import operator
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from surgeon.tracing import Way, trace
from surgeon.tracing.wholes import sizes_kept_free
from tests.core.networks import conv, image


def _windows(x: Tensor, size: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c, h // size, size, w // size, size)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, size * size, c)  # (N windows, positions, C)


def _joined(windows: Tensor, size: int, h: int, w: int) -> Tensor:
    """Put windows together again; how many images they are of is computed as Swin's code does it."""
    n = int(windows.shape[0] / (h * w / size / size))
    x = windows.view(n, h // size, w // size, size, size, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, h, w)


class Windowed(nn.Module):
    """Mixes the positions of a window; the number of images is read by `int()`, then by `len()`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.last = conv(1, 4), nn.Linear(16, 16), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        rows = self.mix(_windows(x, 4).transpose(1, 2)).transpose(1, 2)
        x = x + _joined(rows, 4, 16, 16)
        weight = x.mean((2, 3)).view(len(x), -1, 1, 1)
        return self.last(x * weight)


def test_a_batch_that_goes_through_int_and_len_stays_free():
    host = Windowed().eval()
    traced = trace(host, image())
    assert traced.summary.way is Way.EXPORT_FREE_BATCH  # the 16 positions are a number of the network's own
    assert traced.summary.free_batch
    with torch.no_grad():
        x = image(batch=5)
        assert torch.equal(traced.graph_module(x), host(x))


def test_a_size_over_a_whole_number_is_divided_without_rounding():
    graph = trace(Windowed(), image()).graph_module.graph
    quotients = [node.args[1] for node in graph.nodes if node.target is operator.floordiv]
    assert 16 in quotients  # 16 windows of 4 x 4 positions
    assert not [node for node in graph.nodes if node.target is operator.truediv]


class Reckoning(nn.Module):
    """Two convolutions, and between them what a network reckons with its sizes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last = conv(1, 4), conv(4, 2)


class Rooted(Reckoning):
    """Scales by roots of sizes, and finds a square's side by one."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) * np.sqrt(x.shape[3])
        side = int(math.sqrt(x.shape[2] * x.shape[2]))
        rows = x.view(x.shape[0], x.shape[1], side, -1) / math.sqrt(x.shape[2] * x.shape[3])
        return self.last(rows[:, :, : int(np.ceil(x.shape[2]))] * math.sqrt(2.0))


def test_sizes_whose_roots_are_taken_stay_free():
    host = Rooted().eval()
    traced = trace(host, torch.rand(1, 1, 12, 16))
    assert traced.summary.way is Way.EXPORT_FREE
    x = torch.rand(2, 1, 9, 21)
    torch.testing.assert_close(traced.graph_module(x), host(x))


def test_nothing_stands_in_for_int_len_and_roots_afterwards():
    native = math.sqrt, math.fabs, torch.SymInt.__and__
    trace(Windowed(), image())
    assert native == (math.sqrt, math.fabs, torch.SymInt.__and__)
    assert not hasattr(torch.SymInt, "__divmod__")
    assert not hasattr(torch.SymInt, "ceil")
    assert "int" not in globals()
    assert "len" not in globals()


def test_what_stands_in_for_int_answers_as_int_does():
    with sizes_kept_free(Windowed()):
        whole = globals()["int"]  # the name that a host's code sees
    assert whole is not int
    assert (whole("7"), whole(3.9), type(whole(3.9))) == (7, 3, int)
    assert isinstance(3, whole)
    assert not isinstance(3.0, whole)
    assert issubclass(bool, whole)
    assert type(4) == whole  # noqa: E721, UP003 - as older code asks
    assert {whole: "kept"}[int] == "kept"


class Floated(Reckoning):
    """Reckons with sizes as with real numbers, as code from the days of Python 2 does."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        height, width = x.shape[2:]
        x = x * (float(height) / width) + torch.arange(width) / float(np.prod(x.shape[2:]))
        return self.last(nn.functional.interpolate(x, size=(int(float(height) * 1.5), width)))


def test_sizes_that_go_through_float_stay_free():
    host = Floated().eval()
    traced = trace(host, torch.rand(1, 1, 12, 16))
    assert traced.summary.way is Way.EXPORT_FREE
    x = torch.rand(2, 1, 10, 22)
    torch.testing.assert_close(traced.graph_module(x), host(x))


class Shifting(Reckoning):
    """Reckons with the binary digits of sizes: fills up to eight, halves by a shift."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        height, width = x.shape[2:]
        rows, rest = divmod(height, 8)
        scale = (rows << 1) + rest + (width & 3) + math.fabs(width - height)
        x = nn.functional.pad(x, (0, ((width + 7) & ~7) - width))
        return self.last(nn.functional.adaptive_avg_pool2d(x, (height >> 1, width >> 1)) * scale)


def test_sizes_of_which_binary_digits_are_taken_stay_free():
    host = Shifting().eval()
    traced = trace(host, torch.rand(1, 1, 12, 16))
    assert traced.summary.way is Way.EXPORT_FREE
    for size in ((9, 22), (22, 9), (16, 16)):
        x = torch.rand(2, 1, *size)
        torch.testing.assert_close(traced.graph_module(x), host(x))


TYPED = """
import torch
from torch import nn


class Typed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        x = self.stem(x) + int(x.shape[0] / 1)
        return x + torch.zeros(1, dtype=float).to(int)
"""


def test_types_that_are_given_as_dtypes_are_left_to_torch(tmp_path, monkeypatch):
    (tmp_path / "typed_network.py").write_text(TYPED)
    monkeypatch.syspath_prepend(tmp_path)
    host = importlib.import_module("typed_network").Typed().eval()
    with sizes_kept_free(host):
        assert {"int", "float"}.isdisjoint(vars(sys.modules["typed_network"]))
    traced = trace(host, torch.rand(1, 1, 12, 16))
    assert traced.summary.free_sizes
    x = torch.rand(1, 1, 10, 22)
    torch.testing.assert_close(traced.graph_module(x), host(x))


class Halved(nn.Module):
    """Goes another way where a rounded quotient of its size is not what it was."""

    def __init__(self, fits: Callable[[int], bool]) -> None:
        super().__init__()
        self.fits, self.stem, self.last = fits, conv(1, 4), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        made = self.stem(x)
        return self.last(made if self.fits(x.shape[2]) else made + 1)


@pytest.mark.parametrize(
    ("fits", "step"),
    [
        (lambda height: math.floor((height - 3 + 2) / 1) + 1 == height, 1),  # acsconv
        (lambda height: math.ceil(height / 2) == height // 2, 2),
        (lambda height: 2 * round(height / 2) == height, 2),
        (lambda height: 4 * int(height / 4) == height, 4),
    ],
)
def test_sizes_whose_rounded_quotients_are_asked_for_stay_free(fits, step):
    host = Halved(fits).eval()
    traced = trace(host, torch.rand(1, 1, 16, 16))
    assert traced.summary.way is Way.EXPORT_FREE
    assert traced.summary.graph_stride == step
    x = torch.rand(2, 1, 24, 20)
    assert torch.equal(traced.graph_module(x), host(x))
