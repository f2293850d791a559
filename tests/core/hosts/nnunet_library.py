"""A result folder and predictions made by nnU-Net itself, in a process of its own.

`python -m tests.core.hosts.nnunet_library ROOT CONFIGURATION SPACING [regions] [ignore]` fingerprints and
plans a small raw dataset under ROOT with nnU-Net, trains a few steps with its trainer's network and loss,
lets the trainer write its checkpoint, and predicts two cases with nnU-Net's predictor. With the words
`ROOT implanted RUN` it predicts them with the implanted network of a RUN in place of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

DATASET = "Dataset004_Hippocampus"
SHARED = os.environ.get("SURGEON_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")
TAR = Path(SHARED) / "hippocampus_task04_260.tar"


def volumes(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of hippocampi; where these are missing, generated ones in the same layout."""
    if TAR.is_file():
        return [read_pair(index) for index in range(count)]
    return [generated(index) for index in range(count)]


def read_pair(index: int) -> tuple[np.ndarray, np.ndarray]:
    with tarfile.open(TAR) as archive:
        names = sorted(name for name in archive.getnames() if "images/" in name and name.endswith(".nii.gz"))
        pair = []
        for name in (names[index], names[index].replace("images", "labels")):
            content = archive.extractfile(name)
            assert content is not None
            image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content.read()))
            pair.append(np.asarray(image.dataobj))
    return pair[0].astype(np.float32), pair[1].astype(np.uint8)


def generated(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw an ellipsoid of two parts in noise."""
    generator = np.random.default_rng(index)
    shape = tuple(generator.integers(33, 40, 3))
    grid = np.indices(shape).astype(float)
    centre = np.array(shape) / 2 + generator.normal(0, 2, 3)
    inside = sum(((grid[a] - centre[a]) / r) ** 2 for a, r in enumerate((8, 13, 7))) < 1
    label = inside * (1 + (grid[1] > centre[1]))
    image = 200 + 150 * inside + 60 * (label == 2) + generator.normal(0, 25, shape)
    return image.clip(0).astype(np.float32), label.astype(np.uint8)


def write_raw(folder: Path, depth: float, words: list[str], count: int = 5) -> None:
    """Write an nnU-Net raw folder whose cases have several spacings and a border of zeros."""
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    for index, (image, label) in enumerate(volumes(count)):
        affine = np.diag([1.0, 1.0 + 0.05 * index, depth * (1 + 0.1 * index), 1.0])
        border = ((3, 2), (0, 4), (1, 0))
        if "ignore" in words:  # every third slice is labelled, as in sparse annotations
            seen = np.arange(label.shape[2]) % 3 == 0
            label[:, :, ~seen] = 3
        for kind, name, array in (
            ("imagesTr", f"hippo_{index:03d}_0000", np.pad(image, border)),
            ("labelsTr", f"hippo_{index:03d}", np.pad(label, border)),
        ):
            nibabel.save(nibabel.Nifti1Image(array, affine), folder / kind / f"{name}.nii.gz")
    content: dict[str, Any] = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    if "regions" in words:
        content |= {
            "labels": {"background": 0, "whole": [1, 2], "posterior": [2]},
            "regions_class_order": [1, 2],
        }
    if "ignore" in words:
        content["labels"]["ignore"] = 3
    (folder / "dataset.json").write_text(json.dumps(content))


def main(root: Path, configuration: str, depth: float, words: list[str]) -> None:
    """Plan, train a little, save and predict with nnU-Net."""
    places = {"raw": root / "raw", "preprocessed": root / "preprocessed", "results": root / "results"}
    for name, place in places.items():
        place.mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(place)
    write_raw(places["raw"] / DATASET, depth, words)

    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )

    extract_fingerprint_dataset(4, num_processes=1)
    plan_experiment_dataset(4)
    planned = "3d_fullres" if configuration == "3d_lowres" else configuration
    preprocess_dataset(4, configurations=(planned,), num_processes=(1,))
    plans = json.loads((places["preprocessed"] / DATASET / "nnUNetPlans.json").read_text())
    if configuration != planned:
        # These volumes are too small for nnU-Net to plan it: the same plan with larger voxels.
        full = plans["configurations"][planned]
        plans["configurations"][configuration] = {**full, "spacing": [1.4 * mm for mm in full["spacing"]]}
    for settings in plans["configurations"].values():
        # A network that trains in seconds: fewer features, everything else as planned.
        if "architecture" in settings:
            arguments = settings["architecture"]["arch_kwargs"]
            arguments["features_per_stage"] = [8 * 2 ** min(i, 2) for i in range(arguments["n_stages"])]
    train(plans, json.loads((places["raw"] / DATASET / "dataset.json").read_text()), configuration, root)


def train(plans: dict[str, Any], dataset: dict[str, Any], configuration: str, root: Path) -> None:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(0)
    torch.set_num_threads(1)
    # The trainer takes this switch out of the plans that its command line hands it.
    given = {**plans, "continue_training": False}
    trainer = nnUNetTrainer(given, configuration, 0, dataset, device=torch.device("cpu"))
    trainer.initialize()
    # What its data loaders would set: the axes that are mirrored in training and when predicting.
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    result = Path(trainer.output_folder_base)
    (result / "plans.json").write_text(json.dumps(plans))
    (result / "dataset.json").write_text(json.dumps(dataset))
    images = sorted((root / "raw" / DATASET / "imagesTr").glob("*.nii.gz"))
    fit(trainer, images[2:], dataset)
    trainer.save_checkpoint(str(result / "fold_0" / "checkpoint_final.pth"))

    (root / "result").symlink_to(result)
    predict(root, "predicted")


def predict(root: Path, name: str, run: Path | None = None) -> None:
    """Predict two cases with nnU-Net's predictor, with its own network or the implanted one of a RUN."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, verbose=False)
    predictor.initialize_from_trained_model_folder(str(root / "result"), use_folds=(0,))
    if run is not None:
        import surgeon.search

        from surgeon.hosts import open_host

        host = open_host(str(root / "result"))
        network = surgeon.search.load_implant(host.module, run / "implant.safetensors", inputs=host.example)
        assert any(name.startswith("implants.") for name in network.state_dict())
        predictor.network = network.eval()
        predictor.list_of_parameters = [network.state_dict()]
    images = sorted((root / "raw" / DATASET / "imagesTr").glob("*.nii.gz"))
    (root / name).mkdir()
    predictor.predict_from_files_sequential([[str(image)] for image in images[:2]], str(root / name))


def fit(trainer: Any, images: list[Path], dataset: dict[str, Any]) -> None:
    """Train on patches of nnU-Net's own preprocessing with the trainer's loss."""
    import torch
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

    size = trainer.configuration_manager.patch_size
    cases = []
    for image in images:
        label = str(image).replace("imagesTr", "labelsTr").replace("_0000", "")
        cases.append(
            DefaultPreprocessor(verbose=False).run_case(
                [str(image)], label, trainer.plans_manager, trainer.configuration_manager, dataset
            )[:2]
        )
    loss = trainer.loss.loss if isinstance(trainer.loss, DeepSupervisionWrapper) else trainer.loss
    optimizer = torch.optim.Adam(trainer.network.parameters(), 3e-3)
    generator = np.random.default_rng(0)
    trainer.network.train()
    for step in range(40):
        image, label = (torch.from_numpy(np.asarray(x)).float() for x in cases[step % len(cases)])
        label = label.clamp_min(0)
        if len(size) == 3:
            image, label = patch(image, size), patch(label, size)
        else:
            slices = generator.integers(image.shape[1] // 4, 3 * image.shape[1] // 4, 12)
            image = torch.cat([patch(image[:, index], size) for index in slices])
            label = torch.cat([patch(label[:, index], size) for index in slices])
        if trainer.label_manager.has_regions:
            label = torch.cat([label > 0, label > 1], 1).float()
        optimizer.zero_grad()
        loss(trainer.network(image)[0], label).backward()
        optimizer.step()
    trainer.network.eval()


def patch(x: Any, size: list[int]) -> Any:
    """Cut or pad `(C, *spatial)` to `(1, C, *size)` around the middle."""
    from torch.nn import functional

    for axis, wanted in enumerate(size, start=1):
        x = x.narrow(axis, max(0, x.shape[axis] - wanted) // 2, min(wanted, x.shape[axis]))
    flat = [n for side, wanted in zip(x.shape[:0:-1], size[::-1], strict=True) for n in (0, wanted - side)]
    return functional.pad(x, flat)[None]


if __name__ == "__main__":
    if sys.argv[2] == "implanted":
        predict(Path(sys.argv[1]), "implanted", Path(sys.argv[3]))
        sys.exit()
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:])
