"""A U-Net with one skip, as somebody's repository would have it: a factory in a file."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TinyUNet(nn.Module):
    def __init__(self, in_channels: int = 1, out_channels: int = 1, width: int = 4) -> None:
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.pool = nn.MaxPool2d(2)
        self.mid = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.enc(x)
        x = self.up(self.mid(self.pool(skip)))
        return self.head(self.dec(torch.cat([skip, x], dim=1)))


class TwoStages(nn.Module):
    """Gives a map for each of two stages, the first of no use."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = TinyUNet()

    def forward(self, x: Tensor) -> list[Tensor]:
        coarse = self.stage(x)
        return [-1 - coarse.abs(), 20 * (x - 0.45) + 0.1 * coarse]


def build_stages() -> nn.Module:
    """Build a network whose answer is the second of two maps of one size."""
    torch.manual_seed(0)
    return TwoStages()


def build(in_channels: int = 1, out_channels: int = 1, width: int = 4) -> nn.Module:
    """Build the network with the same weights every time."""
    torch.manual_seed(0)
    return TinyUNet(in_channels, out_channels, width)


class Modal(TinyUNet):
    """Cannot be run without saying what for."""

    def forward(self, x: Tensor, inference: bool) -> Tensor | list[Tensor]:
        found = super().forward(x)
        return found if inference else [found, x]


def build_modal() -> nn.Module:
    """Build a network whose forward takes a flag."""
    torch.manual_seed(0)
    return Modal()


def build_noisy() -> nn.Module:
    """Print while building, as research code does."""
    print("loading the best model ever")
    return build()


def build_failing() -> nn.Module:
    """Raise something nobody foresaw."""
    raise ZeroDivisionError("a learning rate of 1/0\nand a second line")


def build_interrupted() -> nn.Module:
    """Be stopped by the user."""
    raise KeyboardInterrupt
