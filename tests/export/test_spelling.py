"""Operations written out, since the exporter fixes their sizes or does not know them."""

import warnings

import pytest
import torch
from surgeon.export.spelling import (
    attend,
    deconvolve,
    measure,
    normalise_by_batch,
    pool_by,
    repeat_each,
)
from torch import nn
from torch.nn import functional as F

from .freely import assert_exported_freely
from .networks import Headed


@pytest.mark.parametrize("mask", [None, torch.randn(6, 6), torch.randn(3, 6, 6)], ids=["none", "one", "each"])
def test_attention_of_one_head_is_torchs(mask):
    query, key, value = torch.randn(3, 3, 6, 4).unbind()
    expected = F.scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(attend(query, key, value, mask), expected)


class Turned(nn.Module):
    """Looks at its features a little turned."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.register_buffer("theta", torch.tensor([[[0.9, -0.1, 0.1], [0.1, 0.9, 0.0]]]))

    def forward(self, x):
        x = F.max_pool2d(self.conv(x), 2)
        grid = F.affine_grid(self.theta.expand(x.shape[0], 2, 3), x.shape, align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class Steered(Turned):
    """The same of whole images."""

    def forward(self, x):
        x = self.conv(x)
        grid = F.affine_grid(self.theta.repeat(x.shape[0], 1, 1), x.shape, align_corners=True)
        return F.grid_sample(x, grid, align_corners=True)


class Gridded(nn.Module):
    """Writes into its answer where it is, as YOLO's heads do, by a grid whose indexing is left to torch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x).sigmoid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks for the indexing
            rows, columns = torch.meshgrid([torch.arange(size) for size in x.shape[2:]])
        x[:, :2] = x[:, :2] * 2 + rows
        x[:, 2:] = x[:, 2:] ** 2 + columns
        return x


class Attending(nn.Module):
    """Attention without heads over all positions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        tokens = x.flatten(2).transpose(1, 2)
        return x + F.scaled_dot_product_attention(tokens, tokens, tokens).transpose(1, 2).reshape(x.shape)


class Training(nn.Module):
    """Normalises by the batch whatever its mode, with running statistics or without."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.kept = nn.BatchNorm2d(4)

    def forward(self, x):
        x = F.batch_norm(self.conv(x), None, None, training=True)
        norm = self.kept
        return F.batch_norm(
            x, norm.running_mean.clone(), norm.running_var.clone(), norm.weight, norm.bias, training=True
        )


@pytest.mark.parametrize("affine", [False, True])
def test_a_norm_of_the_batch_is_torchs(affine):
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    weight, bias = (torch.randn(4, dtype=torch.float64) if affine else None for _ in range(2))
    found = normalise_by_batch(x, weight, bias, None, None, True, 0.1, 1e-5, False)
    expected = F.batch_norm(x, None, None, weight, bias, training=True)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


class Sized(nn.Module):
    """A transposed convolution to the size of what it meets, as in ENet."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1)

    def forward(self, x):
        return self.up(self.down(x).relu(), output_size=x.shape[2:]) + x


@pytest.mark.parametrize(
    ("rank", "stride", "padding", "back", "groups", "dilation"),
    [(1, [2], [1], [0], 1, [1]), (2, [2, 3], [1, 0], [1, 2], 2, [1]), (3, [1], [2], [1, 0, 1], 1, [2])],
)
def test_a_transposed_convolution_to_a_size_is_torchs(rank, stride, padding, back, groups, dilation):
    x, weight = torch.randn(2, 4, *(6, 7, 5)[:rank]), torch.randn(4, 3, *(3, 4, 3)[:rank])
    how = weight, torch.randn(3 * groups), stride, padding, back, groups, dilation
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    torch.testing.assert_close(deconvolve(x, *how), convolve(x, *how))


class Sloped(nn.Module):
    """A ReLU whose slope is random in training."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.RReLU(), nn.Conv2d(4, 2, 1), nn.RReLU(0.3, 0.5))

    def forward(self, x):
        return self.layers(x)


class Cut(nn.Module):
    """Parts whose sizes are those of the images: two images in one batch, halves of a height, rows."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        first, second = self.layer(torch.cat([x, 2 * x])).chunk(2)
        upper, lower = torch.split(torch.cat([first, second], 2), x.shape[2], dim=2)
        top, middle, bottom = (upper - lower).chunk(3, 2)
        return self.last(torch.cat([middle, top.relu(), bottom], 2))


class Bounded(Headed):
    """Bounds of which one is whole and one is not, of real and of whole numbers, and ones made of sizes."""

    def forward(self, x):
        x = self.layer(x)
        places = (8 * x).long().clamp(0, 2.5) + (8 * x).long().clamp(max=1.5)
        return x.clamp(0.1, 1) + x.clamp(0, 0.5) + places + (8 * x).clamp(0.5, x.shape[2] // 4)


class Centred(Headed):
    """Looks at how far positions are from the middle, in whole numbers that meet halves."""

    def forward(self, x):
        x = self.layer(x)
        height, width = x.shape[2:]
        rows = torch.arange(height) - (height - 1) / 2
        columns = (width - 1) / 2 - torch.arange(width) / (width / 4)
        return x * torch.exp(-(rows**2) / height**2)[:, None] + columns


class Repeated(Headed):
    """Entries each as often as there are columns, places in rows, and a root as deep as there are rows."""

    def forward(self, x):
        x = self.layer(x)
        height, width = x.shape[2:]
        rows = torch.arange(height).repeat_interleave(width).view(height, width)
        again = x.mean(3, keepdim=True).repeat_interleave(width, -1)
        places = torch.arange(-5, height * width - 5) % width
        return again + rows + places.view(height, width) + x.abs().mean() ** (1 / height)


class Apart(Headed):
    """Distances of positions from each other, and pools that divide by a number of their own."""

    def forward(self, x):
        x = self.layer(x)
        places = x.flatten(2).transpose(1, 2)
        # From themselves they are as far as rounding has it, which is another for few positions.
        nearest = torch.cdist(places, places[:, :4] + 1).amin(2)
        pooled = F.avg_pool2d(x, 3, 1, 1, divisor_override=2)
        return torch.hypot(x, pooled) + nearest.view(-1, 1, *x.shape[2:])


@pytest.mark.parametrize("p", [1, 2, float("inf")])
@pytest.mark.parametrize("count", [5, 40])
def test_distances_are_torchs(count, p):
    x, other = torch.randn(2, count, 3), torch.randn(2, 7, 3)
    torch.testing.assert_close(measure(x, other, p), torch.cdist(x, other, p))
    torch.testing.assert_close(measure(x, other, p, 2), torch.cdist(x, other, p))


@pytest.mark.parametrize("rank", [2, 3])
def test_pools_with_a_divisor_are_torchs(rank):
    x = torch.randn(1, 2, *(7, 8, 6)[:rank])
    pool = (F.avg_pool2d, F.avg_pool3d)[rank - 2]
    how = [3] * rank, [2] * rank, [1] * rank, False
    torch.testing.assert_close(pool_by(x, *how, True, 4), pool(x, *how, True, 4))
    torch.testing.assert_close(pool_by(x, *how, False, 4), pool(x, *how, False, 4))


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
def test_repeating_each_is_torchs(dim):
    x = torch.randn(2, 3, 4)
    assert torch.equal(repeat_each(x, 3, dim), x.repeat_interleave(3, dim))


@pytest.mark.parametrize(
    "kind",
    [Turned, Steered, Gridded, Attending, Training, Sized, Sloped, Cut, Bounded, Centred, Repeated, Apart],
)
def test_a_network_with_it_is_exported_with_free_sizes(kind, tmp_path):
    assert_exported_freely(kind(), tmp_path / "out")
