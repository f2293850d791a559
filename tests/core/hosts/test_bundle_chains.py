"""Chains of transforms as bundles of MONAI's model zoo have them, each against MONAI itself.

What we prepare equals what the bundle's own transforms prepare, and what we predict equals what its own
transforms, inferer and network predict.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from surgeon.data import open_data
from surgeon.hosts import Host, open_host
from tests.core.data.builders import disc, picture, write_json
from tests.core.hosts.test_nnunet_library import dice, predicted_here

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence", "ignore:inverse has been called"),
]
IMAGE = {"keys": "@image_key"}
LOAD = [
    {"_target_": "LoadImaged", "keys": "@image_key"},
    {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
]
TURN = {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"}
SPACING = {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"}
WINDOWED = {
    "_target_": "ScaleIntensityRanged", "keys": "@image_key",
    "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True,
}  # fmt: skip
CROP = {
    "_target_": "CropForegroundd",
    "keys": ["@image_key"],
    "source_key": "@image_key",
    "mode": ["minimum"],
}
ENSURE = {"_target_": "EnsureTyped", "keys": "@image_key"}
NONZERO = {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True, "channel_wise": True}
UNIT = {"_target_": "ScaleIntensityd", "keys": "@image_key"}
SLIDING = {
    "_target_": "SlidingWindowInferer",
    "roi_size": [16, 16, 16],
    "overlap": "@overlap",
    "sw_batch_size": 2,
}
SOFTMAX = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
INVERT = {
    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
    "nearest_interp": False, "to_tensor": True,
}  # fmt: skip
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
USUAL = [SOFTMAX, INVERT, ARGMAX]

# name: channels, transforms before, inferer, transforms after
CHAINS: dict[str, tuple[int, list[dict], dict, list[dict]]] = {
    "spleen_ct_segmentation": (1, [*LOAD, TURN, SPACING, WINDOWED, ENSURE], SLIDING, USUAL),
    "pediatric_abdominal_ct_segmentation": (
        1, [*LOAD, TURN, SPACING, WINDOWED, CROP, ENSURE], SLIDING, USUAL,
    ),
    "wholeBody_ct_segmentation": (
        1,
        [*LOAD, TURN, SPACING, {**NONZERO, "channel_wise": False}, {**UNIT, "minv": -1.0, "maxv": 1.0}],
        {**SLIDING, "padding_mode": "replicate", "mode": "gaussian"},
        [SOFTMAX, ARGMAX, {**INVERT, "nearest_interp": True}],
    ),
    "prostate_mri_anatomy": (
        1, [*LOAD, TURN, SPACING, {**UNIT, "minv": 0, "maxv": 1}, {**NONZERO, "nonzero": False}],
        SLIDING, USUAL,
    ),
    "brats_mri_segmentation": (
        2,
        [{**LOAD[0], "image_only": False}, LOAD[1], NONZERO],
        {**SLIDING, "overlap": 0.5},
        [
            {**SOFTMAX, "softmax": False, "sigmoid": True}, INVERT,
            {**ARGMAX, "argmax": False, "threshold": 0.5},
        ],
    ),
    "wholeBrainSeg_Large_UNEST_segmentation": (
        1, [*LOAD, {**NONZERO, "nonzero": "True", "channel_wise": "True"}, ENSURE],
        {**SLIDING, "overlap": 0.7}, USUAL,
    ),
    "segmentation_template": (1, [*LOAD, UNIT], {"_target_": "SimpleInferer"}, [SOFTMAX, ARGMAX]),
    "cropped before resampling": (1, [*LOAD, WINDOWED, CROP, TURN, SPACING], SLIDING, USUAL),
    "cropped first": (1, [*LOAD, CROP, TURN, SPACING, UNIT], SLIDING, USUAL),
    "scaled before resampling": (1, [*LOAD, UNIT, SPACING], SLIDING, [INVERT, SOFTMAX, ARGMAX]),
    "padded to a multiple": (
        1, [*LOAD, NONZERO, {"_target_": "DivisiblePadd", "keys": "@image_key", "k": 8}],
        {"_target_": "SimpleInferer"}, USUAL,
    ),
    "padded to a size": (
        1, [*LOAD, NONZERO, {"_target_": "SpatialPadd", "keys": "@image_key", "spatial_size": [32, 20, 24]}],
        {**SLIDING, "mode": "gaussian"}, USUAL,
    ),
    "resized": (
        1, [*LOAD, {"_target_": "Resized", "keys": "@image_key", "spatial_size": [24, 16, 16]}, UNIT],
        {"_target_": "SimpleInferer"}, USUAL,
    ),
    "resized by lines": (
        1, [*LOAD, {"_target_": "Resized", **IMAGE, "spatial_size": [24, 16, 16], "mode": "trilinear"}, UNIT],
        {"_target_": "SimpleInferer"}, USUAL,
    ),
    "normalised by constants": (
        1, [*LOAD, {"_target_": "NormalizeIntensityd", **IMAGE, "subtrahend": 30.0, "divisor": 12.5}],
        SLIDING, USUAL,
    ),
    "a range to another": (1, [*LOAD, {**WINDOWED, "b_min": -1, "b_max": 2, "clip": False}], SLIDING, USUAL),
}  # fmt: skip


def write_bundle(
    root: Path, channels: int, before: Any, inferer: dict, after: list[dict], dims: int = 3
) -> Path:
    outputs = 2 if any(step.get("sigmoid") for step in after) else 3
    config = {
        "image_key": "image",
        "pixdim": "$[0.9, 1.1, 1.2] if True else [3.0, 3.0, 3.0]",
        "displayable_configs": {"overlap": 0.25},
        "overlap": "@displayable_configs#overlap",
        "network_def": {
            "_target_": "UNet", "spatial_dims": dims, "in_channels": channels, "out_channels": outputs,
            "channels": [8, 16, 16], "strides": [2, 2],
        },
        "preprocessing": {"_target_": "Compose", "transforms": before},
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": after},
    }  # fmt: skip
    from monai.networks.nets import UNet

    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    network = UNet(dims, channels, outputs, [8, 16, 16], [2, 2])
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def write_volume(root: Path, channels: int, air: float) -> Path:
    """Write a volume whose axes point left and back, and what lies around is one value."""
    generator = np.random.default_rng(0)
    size = (28, 32, 20)  # multiples of what the network needs: MONAI's own chains do not pad
    inside = disc(size, 9)
    image = np.stack([inside * generator.normal(60 + 20 * c, 45, size) for c in range(channels)], -1)
    image += (1 - inside[..., None]) * air
    affine = np.diag([-1.0, -1.3, 1.6, 1.0])
    affine[:3, 3] = (40, 30, -20)
    for kind, array in (("images", image[..., 0] if channels == 1 else image), ("labels", inside)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), affine), root / kind / "v.nii.gz")
    return root


def of_bundle(root: Path, host: Host, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what the bundle's own transforms prepare, and what its own chain predicts."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(root / "configs" / "inference.json"))
    item = parser.get_parsed_content("preprocessing")({"image": str(file)})
    prepared = np.asarray(item["image"])
    with torch.no_grad():
        item["pred"] = parser.get_parsed_content("inferer")(item["image"][None], host.module)[0]
    return prepared, np.asarray(parser.get_parsed_content("postprocessing")(item)["pred"])


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_the_zoo_prepares_and_predicts_here_as_in_monai(name: str, tmp_path: Path) -> None:
    channels, before, inferer, after = CHAINS[name]
    root = write_bundle(tmp_path / "bundle", channels, before, inferer, after)
    # CT knows no zeros: after resampling, it is rounding that tells what is zero and what is next to it.
    data = write_volume(tmp_path / "data", channels, -1000.0 if "_ct_" in name else 0.0)
    host = open_host(str(root))
    assert host.preparation is not None, host.report
    assert host.report[1] == "preparation taken from the bundle's transforms"
    file = data / "images" / "v.nii.gz"
    prepared, theirs = of_bundle(root, host, file)

    overlap = theirs.shape[0] > 1
    if overlap:  # a channel each
        labels = {"background": 0, "whole": [1, 2], "core": [2]}
        write_json(data / "dataset.json", {"labels": labels, "regions_class_order": [1, 2]})
    classes = ("background", "whole", "core") if overlap else ("background", "a", "b")
    cohort = open_data(data, preparation=host.preparation, classes=classes)
    sample = cohort.read(cohort.cases[0])
    assert np.allclose(sample.image.numpy(), prepared, atol=2e-4)
    ours = predicted_here(host.module, cohort, "v", axes=(0, 1, 2))
    ours = ours[::-1, ::-1] if host.preparation.orientation else ours
    theirs = np.where(theirs[1] > 0, 2, theirs[0]) if overlap else theirs[0]
    assert len(np.unique(theirs)) == 3
    assert min(dice(ours, theirs, value) for value in (0, 1, 2)) > 1 - 1e-3


def test_zeros_that_resampling_blurs_are_remarked(tmp_path: Path) -> None:
    host = open_host(str(write_bundle(tmp_path / "a", *CHAINS["wholeBody_ct_segmentation"])))
    assert host.report[-1].startswith("what is not zero is told after resampling")
    host = open_host(str(write_bundle(tmp_path / "b", *CHAINS["wholeBrainSeg_Large_UNEST_segmentation"])))
    assert host.report[-1] == "preparation taken from the bundle's transforms"


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ([*LOAD, SPACING, CROP, UNIT], "the order resample, crop, scale"),
        ([*LOAD, NONZERO, WINDOWED], "none scaling after nonzero"),
        ([*LOAD, {**SPACING, "mode": 3}], "Spacingd with"),
        ([*LOAD, {**SPACING, "diagonal": True}], "Spacingd with"),
        (
            [*LOAD, {"_target_": "Resized", **IMAGE, "spatial_size": 8, "size_mode": "longest"}],
            "Resized with",
        ),
        ([*LOAD, {"_target_": "Resized", "keys": "image", "spatial_size": [8, 8]}], "Resized with"),
        ([*LOAD, {**CROP, "k_divisible": 16}], "CropForegroundd with"),
        (
            [*LOAD, {"_target_": "DivisiblePadd", **IMAGE, "k": 8, "mode": "edge"}],
            "DivisiblePadd with",
        ),
        ([*LOAD, {**WINDOWED, "a_max": "high"}], "a transform cannot be read"),
        ([*LOAD, {**UNIT, "minv": 1.0}], "ScaleIntensityd with"),
    ],
)
def test_a_chain_that_cannot_be_done_alike_is_named(before: list[dict], text: str, tmp_path: Path) -> None:
    host = open_host(str(write_bundle(tmp_path, 1, before, SLIDING, USUAL)))
    assert host.preparation is None
    assert host.report[-1].startswith("preparation not taken over: ")
    assert text in host.report[-1]


@pytest.mark.parametrize(
    "inferer",
    [
        {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 0},
        {"_target_": "scripts.inferer.Own", "roi_size": [16, 16, 16]},
        {**SLIDING, "roi_size": [16, 16, -1]},
        {**SLIDING, "cval": -1.0},
    ],
)
def test_an_inferer_that_cannot_be_done_alike_is_named(inferer: dict, tmp_path: Path) -> None:
    host = open_host(str(write_bundle(tmp_path, 1, [*LOAD, UNIT], inferer, USUAL)))
    assert host.preparation is None
    assert "preparation not taken over: the inferer" in host.report[-1]


def test_postprocessing_that_is_not_done_here_is_named(tmp_path: Path) -> None:
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2]}
    after = [ARGMAX, largest, INVERT, {"_target_": "SaveImaged", "keys": "pred"}]
    host = open_host(str(write_bundle(tmp_path, 1, [*LOAD, UNIT], SLIDING, after)))
    assert host.preparation is not None
    assert host.report[-1] == (
        "postprocessing not taken over: KeepLargestConnectedComponent, Invert of labels by mixing"
    )


def test_steps_for_labels_and_steps_that_are_switched_off_do_not_count(tmp_path: Path) -> None:
    others = [
        {"_target_": "AsDiscreted", "keys": "label", "to_onehot": 3},
        {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [9, 9, 9], "_disabled_": "$1 > 0"},
    ]
    host = open_host(str(write_bundle(tmp_path, 1, [*LOAD, *others, UNIT], SLIDING, USUAL)))
    assert host.preparation is not None
    assert host.preparation.spacing is None


def test_a_list_of_transforms_may_be_put_together_of_others(tmp_path: Path) -> None:
    root = write_bundle(tmp_path, 1, "$@first + @second", SLIDING, USUAL)
    file = root / "configs" / "inference.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "first": LOAD, "second": [UNIT]}))
    host = open_host(str(root))
    assert host.preparation is not None
    assert host.preparation.scale == "minmax"


def test_the_names_of_the_classes_are_those_of_the_metadata(tmp_path: Path) -> None:
    root = write_bundle(tmp_path, 1, [*LOAD, UNIT], SLIDING, USUAL)
    names = {"0": "background", "1": "spleen", "2": "liver"}
    outputs = {"pred": {"num_channels": 3, "channel_def": names}}
    write_json(root / "configs" / "metadata.json", {"network_data_format": {"outputs": outputs}})
    assert open_host(str(root)).classes == ("background", "spleen", "liver")
    (root / "configs" / "metadata.json").write_text("{")
    assert open_host(str(root)).classes is None


def test_a_network_for_slices_is_shown_volumes_and_pictures_as_its_bundle_does(tmp_path: Path) -> None:
    slices = {"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2}
    root = write_bundle(tmp_path / "bundle", 1, [*LOAD, UNIT], slices, USUAL, dims=2)
    host = open_host(str(root))
    data = write_volume(tmp_path / "data", 1, 0.0)
    _, theirs = of_bundle(root, host, data / "images" / "v.nii.gz")
    cohort = open_data(data, preparation=host.preparation, classes=("b", "x", "y"), spatial_dims=2)
    ours = predicted_here(host.module, cohort, "v", axes=(0, 1, 2))
    assert min(dice(ours, theirs[0], value) for value in np.unique(theirs)) > 1 - 1e-3
    volumes = write_bundle(tmp_path / "resampled", 1, [*LOAD, SPACING, UNIT], slices, USUAL, dims=2)
    assert "resampling of volumes before they are sliced" in open_host(str(volumes)).report[-1]


def test_a_picture_lies_and_is_resized_as_in_the_endoscopic_bundle(tmp_path: Path) -> None:
    before = [
        LOAD[0],
        {**LOAD[1], "channel_dim": -1},
        {"_target_": "Resized", "keys": ["@image_key"], "spatial_size": [32, 24], "mode": ["bilinear"]},
        UNIT,
    ]
    root = write_bundle(tmp_path / "bundle", 3, before, {"_target_": "SimpleInferer"}, USUAL, dims=2)
    host, data = open_host(str(root)), tmp_path / "data"
    colour = np.random.default_rng(0).integers(0, 255, (30, 44, 3), dtype=np.uint8)
    picture(data / "images" / "v.png", np.asarray(Image.fromarray(colour).resize((70, 50))))
    picture(data / "masks" / "v.png", np.zeros((50, 70), np.uint8))
    prepared, theirs = of_bundle(root, host, data / "images" / "v.png")
    cohort = open_data(data, preparation=host.preparation, classes=("b", "x", "y"))
    assert np.allclose(cohort.read(cohort.cases[0]).image.numpy(), prepared, atol=1e-5)
    ours = predicted_here(host.module, cohort, "v", axes=(0, 1))
    assert ours.shape == (70, 50)
    assert min(dice(ours, theirs[0], value) for value in np.unique(theirs)) > 1 - 1e-3
