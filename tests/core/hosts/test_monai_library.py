"""A MONAI bundle against its own transforms, inferer and network: the same label at every voxel but a few."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from surgeon.export import to_onnx

from surgeon.cli.served import ExportedNetwork
from surgeon.data import open_data
from surgeon.hosts import open_host
from tests.core.hosts.nnunet_library import volumes
from tests.core.hosts.test_nnunet_library import dice, predicted_here

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
]
NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [8, 16, 32],
    "strides": [2, 2],
}


def bundle(root: Path, spacing: list[float] | None) -> Path:
    """Write a bundle with preprocessing, inferer and postprocessing as the zoo's have them."""
    keys = {"keys": "image"}
    steps: list[dict] = [
        {"_target_": "LoadImaged", **keys},
        {"_target_": "EnsureChannelFirstd", **keys},
        {"_target_": "Orientationd", **keys, "axcodes": "RAS"},
        {"_target_": "NormalizeIntensityd", **keys, "channel_wise": True},
    ]
    if spacing is not None:
        steps.insert(3, {"_target_": "Spacingd", **keys, "pixdim": spacing, "mode": "bilinear"})
    inverse = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"}
    config = {
        "network_def": NETWORK,
        "network": "$@network_def.to('cpu')",
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [32, 32, 32],
            "sw_batch_size": 2,
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {**inverse, "nearest_interp": False, "to_tensor": True},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    return root


def write_volumes(root: Path) -> Path:
    """Write volumes whose axes point left and back, as many scanners have them."""
    for index, (image, label) in enumerate(volumes(4)):
        affine = np.diag([-1.0, -1.2, 1.5 + 0.1 * index, 1.0])
        affine[:3, 3] = (40, 30, -20)
        for kind, array in (("images", image), ("labels", label)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, affine), root / kind / f"h{index}.nii.gz")
    return root


def parsed(root: Path):
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    names = ("preprocessing", "inferer", "network", "postprocessing")
    return {name: parser.get_parsed_content(name) for name in names}


def train(root: Path, data: Path) -> None:
    """Train the bundle's network for seconds on the bundle's own preprocessing."""
    from monai.losses import DiceCELoss
    from monai.transforms import SpatialPad

    torch.manual_seed(0)
    parts = parsed(root)
    network, loss = parts["network"], DiceCELoss(softmax=True, to_onehot_y=True)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    pairs = []
    for file in sorted((data / "images").iterdir()):
        image = parts["preprocessing"]({"image": str(file)})["image"]
        # The preprocessing resamples labels here as it does images: then they are rounded.
        rounded = {"image": str(file).replace("images", "labels")}
        loader = [s for s in parts["preprocessing"].transforms if type(s).__name__ != "NormalizeIntensityd"]
        for step in loader:
            rounded = step(rounded)
        pad = SpatialPad((32, 48, 64))
        pairs.append([torch.as_tensor(pad(x))[:, :32, :48, :64] for x in (image, rounded["image"].round())])
    network.train()
    for step in range(80):
        image, label = pairs[step % len(pairs)]
        optimizer.zero_grad()
        loss(network(image[None].as_subclass(torch.Tensor)), label[None].as_subclass(torch.Tensor)).backward()
        optimizer.step()
    torch.save(network.state_dict(), root / "models" / "model.pt")


def predicted_by_bundle(root: Path, file: Path, network: torch.nn.Module | None = None) -> np.ndarray:
    """Run the bundle's own chain on a file, with its own network or another."""
    parts = parsed(root)
    if network is None:
        network = parts["network"].eval()
        network.load_state_dict(torch.load(root / "models" / "model.pt"))
    item = parts["preprocessing"]({"image": str(file)})
    with torch.no_grad():
        item["pred"] = parts["inferer"](item["image"][None], network)[0]
    return np.asarray(parts["postprocessing"](item)["pred"][0])


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [None, [1.0, 1.0, 1.2]], ids=["as it lies", "resampled"])
def test_a_bundle_predicts_what_its_own_transforms_and_inferer_predict_also_as_onnx(
    spacing: list[float] | None, tmp_path: Path
) -> None:
    data, root = write_volumes(tmp_path / "data"), bundle(tmp_path / "bundle", spacing)
    train(root, data)
    host = open_host(str(root))
    assert host.preparation is not None
    cohort = open_data(data, preparation=host.preparation, classes=("background", "anterior", "posterior"))
    to_onnx(host.module, torch.rand(1, 1, 32, 32, 32), tmp_path / "served")
    served = ExportedNetwork.open(tmp_path / "served")
    for volume in ("h0", "h1"):
        theirs = predicted_by_bundle(root, data / "images" / f"{volume}.nii.gz")
        assert {1, 2} <= set(np.unique(theirs).astype(int).tolist())
        for network in (host.module, served):
            ours = predicted_here(network, cohort, volume, axes=(0, 1, 2))
            # Ours lies as the image was turned, to RAS.
            ours = ours[::-1, ::-1]
            assert min(dice(ours, theirs, 1), dice(ours, theirs, 2)) > 1 - 1e-3
