"""Every form of host with every kind of data: the table in the README, a test for each cell.

A cell opens the network with its library's own files, scores it on real files, and (slow) implants cells,
exports them, and scores the export on the same files.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.data.builders import disc, picture, volume
from tests.core.hosts.test_folders import ARCHITECTURE, nnunet_result

from .conftest import TINY, Cli

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit", "ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai"
)
CLASSES = ["--classes", "background,front,back"]
QUICK = ["--epochs", "1", "--retrain-epochs", "1", "--steps", "1", "--batch-size", "2", "--allow-worse"]
QUICK += ["--no-finalists", "--operations", "sep3,max3,none"]


def halves(size: tuple[int, ...]) -> np.ndarray:
    """Return a ball whose far half is another class."""
    label = disc(size, min(size) / 3)
    return label + label * (np.indices(size)[-1] > size[-1] / 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder of PNG images, and one of NIfTI volumes of several spacings with a border of zeros."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for index in range(4):
        flat = halves((40 + index, 36))
        noisy = (flat * 90 + generator.integers(1, 60, flat.shape)).astype(np.uint8)
        picture(root / "PNG folder" / "images" / f"größe {index}.png", noisy)
        picture(root / "PNG folder" / "masks" / f"größe {index}.png", flat)
        solid = halves((20, 18 + index, 12))
        noisy = (solid * 90 + generator.integers(1, 60, solid.shape)).astype(np.float32)
        spacing = (1.5, 1.25, 2.0 + 0.5 * index)
        volume(root / "NIfTI volumes" / "images" / f"v{index}.nii.gz", np.pad(noisy, 1), spacing)
        volume(root / "NIfTI volumes" / "labels" / f"v{index}.nii.gz", np.pad(solid, 1), spacing)
    return {folder.name: folder for folder in root.iterdir()}


def nnunet(root: Path, dims: int) -> list[str]:
    design = json.loads(json.dumps(ARCHITECTURE).replace("2d", f"{dims}d"))
    arguments = design["arch_kwargs"]
    arguments |= {"kernel_sizes": [[3] * dims] * 3, "strides": [[1] * dims, *[[2] * dims] * 2]}
    result = nnunet_result(
        root,
        architecture=design,
        patch_size=[16] * dims,
        spacing=[2.0, 1.25, 1.5][3 - dims :],
        normalization_schemes=["ZScoreNormalization"],
        use_mask_for_norm=[True],
    )
    (result / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "T1"}, "labels": {"background": 0, "front": 1, "back": 2}})
    )
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    keys = [key for key in ("conv_op", "norm_op", "nonlin") if arguments[key]]
    built = {**arguments, **{key: _named(arguments[key]) for key in keys}}
    torch.manual_seed(0)
    network = PlainConvUNet(1, num_classes=3, deep_supervision=True, **built)
    file = result / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    content |= {"network_weights": network.state_dict(), "inference_allowed_mirroring_axes": (0,)}
    torch.save(content, file)
    return [str(result)]


def _named(path: str) -> object:
    import importlib

    home, _, name = path.rpartition(".")
    return getattr(importlib.import_module(home), name)


def nnunet_2d(root: Path) -> list[str]:
    return nnunet(root, 2)


def nnunet_3d(root: Path) -> list[str]:
    return nnunet(root, 3)


def bundle(root: Path, dims: int) -> list[str]:
    from monai.networks.nets import UNet

    values = {
        "spatial_dims": dims,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [4, 8, 8],
        "strides": [2, 2],
    }
    steps = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "NormalizeIntensityd", "keys": "image"},
    ]
    if dims == 3:
        steps.insert(2, {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0]})
    config = {
        "network_def": {"_target_": "UNet", **values},
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16] * dims, "overlap": 0.25},
    }
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    torch.save(UNet(**values).state_dict(), root / "models" / "model.pt")
    return [str(root)]


def bundle_2d(root: Path) -> list[str]:
    return bundle(root, 2)


def bundle_3d(root: Path) -> list[str]:
    return bundle(root, 3)


def smp_folder(root: Path) -> list[str]:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    design = {"encoder_depth": 3, "decoder_channels": (16, 8, 4), "classes": 3, "in_channels": 1}
    smp.Unet("resnet18", encoder_weights=None, **design).save_pretrained(str(root))
    return [str(root)]


def exported_program(root: Path) -> list[str]:
    from torch.export import Dim

    from .tiny_unet import TinyUNet

    torch.manual_seed(1)
    sizes = {0: Dim.DYNAMIC, 2: 2 * Dim("rows", max=512), 3: 2 * Dim("columns", max=512)}
    network = TinyUNet(out_channels=3).eval()
    program = torch.export.export(network, (torch.rand(2, 1, 32, 32),), dynamic_shapes=(sizes,))
    root.mkdir(parents=True)
    torch.export.save(program, root / "network.pt2")
    return [str(root / "network.pt2")]


def factory_and_checkpoint(root: Path) -> list[str]:
    from .tiny_unet import TinyUNet

    root.mkdir(parents=True)
    torch.manual_seed(1)
    state = {f"module.{name}": value for name, value in TinyUNet(out_channels=3).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, root / "last.ckpt")
    arguments = ["--checkpoint", str(root / "last.ckpt"), "--arg", "out_channels=3"]
    return [f"{TINY}:build", *arguments]


HOSTS = (nnunet_2d, nnunet_3d, bundle_2d, bundle_3d, smp_folder, exported_program, factory_and_checkpoint)
REFUSED = {("nnunet_3d", "PNG folder"), ("bundle_3d", "PNG folder")}
CELLS = [(host, kind) for host in HOSTS for kind in ("NIfTI volumes", "PNG folder")]


@pytest.mark.parametrize(("host", "kind"), CELLS, ids=lambda value: getattr(value, "__name__", value))
def test_a_network_of_every_form_is_scored_on_every_kind_of_data(
    host, kind: str, data: dict[str, Path], cli: Cli, tmp_path: Path
) -> None:
    words = [*host(tmp_path / "host"), "--data", data[kind], *CLASSES]
    done = cli("evaluate", *words, "--json", "--csv", tmp_path / "cases.csv")
    if (host.__name__, kind) in REFUSED:
        assert done.code == 2
        assert "the network takes images of 3 axes, the data have 2" in done.err
        return
    assert done.code == 0, done.err
    assert "output read as logits, softmax outside: 3 channel(s)" in done.err
    assert len(done.json["per_case"]) == 4  # volumes are scored whole, also by networks for images
    assert set(done.json["metrics"]) == {"dice", "iou", "hd95", "assd", "surface_dice"}
    with (tmp_path / "cases.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    mean = sum(float(row["dice"]) for row in rows) / 8
    assert mean == pytest.approx(done.json["dice_mean"])


SLOW = [cell for cell in CELLS if (cell[0].__name__, cell[1]) not in REFUSED]


@pytest.mark.slow
@pytest.mark.parametrize(("host", "kind"), SLOW, ids=lambda value: getattr(value, "__name__", value))
def test_a_network_of_every_form_is_operated_on_exported_and_scored_as_onnx(
    host, kind: str, data: dict[str, Path], cli: Cli, tmp_path: Path
) -> None:
    words = host(tmp_path / "host")
    inspected = cli("inspect", *words, "--json")
    assert inspected.code == 0, inspected.err
    run, served = tmp_path / "RUN", tmp_path / "served"
    crop = [] if host.__name__.startswith(("nnunet", "bundle")) else ["--crop", "16,16"]
    done = cli("implant", *words, "--data", data[kind], "--out", run, *CLASSES, *QUICK, *crop)
    assert done.code == 0, done.err
    done = cli("export", run, "--out", served)
    assert done.code == 0, done.err
    scores = [cli("evaluate", which, "--data", data[kind], "--json").json for which in (run, served)]
    assert scores[0]["dice_per_class"] == pytest.approx(scores[1]["dice_per_class"], abs=1e-3)
    assert scores[0]["data"]["preparation"] == scores[1]["data"]["preparation"]


def test_arrays_of_channels_are_signals_for_a_network_of_one_axis(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from monai.networks.nets import BasicUNet\n"
        "def build():\n    return BasicUNet(1, 3, 2, features=(4, 4, 4, 4, 4, 4))\n"
    )
    generator = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for index in range(3):
        label = np.zeros(48 + 16 * index, np.uint8)
        label[10:20] = 1
        np.save(tmp_path / "data" / "images" / f"{index}.npy", label + generator.normal(size=(3, len(label))))
        np.save(tmp_path / "data" / "labels" / f"{index}.npy", label[None] if index else label)
    words = [f"{tmp_path / 'net.py'}:build", "--data", tmp_path / "data", "--json"]
    done = cli("evaluate", *words, "--pictures", tmp_path / "worst")
    assert done.code == 0, done.err
    assert done.json["data"]["preparation"]["signals"]
    assert len(done.json["pictures"]) == len(done.json["per_case"]) == 3
    # Of two axes, they are grey images for anything else.
    assert cli("evaluate", "monai.networks.nets:UNet", *words[1:]).code == 2


def test_the_worst_cases_are_drawn_and_the_policy_is_said(
    data: dict[str, Path], cli: Cli, tmp_path: Path
) -> None:
    words = [*exported_program(tmp_path / "host"), "--data", data["NIfTI volumes"], *CLASSES]
    done = cli(
        "evaluate", *words, "--json", "--pictures", tmp_path / "worst", "--metrics", "none", "--empty", "skip"
    )
    assert done.code == 0, done.err
    assert done.json["policy"] == {"empty": "skip", "tolerance": 1.0}
    drawn = [Path(file) for file in done.json["pictures"]]
    assert [file.name[:2] for file in drawn] == ["1_", "2_", "3_"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in drawn)
    shown = cli("evaluate", *words, "--metrics", "hd95")
    assert "HD95 and ASSD are in mm, or in pixels" in shown.out
    assert cli("evaluate", *words, "--empty", "zero").code == 2
    assert cli("evaluate", *words, "--metrics", "auc").code == 2
