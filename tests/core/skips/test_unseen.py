"""Structures of published networks that were not known when the rule was written."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgeon
from surgeon.skips import Layout
from tests.core import networks
from tests.core.networks import conv, image, up


class _Standardised(nn.Conv2d):
    """A convolution whose weights are made of weights at every step."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-4)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


def test_a_convolution_with_standardised_weights_has_weights():
    host = networks.UNet()
    for module in host.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = _Standardised
    # What follows the last concatenation has no other weights: it would only gather outputs.
    assert [s.merge_module for s in surgeon.inspect(host, image()).skips] == ["join0", "join1"]


class _CrossAttention(nn.Module):
    """Linear attention of a decoder's map to a skip, around it a residual of both side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = conv(channels, 2 * channels, kernel=1)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        keys, values = skip.flatten(2), below.flatten(2)  # (N, C, L)
        context = keys.softmax(2) @ values.transpose(1, 2)  # (N, C, C): no positions are left
        attended = context.transpose(1, 2) @ keys.softmax(1)
        return torch.cat([below, skip], 1) + self.mix(attended.reshape(below.shape))


class _Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc0, self.enc1, self.enc2 = conv(1, 4), conv(4, 4, stride=2), conv(4, 4, stride=2)
        self.join1, self.join0 = _CrossAttention(4), _CrossAttention(4)
        self.dec1, self.dec0 = conv(8, 4), conv(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.enc0(x)
        b = self.enc1(a)
        x = self.dec1(self.join1(up(self.enc2(b)), b))
        return self.dec0(self.join0(up(x), a))


def test_a_residual_around_a_concatenation_does_not_hide_the_skip_in_it():
    anatomy = surgeon.inspect(_Attends(), image())
    assert [(s.merge.value, s.source_module, s.merge_module, s.kind.value) for s in anatomy.skips] == [
        ("cat", "enc0", "join0", "skip"),
        ("cat", "enc1", "join1", "skip"),
    ]


class _SelfAttention(nn.Module):
    """Channel and linear attention of a skip to itself: products that sum over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key, self.value = conv(channels, channels, kernel=1), conv(channels, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2)
        by_channel = (rows @ rows.transpose(1, 2)).softmax(-1) @ rows
        key, value = self.key(x).flatten(2), self.value(x).flatten(2)
        key = torch.einsum("bmn,bn->bmn", key, 1 / key.norm(dim=1))
        context = torch.einsum("bmn,bcn->bmc", key, value)
        by_position = torch.einsum("bmn,bmc->bcn", rows.softmax(1), context)
        by_position = by_position + torch.einsum("bcn->bc", value)[:, :, None]
        return (x + by_channel.view(x.shape)) + (x + by_position.view(x.shape))


class _AttendsToSkips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc0, self.enc1, self.enc2 = conv(1, 4), conv(4, 4, stride=2), conv(4, 4, stride=2)
        self.attend2, self.attend1, self.attend0 = _SelfAttention(4), _SelfAttention(4), _SelfAttention(4)
        self.dec1, self.dec0 = conv(4, 4), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.enc0(x)
        b = self.enc1(a)
        x = self.dec1(up(self.attend2(self.enc2(b)))) + self.attend1(b)
        return self.dec0(up(x) + self.attend0(a))


def test_sums_over_all_positions_on_a_skip_do_not_hide_it():
    anatomy = surgeon.inspect(_AttendsToSkips(), image())
    assert [(s.merge.value, s.source_module) for s in anatomy.skips] == [("add", "enc0"), ("add", "enc1")]


class _MixesByWeights(nn.Module):
    """A U whose inner level is mixed by weights that stand on the left of the product, as in Mamba."""

    def __init__(self) -> None:
        super().__init__()
        self.enc0, self.enc1, self.dec0 = conv(1, 4), conv(4, 4, stride=2), conv(8, 2)
        self.channels = nn.Parameter(torch.randn(6, 4))
        self.back = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        a = self.enc0(x)
        b = self.enc1(a)
        mixed = torch.matmul(self.back, torch.matmul(self.channels, b.flatten(2)).relu())
        return self.dec0(torch.cat([up(mixed.view(b.shape)), a], 1))


def test_weights_may_stand_on_the_left_of_a_product():
    anatomy = surgeon.inspect(_MixesByWeights(), image())
    assert [(s.merge.value, s.source_module) for s in anatomy.skips] == [("cat", "enc0")]


class _Flat(nn.Module):
    """A U of tokens whose patches are not cubes: 4 x 8 x 8 positions of an input of 8 x 32 x 32."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(1, 6, (2, 4, 4), (2, 4, 4))
        self.block, self.inner, self.after = nn.Linear(6, 6), nn.Conv3d(6, 6, 2, 2), nn.Linear(6, 6)
        self.out = nn.Conv3d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        grid = self.patches(x)
        tokens = self.block(grid.flatten(2).transpose(1, 2))  # (N, L, C)
        deep = self.inner(tokens.transpose(1, 2).reshape(grid.shape))
        deep = F.interpolate(deep, scale_factor=2).flatten(2).transpose(1, 2)
        joined = self.after(deep + tokens)
        return self.out(joined.transpose(1, 2).reshape(grid.shape))


def test_tokens_of_a_grid_that_is_not_a_cube_can_be_operated_on():
    host, x = _Flat().eval(), torch.rand(1, 1, 8, 32, 32)
    (skip,) = surgeon.inspect(host, x).skips
    assert skip.layout is Layout.TOKENS
    assert skip.implantable
    assert skip.stride == (2, 4, 4)
    seen = []

    class Cell(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return x

    spliced = surgeon.splice(host, x, {"s0": Cell()})
    assert torch.equal(spliced(x), host(x))
    assert set(seen) == {(1, 6, 4, 8, 8)}


class _TokensInOneRow(nn.Module):
    """Levels of two widths in one row of tokens of the smaller width, cut and folded apart again."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.bottom = conv(1, 4), conv(4, 8, stride=2)
        self.mix, self.deep, self.join = nn.Linear(4, 4), conv(8, 8, stride=2), nn.Linear(16, 8)
        self.last = conv(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        bottom = self.bottom(top)
        batch, _, rows, columns = bottom.shape
        levels = [level.flatten(2).transpose(1, 2).reshape(batch, -1, 4) for level in (top, bottom)]
        row = self.mix(torch.cat(levels, 1))
        kept = row[:, levels[0].shape[1] :].reshape(batch, -1, 8)
        deep = F.interpolate(self.deep(bottom), scale_factor=2).flatten(2).transpose(1, 2)
        joined = self.join(torch.cat([deep, kept], 2)).transpose(1, 2).reshape(batch, 8, rows, columns)
        return self.last(torch.cat([F.interpolate(joined, scale_factor=2), top], 1))


def test_tokens_whose_axes_a_reshape_hides_are_laid_out_as_what_they_meet():
    top, bottom = surgeon.inspect(_TokensInOneRow(), image()).skips
    assert top.implantable
    assert top.merge_shape == (1, 4, 16, 16)
    assert bottom.implantable
    assert bottom.layout is Layout.TOKENS
    assert (bottom.merge_shape, bottom.stride) == ((1, 64, 8), (2, 2))
