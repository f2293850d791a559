"""Hosts and predictions that nnU-Net itself made, against ours: the same label at every voxel but a few."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from surgeon.export import to_onnx

from surgeon.cli.served import ExportedNetwork
from surgeon.data import Cohort, open_data
from surgeon.hosts import Host, open_host
from surgeon.scores import evaluate, find_task, first_patch, place_in_file, predict_logits
from tests.core.hosts.nnunet_library import DATASET

pytestmark = pytest.mark.slow
ROUNDINGS = 1  # how many of half precision, at the largest logit, a voxel may lie from another label
ROOT = Path(__file__).resolve().parents[3]


def made_by_nnunet(root: Path, *words: str) -> Path:
    """Let nnU-Net plan, train, save and predict in a process of its own."""
    pytest.importorskip("nnunetv2")
    command = [sys.executable, "-W", "ignore", "-m", "tests.core.hosts.nnunet_library", str(root), *words]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return root


def predicted_here(
    network: torch.nn.Module, cohort: Cohort, volume: str, axes: tuple[int, ...] = (2, 1, 0)
) -> np.ndarray:
    """Return our label values of a volume, its axes put into the order of its file."""
    return readings(network, cohort, volume, axes)[0]


def readings(
    network: torch.nn.Module, cohort: Cohort, volume: str, axes: tuple[int, ...] = (2, 1, 0)
) -> np.ndarray:
    """Return `(1 + 2K, *spatial)`: our labels, and those with each channel moved up and down by a rounding.

    nnU-Net adds up weighted logits in half precision; a voxel may get another label there only where ours
    changes within what that rounds off.
    """
    with torch.no_grad():
        task = find_task(network(first_patch(cohort)), cohort)
    parts, cut = [], None
    for case in cohort.cases:
        if case.volume == volume:
            sample, cut = cohort.read(case), case.slice
            logits = predict_logits(network, sample.image[None], task, window=cohort.preparation.window)[0]
            moved = (logits, *_moved(logits))
            parts.append(torch.stack([place_in_file(one, sample, task, cohort.preparation) for one in moved]))
    whole = parts[0] if cut is None else torch.stack(parts, 1 + cut[0])
    return whole.numpy().transpose(0, *(1 + axis for axis in axes))


def _moved(logits: torch.Tensor) -> Iterator[torch.Tensor]:
    slack = ROUNDINGS * torch.finfo(torch.half).eps * float(logits.abs().max())
    for channel in range(len(logits)):
        for sign in (1, -1):
            moved = logits.clone()
            moved[channel] += sign * slack
            yield moved


def assert_same_but_for_ties(found: np.ndarray, theirs: np.ndarray) -> None:
    """Hold `readings` against nnU-Net's labels: at most one voxel in ten thousand differs, and is a tie."""
    differ = found[0] != theirs
    assert differ.mean() <= 1e-4, f"{differ.sum()} of {differ.size} voxels differ"
    beyond = differ & (found != theirs).all(0)
    assert not beyond.any(), f"{beyond.sum()} voxels differ by more than half precision rounds"


def dice(one: np.ndarray, other: np.ndarray, value: int) -> float:
    total = (one == value).sum() + (other == value).sum()
    return 2 * ((one == value) & (other == value)).sum() / total if total else 1.0


def opened(root: Path) -> tuple[Host, Cohort]:
    host = open_host(str(root / "result"))
    assert host.example is not None
    dims = host.example[0].ndim - 2
    return host, open_data(root / "raw" / DATASET, preparation=host.preparation, spatial_dims=dims)


@pytest.mark.parametrize(
    "words",
    [
        ("2d", "1.5"),
        ("3d_fullres", "1.0"),
        ("3d_fullres", "4.0", "regions"),
        ("3d_lowres", "1.0"),
        ("3d_fullres", "1.0", "ignore"),
    ],
    ids=["2d", "3d_fullres", "anisotropic regions", "3d_lowres", "ignore"],
)
def test_a_host_of_nnunet_predicts_what_nnunet_predicts_also_as_onnx(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    host, cohort = opened(made_by_nnunet(tmp_path / "nnunet", *words))
    to_onnx(host.module, host.example, tmp_path / "served")
    served = ExportedNetwork.open(tmp_path / "served")
    for volume in ("hippo_000", "hippo_001"):
        file = tmp_path / "nnunet" / "predicted" / f"{volume}.nii.gz"
        theirs = np.asarray(nibabel.load(file).dataobj)
        assert {1, 2} <= set(np.unique(theirs).tolist())
        for network in (host.module, served):
            assert_same_but_for_ties(readings(network, cohort, volume), theirs)
    assert host.classes == cohort.classes
    task = find_task(host.module(first_patch(cohort)), cohort)
    # The mean over classes of nnU-Net's own predictions, scored by counting, is what `evaluate` says.
    two = cohort.select(["hippo_000", "hippo_001"])
    assert evaluate(host.module, two, task).dice_mean == pytest.approx(
        by_counting(tmp_path, cohort), abs=1e-3
    )


def by_counting(root: Path, cohort: Cohort) -> float:
    found = []
    for volume in ("hippo_000", "hippo_001"):
        truth, theirs = (
            np.asarray(nibabel.load(root / "nnunet" / folder / f"{volume}.nii.gz").dataobj)
            for folder in (f"raw/{DATASET}/labelsTr", "predicted")
        )
        values = [(1,), (2,)] if cohort.regions is None else cohort.regions.values
        for each in values:
            # In nnU-Net's evaluation voxels of the ignored value count nowhere.
            one, other = (np.isin(x, each) & (truth != cohort.ignore) for x in (truth, theirs))
            found.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return float(np.mean(found))
