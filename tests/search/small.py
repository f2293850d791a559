"""A small host and small data, and a command that operates on them in a process of its own.

python -m tests.search.small DATA RUN [--resume]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from surgeon.search import Config, Progress, implant
from torch import Tensor, nn

from surgeon.data import Cohort, Preparation, open_data
from surgeon.errors import SurgeonError

SIDE = 16


class SmallUNet(nn.Module):
    """Two skips: 6 channels at full size (concatenated), 8 at half (added)."""

    def __init__(self, out: int = 1) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU())
        self.bottom = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.up = nn.Upsample(scale_factor=2)
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.leave = nn.Conv2d(14, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.enter(x)
        low = self.down(high)
        met = self.middle(self.up(self.bottom(low)) + low)
        out: Tensor = self.leave(torch.cat((self.up(met), high), dim=1))
        return out


def make_host(out: int = 1) -> SmallUNet:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        host = SmallUNet(out)
        host(torch.rand(4, 1, SIDE, SIDE))  # running statistics that are not those of birth
    return host.eval()


def write_data(root: Path, subjects: int = 6) -> Path:
    """Write dark squares on a grey, noisy ground, two images of each subject."""
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(2 * subjects):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        top, left, side = *generator.integers(0, 8, 2), generator.integers(4, 9)
        mask[top : top + side, left : left + side] = 1
        image = 120 - 60.0 * mask + generator.normal(0, 15, mask.shape)
        name = f"p{number // 2}_{number % 2}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / name)
        Image.fromarray(mask).save(root / "masks" / name)
    return root


def open_small(root: Path) -> Cohort:
    return open_data(root, subjects=r"(p\d+)_", preparation=Preparation(multiple=4))


def make_config(**changes: object) -> Config:
    """Return settings for seconds of work in which alpha and beta do move."""
    settings = {
        "epochs": 2,
        "retrain_epochs": 2,
        "steps": 3,
        "batch_size": 2,
        "states": 2,
        "operations": ("none", "identity", "max3", "sep3", "pointwise"),
        "architecture_start": 0.0,
        "architecture_rate": 0.05,
        "weight_rate": 0.1,
        "allow_worse": True,
        "finalists": False,
        "early": False,
        "samples": 2,
        "estimate": False,
        **changes,
    }
    return Config.create(**settings)


def announce(event: Progress) -> None:
    print(event.phase, event.epoch, event.step, flush=True)


def main() -> int:
    torch.set_num_threads(1)
    data, run, *words = sys.argv[1:]
    config = make_config(epochs=8, retrain_epochs=1)
    try:
        implant(make_host(), open_small(Path(data)), config, out=run, resume=bool(words), progress=announce)
    except SurgeonError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
