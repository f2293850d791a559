"""From a host in the format of its library to a proved file, on hippocampus volumes, through the commands.

The exported file predicts, on whole volumes and through the host's own preprocessing, what the host's own
library predicts with the implanted network in place of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import surgeon.search
import torch

from surgeon.cli.served import ExportedNetwork, read_recorded_data
from surgeon.data import open_data
from surgeon.hosts import open_host
from tests.core.hosts.nnunet_library import DATASET
from tests.core.hosts.test_monai_library import bundle, predicted_by_bundle, train, write_volumes
from tests.core.hosts.test_nnunet_library import (
    ROOT,
    assert_same_but_for_ties,
    dice,
    made_by_nnunet,
    readings,
)

from .conftest import Cli

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence", "ignore:.torch.jit"),
]
CLASSES = ("background", "anterior", "posterior")
QUICK = ["--epochs", "1", "--retrain-epochs", "1", "--steps", "6", "--batch-size", "1", "--allow-worse"]
QUICK += ["--no-finalists", "--operations", "sep3,max3,none"]


def operated_and_exported(cli: Cli, host: Path, data: Path, root: Path) -> tuple[Path, Path]:
    """Inspect, implant and export; return the RUN and the folder of the export."""
    inspected = cli("inspect", host, "--json")
    assert inspected.code == 0, inspected.err
    assert any(skip["implantable"] for skip in inspected.json["skips"])
    run, served = root / "RUN", root / "served"
    done = cli("implant", host, "--data", data, "--out", run, "--classes", ",".join(CLASSES), *QUICK)
    assert done.code == 0, done.err
    done = cli("export", run, "--out", served)
    assert done.code == 0, done.err
    return run, served


def scored(cli: Cli, served: Path, data: Path) -> dict[str, dict[str, float]]:
    done = cli("evaluate", served, "--data", data, "--json")
    assert done.code == 0, done.err
    return {name: case["dice"] for name, case in done.json["per_case"].items()}


def readings_of_file(served: Path, data: Path, volume: str, axes: tuple[int, ...]) -> np.ndarray:
    """Return `readings` of the exported file, prepared as the file itself says."""
    network = ExportedNetwork.open(served)
    recorded = read_recorded_data(served)
    cohort = open_data(
        data,
        preparation=recorded.preparation,
        classes=recorded.classes,
        spatial_dims=network.spatial_dims,
    )
    return readings(network, cohort, volume, axes)


def predicted_by_file(served: Path, data: Path, volume: str, axes: tuple[int, ...]) -> np.ndarray:
    """Return the label values of a volume."""
    labels: np.ndarray = readings_of_file(served, data, volume, axes)[0]
    return labels


def assert_alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Compare each class by Dice; one voxel may differ where the class is so small that it alone is more.

    What is summed in another order may let the closest tie of a volume fall to either side.
    """
    assert {1, 2} <= set(np.unique(theirs).astype(int).tolist())
    for value in (1, 2):
        differing = int(((ours == value) != (theirs == value)).sum())
        assert dice(ours, theirs, value) > 1 - 1e-3 or differing <= 1, f"class {value}: {differing} voxels"


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_an_nnunet_host_is_operated_on_and_its_export_predicts_what_nnunet_predicts(
    configuration: str, cli: Cli, tmp_path: Path
) -> None:
    made = made_by_nnunet(tmp_path / "nnunet", configuration, "1.0")
    data = made / "raw" / DATASET
    run, served = operated_and_exported(cli, made / "result", data, tmp_path)
    command = [sys.executable, "-W", "ignore", "-m", "tests.core.hosts.nnunet_library"]
    done = subprocess.run(
        [*command, made, "implanted", run], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scores, moved = scored(cli, served, data), 0
    for volume in ("hippo_000", "hippo_001"):
        before, theirs, truth = (
            np.asarray(nibabel.load(made / folder / f"{volume}.nii.gz").dataobj)
            for folder in ("predicted", "implanted", f"raw/{DATASET}/labelsTr")
        )
        moved += int((before != theirs).sum())
        found = readings_of_file(served, data, volume, (2, 1, 0))
        assert {1, 2} <= set(np.unique(theirs).tolist())
        assert_same_but_for_ties(found, theirs)
        counted = {name: dice(found[0], truth, value) for value, name in enumerate(CLASSES) if value}
        assert scores[volume] == pytest.approx(counted, abs=1e-3)
    assert moved > 0  # it is not the host that was compared with itself


def test_a_bundle_is_operated_on_and_its_export_predicts_what_the_bundle_predicts(
    cli: Cli, tmp_path: Path
) -> None:
    data, root = write_volumes(tmp_path / "data"), bundle(tmp_path / "bundle", [1.0, 1.0, 1.2])
    train(root, data)
    run, served = operated_and_exported(cli, root, data, tmp_path)
    host = open_host(str(root))
    example = torch.rand(1, 1, 32, 32, 32)
    network = surgeon.search.load_implant(host.module, run / "implant.safetensors", inputs=(example,)).eval()
    scores, moved = scored(cli, served, data), 0
    for volume in ("h0", "h1"):
        file = data / "images" / f"{volume}.nii.gz"
        theirs = predicted_by_bundle(root, file, network)
        moved += int((predicted_by_bundle(root, file) != theirs).sum())
        # Ours lies as the image was turned, to RAS.
        assert_alike(predicted_by_file(served, data, volume, (0, 1, 2))[::-1, ::-1], theirs)
        truth = np.asarray(nibabel.load(str(file).replace("images", "labels")).dataobj)
        counted = {name: dice(theirs, truth, value) for value, name in enumerate(CLASSES) if value}
        assert scores[volume] == pytest.approx(counted, abs=1e-3)
    assert moved > 0
