"""Implant cells into a MONAI UNet, on images made up here, and export the result.

python examples/implant_monai_unet.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import UNet
from PIL import Image

import surgeon


def write_images(folder: Path, subjects: int = 6, frames: int = 2, side: int = 32) -> Path:
    """Write bright discs and their masks, in a folder for each subject."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    for subject in range(subjects):
        for frame in range(frames):
            row, column = generator.uniform(10, side - 10, 2)
            disc = (rows - row) ** 2 + (columns - column) ** 2 < 40
            image = np.clip(disc * 120 + generator.normal(60, 20, disc.shape), 0, 255)
            for kind, array in (("images", image), ("masks", disc * 255)):
                path = folder / f"subject{subject}" / kind / f"{subject}_{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    return folder


def main(out: Path) -> None:
    """Search, train, compare, export."""
    torch.manual_seed(0)
    host = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2)).eval()
    inputs = torch.rand(1, 1, 32, 32)
    for skip in surgeon.inspect(host, inputs).skips:
        print(skip.id, skip.merge.value, skip.merge_shape)

    # As short as it can be: a real search takes tens of epochs.
    config = surgeon.search.Config(epochs=2, retrain_epochs=2, steps=2, batch_size=4, allow_worse=True)
    result = surgeon.search.implant(host, write_images(out / "images"), config, out=out / "RUN")
    print("verdict:", result.report["verdict"], "gain:", result.report["gain"]["dice_mean"])

    implanted = surgeon.search.load_implant(host, out / "RUN" / "implant.safetensors")
    artifact = surgeon.export.to_onnx(implanted, inputs, out / "served")
    print("largest difference of the export:", max(case.difference.largest for case in artifact.parity))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
