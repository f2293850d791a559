"""Cells for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.core.networks import CONVOLUTION, NORM


class ConvCell(nn.Module):
    """A residual convolution of the skip; gamma 0 makes it the identity."""

    def __init__(self, channels: int, dims: int = 2, gamma: float = 1.0) -> None:
        super().__init__()
        self.conv = CONVOLUTION[dims](channels, channels, 3, padding=1)
        self.norm = NORM[dims](channels)
        self.dropout = nn.Dropout(0.5)
        self.gamma = nn.Parameter(torch.tensor(gamma))

    def forward(self, skip: Tensor) -> Tensor:
        return skip + self.gamma * self.dropout(torch.relu(self.norm(self.conv(skip))))


class DecoderCell(nn.Module):
    """Sees the tensor that the skip meets."""

    needs_decoder = True

    def __init__(self, channels: int, decoder_channels: int, dims: int = 2, gamma: float = 1.0) -> None:
        super().__init__()
        self.conv = CONVOLUTION[dims](decoder_channels, channels, 1)
        self.gamma = nn.Parameter(torch.tensor(gamma))

    def forward(self, skip: Tensor, decoder: Tensor) -> Tensor:
        return skip + self.gamma * self.conv(decoder)


class Doubled(nn.Module):
    """Gives each channel twice."""

    def forward(self, skip: Tensor) -> Tensor:
        return torch.cat([skip, skip], 1)


class Silent(nn.Module):
    """Fails without a word."""

    def forward(self, skip: Tensor) -> Tensor:
        raise ValueError


class Recorder(nn.Module):
    """Hands the skip on and keeps the shapes it was called with."""

    def __init__(self, needs_decoder: bool = False) -> None:
        super().__init__()
        self.needs_decoder = needs_decoder
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, *tensors: Tensor) -> Tensor:
        self.shapes = [tuple(tensor.shape) for tensor in tensors]
        return tensors[0]
