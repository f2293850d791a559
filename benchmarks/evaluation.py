"""Is scoring bound by the network, or by our code?

Scores the 260 hippocampus volumes (or as many generated ones in the same layout) from files to all five
scores, and says where the wall time goes: forward passes, decoding of files, and all the rest, which is ours.
Two networks: nnU-Net's own plan for these data, and a much smaller U-Net, with which our part weighs more.
The share is taken of the wall time and of the processor's: the latter is blind to other work on the machine.
`python -m benchmarks.evaluation [--quick] [--json]`; parts that are finished are not run again.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.record import ROOT, Parts, Target, commit, conclude, machine, say, versions
from surgeon.data import Batches, Cohort, Preparation, Resampling, Window, decoding, open_data
from surgeon.scores import METRICS, evaluate, match_task

FOLDER = Path(os.environ.get("SURGEON_DATA", ROOT.parent / "shared" / "data"))
SHARED = FOLDER / "hippocampus_task04_260.tar"
CLASSES = ("background", "anterior", "posterior")
SOURCES = ("benchmarks/evaluation.py", "surgeon/data", "surgeon/scores")
_TRAINED = 40  # steps
BAR = 0.15  # share of the wall time that may be ours
WHOLE = Preparation(scale="zscore", multiple=16)
# These volumes have voxels of 1 mm, which the plan keeps: to another size, resampling is paid for too.
AS_NNUNET = Preparation(
    scale="zscore",
    axes="zyx",
    spacing=(0.9, 0.9, 0.9),
    resampling=Resampling.CUBIC,
    crop_nonzero=True,
    window=Window((40, 56, 40)),
)


def small_unet() -> nn.Module:
    """Return MONAI's BasicUNet of 16 to 128 features."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(3, 1, 3, (16, 16, 32, 64, 128, 16))


def planned_unet() -> nn.Module:
    """Return the network that nnU-Net plans for hippocampi (3d_fullres): 4 stages of 32 to 256 features."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(
        1,
        n_stages=4,
        features_per_stage=(32, 64, 128, 256),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2),
        n_conv_per_stage=2,
        num_classes=3,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    )


# The network, the preparation, and how many volumes at most.
PARTS: dict[str, tuple[Callable[[], nn.Module], Preparation, int]] = {
    "small network, whole volumes": (small_unet, WHOLE, 260),
    "small network, nnU-Net's way to 0.9 mm": (small_unet, AS_NNUNET, 260),
    # Four times the work of the small one: the share is the same on all, and smaller.
    "nnU-Net's plan, nnU-Net's way to 0.9 mm": (planned_unet, AS_NNUNET, 40),
}


class Stopwatch:
    """Seconds spent inside some functions, on the wall and of the processor."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.processor = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted."""

        def timed(*arguments: Any, **more: Any) -> Any:
            with self:
                return function(*arguments, **more)

        return timed

    def __enter__(self) -> Stopwatch:
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started[0]
        self.processor += time.process_time() - self._started[1]


class Timed(nn.Module):
    """A network whose forward passes are timed."""

    def __init__(self, network: nn.Module, watch: Stopwatch) -> None:
        super().__init__()
        self.network = network
        self._run = watch.around(network)

    def forward(self, x: Tensor) -> Any:
        """Run the network."""
        return self._run(x)


@contextmanager
def decoding_timed(watch: Stopwatch) -> Iterator[None]:
    """Time the functions that read files."""
    before = decoding.read_image, decoding.read_label
    decoding.read_image, decoding.read_label = map(watch.around, before)
    try:
        yield
    finally:
        decoding.read_image, decoding.read_label = before


def trained(build: Callable[[], nn.Module], cohort: Cohort) -> nn.Module:
    """Return a network that is trained for seconds: surfaces of noise would take far longer to compare."""
    torch.manual_seed(0)
    network = build()
    task = match_task(network.eval(), cohort)
    batches = Batches(cohort, (32, 48, 32), 2, augment=False)
    optimizer = torch.optim.Adam(network.train().parameters(), 3e-3)
    for step in range(_TRAINED):
        batch = batches.batch(0, step)
        optimizer.zero_grad()
        task.loss(network(batch.image), batch.label).backward()
        optimizer.step()
    return network.eval()


def write_generated(folder: Path, count: int) -> Path:
    """Write volumes of the size and the layout of the hippocampus data."""
    for index in range(count):
        generator = np.random.default_rng(index)
        shape = generator.integers((32, 44, 30), (40, 56, 44))
        grid = np.indices(shape).astype(float)
        centre = shape / 2 + generator.normal(0, 2, 3)
        inside = sum(((grid[a] - centre[a]) / r) ** 2 for a, r in enumerate((8, 14, 8))) < 1
        label = (inside * (1 + (grid[1] > centre[1]))).astype(np.uint8)
        image = (300 + 200 * inside + generator.normal(0, 60, shape)).clip(1).astype(np.float32)
        for kind, array in (("images", image), ("labels", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / f"case{index:03d}.nii.gz")
    return folder


def provide(folder: Path, count: int) -> tuple[Path, str]:
    """Unpack the volumes, or write generated ones; say which."""
    if not SHARED.is_file():
        return write_generated(folder, count), "generated"
    with tarfile.open(SHARED) as archive:
        archive.extractall(folder, filter="data")
    return folder, "hippocampus"


def measure(root: Path, part: str, count: int) -> dict[str, Any]:
    """Score the volumes from their files, and split the wall time."""
    build, how, most = PARTS[part]
    cohort = open_data(root, preparation=how, classes=CLASSES, check=False, memory=0)
    chosen = cohort.select(cohort.subjects[: min(count, most)])
    network, whole, forward, files = trained(build, chosen), Stopwatch(), Stopwatch(), Stopwatch()
    profile = cProfile.Profile()
    task = match_task(network, chosen)
    with decoding_timed(files), whole, profile:
        scores = evaluate(Timed(network, forward), chosen, task, metrics=METRICS)
    rest = whole.seconds - forward.seconds - files.seconds
    ours = whole.processor - forward.processor - files.processor
    return {
        "cases": len(chosen.cases),
        "seconds": round(whole.seconds, 2),
        "forward": round(forward.seconds, 2),
        "decoding": round(files.seconds, 2),
        "rest": round(rest, 2),
        "share": round(rest / whole.seconds, 4),
        "share_of_processor": round(ours / whole.processor, 4),
        "dice_mean": round(scores.dice_mean, 4),
        "profile": slowest(profile),
    }


def slowest(profile: cProfile.Profile, count: int = 12) -> list[dict[str, Any]]:
    """List the functions that took most time themselves, forward passes aside."""
    rows = pstats.Stats(profile).get_stats_profile().func_profiles
    ranked = sorted(rows.items(), key=lambda item: -item[1].tottime)[:count]
    return [
        {"function": name, "file": Path(row.file_name).name, "seconds": row.tottime} for name, row in ranked
    ]


def main() -> int:
    """Run, print the shares and the profile; returns 0 when all targets hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 volumes instead of 260")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    count = 40 if options.quick else 260
    kept = None if options.quick else Parts("evaluation", SOURCES)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root, source = provide(Path(folder), count)
        for part in PARTS:
            if kept is None:
                found[part] = measure(root, part, count)
                continue
            if f"{part}, {source}" not in kept.parts:
                kept.keep(f"{part}, {source}", measure(root, part, count))
            found[part] = kept.parts[f"{part}, {source}"]
    targets = [
        Target.at_most(f"our own code's {key.replace('_', ' ')}, {name}", row[key], BAR)
        for name, row in found.items()
        for key in ("share", "share_of_processor")
    ]
    report = {
        "volumes": source,
        "results": found,
        "targets": [target.to_dict() for target in targets],
        "not_measured": [],
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
    }
    for name, row in found.items():
        spent = ", ".join(f"{word} {row[word]} s" for word in ("forward", "decoding", "rest"))
        say(f"{name}: {row['cases']} in {row['seconds']} s: {spent}; Dice {row['dice_mean']}", options.json)
        for line in row["profile"]:
            say(f"    {line['seconds']:7.2f} s  {line['function']} ({line['file']})", options.json)
    return conclude(report, options.json)


if __name__ == "__main__":
    sys.exit(main())
