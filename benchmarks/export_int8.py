"""int8 on a CPU: how long it takes, and the Dice it costs on images it was not calibrated on."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from benchmarks.export_hosts import HOSTS, implanted, settle

STEPS, BATCH, CALIBRATED, SCORED = 120, 1, 4, 4


def quantised(name: str, threads: int) -> dict[str, Any]:
    """Train an implanted host for some steps, so that its classes mean something, and export it in int8."""
    from surgeon.export import open_session, run_session, to_onnx

    from surgeon.errors import ExportError

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    host, x = HOSTS[name]()
    settle(host, x)
    network = implanted(host, x)
    images, labels = blobs(BATCH * STEPS + CALIBRATED + SCORED, tuple(x.shape[1:]))
    settle(network, images[:BATCH])
    train(network, images, labels)
    samples, held_out = images[-CALIBRATED - SCORED : -SCORED], slice(-SCORED, None)
    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact = to_onnx(
                network, samples[:1], folder, precision="int8", samples=list(samples), second_opinion=False
            )
        except ExportError as refusal:
            return {"threads": threads, "refused": " ".join(str(refusal).split())[:300]}
        session = open_session(artifact.model, threads=threads)
        with torch.no_grad():
            ways = {
                "network": [network(image[None]) for image in images[held_out]],
                "int8": [run_session(session, image[None])[0] for image in images[held_out]],
            }
    return {
        "threads": threads,
        "milliseconds": {key: latency.p50 for key, latency in artifact.latency.items()},
        "dice": {key: dice(outputs, labels[held_out]) for key, outputs in ways.items()},
    }


def blobs(count: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Draw a bright ball into noise for each image.

    Args:
        count: how many.
        shape: `(C, *spatial)`.

    Returns:
        images `(count, C, *spatial)` and labels `(count, *spatial)`, 1 in the ball.
    """
    generator = torch.Generator().manual_seed(3)
    channels, *spatial = shape
    axes = torch.meshgrid(*(torch.linspace(0, 1, size) for size in spatial), indexing="ij")
    grid = torch.stack(axes)  # (dims, *spatial)
    centres = 0.3 + 0.4 * torch.rand(count, len(spatial), *[1] * len(spatial), generator=generator)
    radii = 0.15 + 0.15 * torch.rand(count, *[1] * len(spatial), generator=generator)
    labels = ((grid - centres).square().sum(1).sqrt() < radii).long()
    noise = torch.randn(count, channels, *spatial, generator=generator)
    return labels[:, None] + 0.7 * noise, labels


def train(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train everything, host and cells, norms as they are."""
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    # With cross-entropy alone so few steps teach a network that there are no balls: they are small.
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    for step in range(STEPS):
        batch = slice(BATCH * step, BATCH * (step + 1))
        optimizer.zero_grad()
        loss(network(images[batch]), labels[batch, None]).backward()
        optimizer.step()


def dice(outputs: list[Tensor], labels: Tensor) -> float:
    """Return the mean Dice of class 1 over images."""
    scores = []
    for output, label in zip(outputs, labels, strict=True):
        found = output[0].argmax(0) == 1
        overlap, total = int((found & (label == 1)).sum()), int(found.sum()) + int((label == 1).sum())
        scores.append(2 * overlap / total)
    return round(sum(scores) / len(scores), 4)


def int8_line(row: dict[str, Any]) -> str:
    """Render a host's row."""
    if "refused" in row:
        return f"{row['name']:12} refused: {row['refused']}"
    times = ", ".join(f"{name} {value:.1f}" for name, value in row["milliseconds"].items())
    scores = ", ".join(f"{name} {value:.4f}" for name, value in row["dice"].items())
    return f"{row['name']:12} ms: {times}; Dice: {scores}"
