"""Is the time that a whole operation is said to take, before it starts, the time that it takes?

A small operation from end to end: short list, search, last round, training in full. On a processor its time
is that of the processor: other work on the machine slows the few steps that are timed and the many
that follow unevenly, and that is no fault of the estimate.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from surgeon.search import Config, implant

from benchmarks.search_steps import Place
from benchmarks.search_work import Rungs
from surgeon.data import Preparation, open_data

CASES, SIDE = 48, 64


def estimated(place: Place) -> dict[str, Any]:
    """Run an operation, and return its estimate beside what it took."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(place.threads)
    if place.device == "cpu":
        time.perf_counter = time.process_time
    config = Config.create(
        epochs=12,
        retrain_epochs=16,
        steps=8,
        batch_size=4,
        skips=("s0", "s1"),
        states=2,
        selection="weight",
        early=False,
        crosswise_below=0,
        margin=1.0,
        least_gain=0.0,
        allow_worse=True,
        device=place.device,
        compile="off",
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        _draw(Path(folder))
        cohort = open_data(Path(folder), preparation=Preparation(multiple=4, channels=3))
        report = implant(Rungs().eval(), cohort, config).report
    found: dict[str, Any] = report["search"]["estimate"]
    return {name: value for name, value in found.items() if name != "paces"}


def _draw(root: Path) -> None:
    """Write dark squares on a grey, noisy ground, some images twice as large as others."""
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number in range(CASES):
        side = SIDE * (1 + number % 2)
        mask = np.zeros((side, side), dtype=np.uint8)
        top, left, size = *generator.integers(0, side // 2, 2), int(generator.integers(8, side // 2))
        mask[top : top + size, left : left + size] = 1
        image = 120 - 60.0 * mask + generator.normal(0, 15, mask.shape)
        pixels = np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
        Image.fromarray(pixels).save(root / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:03}.png")
