"""Hosts given as a folder: nnU-Net results, MONAI bundles, save_pretrained."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from surgeon.checkpoints import fingerprint
from surgeon.cli import main
from surgeon.data import Preparation, Window
from surgeon.errors import CheckpointError, HostError
from surgeon.hosts import libraries, load, open_host

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit", "ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai"
)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# nnU-Net v2

ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3], [3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2], [2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


def nnunet_network(deep_supervision: bool = True) -> torch.nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    torch.manual_seed(0)
    return PlainConvUNet(
        2, 3, [4, 8, 8], nn.Conv2d, [[3, 3]] * 3, [[1, 1], [2, 2], [2, 2]], [1, 1, 1], 3, [1, 1], True,
        nn.InstanceNorm2d, {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU, {"inplace": True},
        deep_supervision,
    )  # fmt: skip


def plans(**changes: object) -> dict:
    settings = {
        "patch_size": [32, 24],
        "spacing": [1.5, 1.25],
        "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, False],
        "architecture": ARCHITECTURE,
    }
    return {
        "configurations": {
            "2d": {**settings, **changes},
            "2d_wide": {"inherits_from": "2d", "batch_size": 99},
        },
        "transpose_forward": [0, 1, 2],
    }


def nnunet_result(root: Path, configuration: str = "2d", **changes: object) -> Path:
    pytest.importorskip("dynamic_network_architectures")
    write_json(root / "plans.json", plans(**changes))
    labels = {"background": 0, "front": 1, "back": 2}
    write_json(root / "dataset.json", {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels})
    (root / "fold_0").mkdir()
    content = {
        "network_weights": nnunet_network().state_dict(),
        "optimizer_state": {"state": {}},
        "logging": {"mean_fg_dice": [np.float64(0.7)], "ema_fg_dice": [np.float32(0.6)]},
        "_best_ema": np.float64(0.6),
        "init_args": {"configuration": configuration, "fold": 0},
        "trainer_name": "nnUNetTrainer",
    }
    torch.save(content, root / "fold_0" / "checkpoint_final.pth")
    return root


def test_an_nnunet_result_is_opened_without_nnunet_and_without_deep_supervision(tmp_path: Path) -> None:
    host = open_host(str(nnunet_result(tmp_path)))
    expected = nnunet_network(deep_supervision=False).eval()
    assert fingerprint(host.module) == fingerprint(expected)
    assert host.example is not None
    assert host.example[0].shape == (1, 2, 8, 8)
    assert torch.equal(host.module(host.example[0]), expected(host.example[0]))
    assert host.preparation == Preparation(
        scale="zscore",
        axes="zyx",
        spacing=(1.5, 1.25),
        resampling="cubic",
        crop_nonzero=True,
        window=Window((32, 24)),
    )
    assert host.classes == ("background", "front", "back")
    assert host.report[0] == "nnU-Net configuration 2d, fold_0/checkpoint_final.pth"


def test_a_configuration_inherits_and_a_fold_can_be_chosen(tmp_path: Path) -> None:
    root = nnunet_result(tmp_path, "2d_wide")
    assert "2d_wide" in open_host(str(root), arguments={"fold": 0}).report[0]


def test_ct_is_clipped_and_shifted_as_the_fingerprint_says(tmp_path: Path) -> None:
    from surgeon.hosts.nnunet import _preparation

    values = {"mean": 90.0, "std": 30.0, "percentile_00_5": -50.0, "percentile_99_5": 200.0}
    document = plans(normalization_schemes=["CTNormalization"])
    document["foreground_intensities_properties_per_channel"] = {"0": values}
    found, _ = _preparation(document, document["configurations"]["2d"], {"channel_names": {"0": "CT"}})
    assert found is not None
    assert (found.scale, found.clip, found.mean, found.std) == ("none", (-50.0, 200.0), (90.0,), (30.0,))


def test_a_normalisation_that_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    host = open_host(str(nnunet_result(tmp_path, normalization_schemes=["Theirs", "Theirs"])))
    assert host.preparation is None
    assert "Theirs is not known here" in host.report[-1]
    document = plans(normalization_schemes=["ZScoreNormalization", "NoNormalization"])
    from surgeon.hosts.nnunet import _preparation

    found, remarks = _preparation(document, document["configurations"]["2d"], {})
    assert found is None
    assert "treated differently" in remarks[0]


def test_what_nnunet_does_with_an_image_is_taken_over(tmp_path: Path) -> None:
    root = nnunet_result(tmp_path, use_mask_for_norm=[True, True])
    file = root / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "inference_allowed_mirroring_axes": (0, 1)}, file)
    write_json(root / "plans.json", {**plans(use_mask_for_norm=[True, True]), "transpose_forward": [1, 0, 2]})
    found = open_host(str(root)).preparation
    assert found is not None
    assert (found.mask_nonzero, found.axes) == (True, "yzx")
    assert found.window == Window((32, 24), mirror=(0, 1))


def test_another_way_to_resample_is_remarked(tmp_path: Path) -> None:
    host = open_host(str(nnunet_result(tmp_path, resampling_fn_data="resample_torch_fornnunet")))
    assert "the plans resample with resample_torch_fornnunet" in host.report[-1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"architecture": {**ARCHITECTURE, "network_class_name": "mine.nets.Net"}},
            "mine.nets.Net is not one of",
        ),
        (
            {
                "architecture": {
                    **ARCHITECTURE,
                    "network_class_name": ARCHITECTURE["network_class_name"] + "X",
                }
            },
            "has no 'PlainConvUNetX'",
        ),
        ({"previous_stage": "3d_lowres"}, "the second stage of a cascade is not supported yet"),
    ],
)
def test_plans_that_are_not_supported_say_so(changes: dict, text: str, tmp_path: Path) -> None:
    with pytest.raises(HostError, match=text):
        load(str(nnunet_result(tmp_path, **changes)))


def test_the_second_stage_of_a_cascade_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = nnunet_result(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres", "3d_cascade_fullres")
    document = plans()
    full = document["configurations"].pop("2d")
    document["configurations"] |= {
        "3d_lowres": {**full, "next_stage": "3d_cascade_fullres"},
        "3d_fullres": full,
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    write_json(root / "plans.json", document)
    # The first stage is a host as any other.
    first = nnunet_result(tmp_path / "first", "3d_lowres")
    write_json(first / "plans.json", document)
    assert open_host(str(first)).report[0].startswith("nnU-Net configuration 3d_lowres")
    data, run = str(tmp_path / "no such data"), str(tmp_path / "RUN")
    for words in (["inspect"], ["evaluate", "--data", data], ["implant", "--data", data, "--out", run]):
        with pytest.raises(SystemExit) as left:
            main([words[0], str(root), *words[1:]])
        said = capsys.readouterr()
        assert (left.value.code, said.out) == (2, "")
        assert "error: the second stage of a cascade is not supported yet" in said.err
        assert "fix: give the result of 3d_lowres, its first stage" in said.err
    assert not Path(run).exists()


def test_an_nnunet_result_that_is_not_whole_says_what_is_missing(tmp_path: Path) -> None:
    root = nnunet_result(tmp_path)
    with pytest.raises(HostError, match=r"no finished fold: there is no fold_3/checkpoint_final.pth"):
        load(str(root), arguments={"fold": 3})
    with pytest.raises(HostError, match="takes no argument 'depth'"):
        load(str(root), arguments={"depth": 3})
    document = plans()
    del document["configurations"]["2d"]["architecture"]
    write_json(root / "plans.json", document)
    with pytest.raises(HostError, match=r"plans written before nnU-Net 2.4 are not supported yet"):
        load(str(root))
    write_json(root / "plans.json", {"configurations": {"3d": {}}})
    with pytest.raises(HostError, match="the plans have no configuration '2d'"):
        load(str(root))
    torch.save({"epoch": 1}, root / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(HostError, match="the checkpoint holds no network_weights"):
        load(str(root))
    (root / "dataset.json").unlink()
    with pytest.raises(HostError, match=r"the folder has no dataset.json"):
        load(str(root))
    (root / "plans.json").write_text("{")
    with pytest.raises(HostError, match=r"plans.json is not JSON"):
        load(str(root))
    (root / "plans.json").write_text("[]")
    with pytest.raises(HostError, match=r"plans.json is not a JSON object"):
        load(str(root))


def test_regions_have_a_channel_each_and_the_background_none() -> None:
    from surgeon.hosts.nnunet import _heads

    assert _heads({"labels": {"background": 0, "whole": [1, 2], "core": 2}}) == 2
    assert _heads({"labels": {"background": 0, "a": 1, "ignore": 2}}) == 2


# MONAI bundle

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
}
TRANSFORMS = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0]},
    {"_target_": "ScaleIntensityRanged", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True},
]  # fmt: skip


def bundle(root: Path, config: dict | None = None, transforms: list | None = None) -> Path:
    from monai.networks.nets import UNet

    default = {
        "device": "$torch.device('cpu')",
        "network_def": UNET,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": TRANSFORMS if transforms is None else transforms,
        },
    }
    write_json(root / "configs" / "inference.json", default if config is None else config)
    (root / "models").mkdir()
    torch.manual_seed(0)
    network = UNet(**{key: value for key, value in UNET.items() if key != "_target_"})
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def test_a_bundle_gives_its_network_and_how_images_are_prepared(tmp_path: Path) -> None:
    host = open_host(str(bundle(tmp_path)))
    assert host.name == "UNet"
    weights = torch.load(tmp_path / "models" / "model.pt")
    assert all(torch.equal(value, weights[name]) for name, value in host.module.state_dict().items())
    assert host.preparation == Preparation(
        scale="none",
        clip=(-57, 164),
        mean=(-57,),
        std=(221,),
        multiple=2,
        spacing=(1.5, 1.5, 2.0),
        resampling="origin",
        orientation="RAS",
    )


@pytest.mark.parametrize(
    ("transform", "scale"),
    [({"_target_": "ScaleIntensityd"}, "minmax"), ({"_target_": "NormalizeIntensityd"}, "zscore")],
)
def test_simple_transforms_of_a_bundle_are_understood(transform: dict, scale: str, tmp_path: Path) -> None:
    host = open_host(str(bundle(tmp_path, transforms=[transform])))
    assert host.preparation is not None
    assert host.preparation.scale == scale


@pytest.mark.parametrize(
    "transform",
    [
        {"_target_": "CropForegroundd", "margin": 3},
        "$print",
        {"_target_": "NormalizeIntensityd", "nonzero": True, "divisor": 2.0},
        {"_target_": "HistogramNormalized"},
    ],
)
def test_a_transform_that_is_not_known_is_not_guessed(transform: object, tmp_path: Path) -> None:
    host = open_host(str(bundle(tmp_path, transforms=[transform])))
    assert host.preparation is None
    assert "is not known here" in host.report[-1]


def test_the_scripts_of_a_bundle_are_found_and_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("")
    (tmp_path / "scripts" / "nets.py").write_text(
        "from monai.networks.nets import UNet\ndef build():\n    return UNet(3, 1, 2, [4, 8], [2])\n"
    )
    path = list(sys.path)
    host = open_host(str(bundle(tmp_path, {"network_def": {"_target_": "scripts.nets.build"}})))
    assert host.name == "UNet"
    assert host.report[-1].startswith("the bundle declares no list of transforms")
    assert sys.path == path
    assert not [name for name in sys.modules if name.partition(".")[0] == "scripts"]


def test_a_bundle_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    root = bundle(tmp_path)
    (root / "models" / "model.pt").unlink()
    with pytest.raises(HostError, match=r"the bundle has no models/model.pt"):
        load(str(root))
    write_json(root / "configs" / "inference.json", {"a": 1})
    with pytest.raises(HostError, match="the bundle's configuration defines no network"):
        load(str(root))
    write_json(root / "configs" / "inference.json", {"network_def": {"_target_": "Nonet"}})
    with pytest.raises(HostError, match="the bundle's configuration cannot be read"):
        load(str(root))
    from surgeon.hosts.bundles import open_bundle

    with pytest.raises(HostError, match=r"the bundle has no configs/inference.json"):
        open_bundle(tmp_path / "nowhere")


# save_pretrained


def smp_folder(root: Path) -> Path:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    network = smp.Unet(
        "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 4), classes=2
    )
    network.save_pretrained(str(root))
    return root


def test_a_folder_of_segmentation_models_pytorch_is_opened(tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    host = open_host(str(smp_folder(tmp_path)))
    expected = smp.from_pretrained(str(tmp_path)).eval()
    assert host.name == "Unet"
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(host.module(x), expected(x))


def test_nothing_is_downloaded_for_an_encoder_that_was_pretrained(tmp_path: Path) -> None:
    config = json.loads((smp_folder(tmp_path) / "config.json").read_text())
    write_json(tmp_path / "config.json", {**config, "encoder_weights": "imagenet"})
    assert open_host(str(tmp_path)).name == "Unet"


def test_a_pretrained_folder_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    root = smp_folder(tmp_path)
    config = json.loads((root / "config.json").read_text())
    write_json(root / "config.json", {**config, "_model_class": "Onet"})
    with pytest.raises(HostError, match="has no network 'Onet'"):
        load(str(root))
    write_json(root / "config.json", {**config, "encoder_name": "resnet0"})
    with pytest.raises(HostError, match=r"the network cannot be built from config.json"):
        load(str(root))
    write_json(root / "config.json", {**config, "classes": 5})
    with pytest.raises(CheckpointError, match=r"segmentation_head.0.bias has shape \(2,"):
        load(str(root))
    write_json(root / "config.json", config)
    (root / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load(str(root))
    write_json(root / "config.json", {"hidden": 3})
    with pytest.raises(HostError, match=r"config.json names no network"):
        load(str(root))
    with pytest.raises(HostError, match="takes no arguments"):
        load(str(root), arguments={"classes": 3})


def test_a_folder_of_diffusers_is_opened_and_a_broken_one_refused(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    network = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    network.save_pretrained(tmp_path)
    assert open_host(str(tmp_path)).name == "UNet2DModel"
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(HostError, match="diffusers cannot open the folder"):
        load(str(tmp_path))


def test_a_folder_of_transformers_is_opened(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=3,
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    host = open_host(str(tmp_path))
    assert host.name == "SegformerForSemanticSegmentation"
    assert host.module(torch.rand(1, 3, 32, 32)).logits.shape[1] == 3


def test_a_folder_that_holds_no_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="the folder holds no host"):
        load(str(tmp_path))


def test_a_library_that_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(HostError, match="this host needs the library a_library_nobody_has") as caught:
        libraries.require("a_library_nobody_has", "here")
    assert "unet-surgeon[hosts]" in caught.value.fix
