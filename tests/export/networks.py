"""Small networks to export."""

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def stir(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and statistic of a network a value that counts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor, low, high):
        with torch.no_grad():
            values = torch.rand(tensor.shape, generator=generator, dtype=torch.float32)
            tensor.copy_(values * (high - low) + low)

    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            draw(part.running_mean, -0.5, 0.5)
            draw(part.running_var, 0.5, 2.0)
            if part.affine:
                draw(part.weight, -1.5, 1.5)
                draw(part.bias, -0.5, 0.5)
        elif hasattr(part, "bias") and isinstance(part.bias, nn.Parameter):
            draw(part.bias, -0.5, 0.5)
    return module.eval()


class Headed(nn.Module):
    """A convolution of an image, and whatever a network makes of it."""

    def __init__(self, channels: int = 2):
        super().__init__()
        self.layer = nn.Conv2d(1, channels, 3, padding=1)


class Cell(nn.Module):
    """What a derived cell looks like, written out: edges, `none`, a concatenation, gamma."""

    def __init__(self, channels: int, rank: int, gamma: float = 0.5):
        super().__init__()
        convolution, norm = CONVOLUTIONS[rank - 1], NORMS[rank - 1]
        self.entry = nn.Sequential(convolution(channels, 4, 1, bias=False), norm(4))
        self.wide = nn.Sequential(nn.ReLU(), convolution(4, 4, 3, padding=1, bias=False), norm(4))
        self.narrow = nn.Sequential(nn.ReLU(), convolution(4, 4, 1, bias=False), norm(4))
        self.exit = convolution(12, channels, 1)
        self.gamma = nn.Parameter(torch.full((channels, *[1] * rank), gamma))

    def forward(self, skip):
        first = self.entry(skip)
        second = self.wide(first) + self.narrow(first) + first * 0
        states = torch.cat([first, torch.zeros_like(first), second], 1)
        return skip + self.gamma * self.exit(states)


class SmallUNet(nn.Module):
    """One level, one skip, a cell on it, any number of spatial dimensions."""

    def __init__(self, rank: int = 2, channels: int = 1, classes: int = 2, *, cell: bool = True):
        super().__init__()
        convolution, norm = CONVOLUTIONS[rank - 1], NORMS[rank - 1]
        transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
        first = convolution(channels, 8, 3, padding=1, bias=False)
        self.down = nn.Sequential(first, norm(8), nn.ReLU(inplace=True))
        self.pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[rank - 1](2)
        self.bottom = nn.Sequential(convolution(8, 8, 3, padding=1), norm(8), nn.ReLU())
        self.up = nn.Sequential(transposed(8, 8, 2, stride=2), norm(8))
        self.cell = Cell(8, rank) if cell else nn.Identity()
        self.head = convolution(16, classes, 1)

    def forward(self, x):
        skip = self.down(x)
        return self.head(torch.cat([self.cell(skip), self.up(self.bottom(self.pool(skip)))], 1))


def small_unet(rank: int = 2, **options) -> nn.Module:
    torch.manual_seed(0)
    return stir(SmallUNet(rank, **options))


def image(rank: int = 2, size: int = 16, channels: int = 1, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, channels, *[size] * rank, generator=torch.Generator().manual_seed(1))
