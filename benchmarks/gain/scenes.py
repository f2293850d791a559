"""Thin structures among things that look like them, and a small network that learnt an easier world.

A line is told from a speck by its neighbourhood alone: both are as bright, and a 1x1 convolution of features
that never had to tell them apart has little to go by. The host is trained here, on lines without specks, and
frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64


def draw_scene(
    generator: np.random.Generator, *, specks: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw an image `(64, 64)` and its mask: winding lines, one to two pixels wide, on a noisy ground.

    Args:
        generator: of everything random.
        specks: whether short strokes and dots, as bright as the lines, lie about as well.
    """
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    for _ in range(generator.integers(2, 5)):
        _wander(mask, generator, steps=90)
    other = np.zeros_like(mask)
    if specks:
        for _ in range(generator.integers(25, 45)):
            _wander(other, generator, steps=int(generator.integers(1, 5)))
    light = generator.uniform(0.25, 0.45)
    image = 0.35 + light * gaussian_filter((mask | other).astype(float), 0.5)
    image += gaussian_filter(generator.normal(0, 0.5, mask.shape), 6) + generator.normal(0, 0.06, mask.shape)
    return (255 * image.clip(0, 1)).astype(np.uint8), mask.astype(np.uint8)


def _wander(mask: NDArray[np.bool_], generator: np.random.Generator, steps: int) -> None:
    """Draw one line that keeps its course for a while."""
    place, course = generator.uniform(0, SIDE, 2), generator.uniform(0, 2 * np.pi)
    wide = bool(generator.random() < 0.4)
    for _ in range(steps):
        course += generator.normal(0, 0.15)
        place = place + np.array([np.sin(course), np.cos(course)])
        row, column = place.astype(int)
        if not (0 <= row < SIDE and 0 <= column < SIDE):
            return
        mask[row, column] = True
        if wide:
            mask[min(row + 1, SIDE - 1), column] = mask[row, min(column + 1, SIDE - 1)] = True


def write_scenes(folder: Path, count: int, seed: int, *, specks: bool) -> Path:
    """Write images and masks of that many scenes, and return the folder."""
    generator = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, mask = draw_scene(generator, specks=specks)
        Image.fromarray(image).save(folder / "images" / f"scene{number:04d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"scene{number:04d}.png")
    return folder


class SceneUNet(nn.Module):
    """A U-Net of three levels with 8, 16 and 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = _block(1, 8), _block(8, 16), _block(16, 32)
        self.up_second, self.up_first = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.meet_second, self.meet_first = _block(32, 16), _block(16, 8)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, 1, H, W)` to logits `(N, 1, H, W)`."""
        high = self.first(x)
        middle = self.second(F.max_pool2d(high, 2))
        low = self.third(F.max_pool2d(middle, 2))
        met = self.meet_second(torch.cat((self.up_second(low), middle), dim=1))
        logits: Tensor = self.head(self.meet_first(torch.cat((self.up_first(met), high), dim=1)))
        return logits


def _block(given: int, made: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(given, made, 3, padding=1), nn.BatchNorm2d(made), nn.LeakyReLU(0.1)),
        *(nn.Conv2d(made, made, 3, padding=1), nn.BatchNorm2d(made), nn.LeakyReLU(0.1)),
    )


def train_host(steps: int, seed: int = 0) -> SceneUNet:
    """Train the host on scenes without specks, drawn from a seed that no benchmark's images have."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SceneUNet()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for image, label in _batches(np.random.default_rng(10_000 + seed), steps):
            logits = network(image)
            probability = logits.sigmoid()
            dice = 1 - (2 * (probability * label).sum() + 1) / (probability.sum() + label.sum() + 1)
            loss = dice + F.binary_cross_entropy_with_logits(logits, label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _batches(generator: np.random.Generator, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    pairs = [draw_scene(generator, specks=False) for _ in range(320)]
    stacks = (np.stack(part) for part in zip(*pairs, strict=True))
    images, masks = (torch.from_numpy(stack).float()[:, None] for stack in stacks)
    for _ in range(steps):
        chosen = torch.from_numpy(generator.permutation(len(pairs))[:16])
        yield images[chosen] / 255, masks[chosen]
