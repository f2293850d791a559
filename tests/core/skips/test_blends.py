"""Skips that meet the decoder neither in a concatenation nor in an addition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgeon

JOINS = {
    "product": lambda skip, up: skip * up,
    "difference": lambda skip, up: up - skip,
    "maximum": torch.maximum,
    "greater of two": torch.max,
    "lerp": lambda skip, up: torch.lerp(up, skip, 0.3),
    "choice": lambda skip, up: torch.where(up > 0, skip, up),
    "weighed by a gate": lambda skip, up: torch.addcmul(up, skip, torch.sigmoid(up)),
    "mean of a stack": lambda skip, up: torch.stack([up, skip]).mean(0),
    "maximum of a stack": lambda skip, up: torch.stack([up, skip], 1).max(1).values,
    "channels in turn": lambda skip, up: torch.stack([skip, up], 2).flatten(1, 2),
    "complex number": lambda skip, up: torch.complex(skip, up).abs(),
}


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU())


class Joined(nn.Module):
    """A U-Net of three levels whose two skips meet the decoder in one of `JOINS`."""

    def __init__(self, join):
        super().__init__()
        torch.manual_seed(0)
        self.join = join
        self.first, self.second, self.third = _block(1, 4), _block(4, 6), _block(6, 8)
        self.up2, self.up1 = nn.Conv2d(8, 6, 1), nn.LazyConv2d(4, 1)
        self.head = nn.LazyConv2d(2, 3, padding=1)
        self.eval()(torch.rand(1, 1, 16, 24))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        third = self.third(F.max_pool2d(second, 2))
        joined = self.join(second, F.interpolate(self.up2(third), scale_factor=2))
        return self.head(self.join(first, F.interpolate(self.up1(joined), scale_factor=2)))


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS)
def test_skips_that_are_blended_with_the_decoder_are_found_and_spliced(join):
    host, image = Joined(join), torch.rand(1, 1, 16, 24)
    skips = surgeon.inspect(host, image).skips
    assert [(skip.merge.value, skip.kind.value, skip.source_module) for skip in skips] == [
        ("other", "skip", "first"),
        ("other", "skip", "second"),
    ]
    assert [skip.merge_shape for skip in skips] == [(1, 4, 16, 24), (1, 6, 8, 12)]
    untouched = surgeon.splice(host, image, {skip.id: nn.Identity() for skip in skips})
    assert torch.equal(untouched(image), host(image))
    for skip in skips:
        assert not torch.equal(surgeon.splice(host, image, {skip.id: Shifted()})(image), host(image))


@pytest.mark.parametrize(
    "join",
    [
        pytest.param(lambda skip, up: skip * torch.sigmoid(up), id="gate"),
        pytest.param(lambda skip, up: skip * up.mean((2, 3), keepdim=True), id="one weight a channel"),
        pytest.param(lambda skip, up: skip * (1 + skip), id="itself"),
    ],
)
def test_what_weighs_a_map_is_no_skip(join):
    anatomy = surgeon.inspect(Joined(join), torch.rand(1, 1, 16, 24))
    assert not anatomy.skips
    assert "products or other blends of feature maps" in anatomy.notes[0]


def test_a_mask_of_the_image_is_no_skip():
    class Masking(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 4, 2, 2), nn.ConvTranspose2d(4, 1, 2, 2)
            self.sharpen = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.sharpen(x * self.up(F.relu(self.down(x))))

    assert not surgeon.inspect(Masking().eval(), torch.rand(1, 1, 16, 16)).skips
