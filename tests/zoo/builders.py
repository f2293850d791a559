"""Real networks from PyPI packages, with random weights and small inputs.

Each family is a function that imports its package when it is asked for and returns its builders by id.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Built:
    """A network in eval mode with its example inputs.

    Attributes:
        network: with random weights.
        inputs: positional inputs, images `(N, C, *spatial)` first.
        kwargs: keyword inputs.
    """

    network: nn.Module
    inputs: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


Builder = Callable[[], Built]


def build(family: str, name: str) -> Built:
    """Build a network of the zoo; the same weights every time.

    Args:
        family: the package it comes from.
        name: its id in the table of truth.
    """
    # Nothing is downloaded.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        built = FAMILIES[family]()[name]()
    built.network.eval()
    return built


def _image(dims: int = 2, channels: int = 1, size: int = 0) -> tuple[Tensor]:
    return (torch.randn(1, channels, *[size or (64 if dims == 2 else 32)] * dims),)


def monai() -> dict[str, Builder]:
    """Networks of MONAI."""
    from monai.networks import nets

    plane, volume, colour, pair = _image(2), _image(3), _image(2, 3), _image(2, 2)
    features = (8, 8, 16, 32, 64, 8)

    def dynunet(**options: Any) -> nn.Module:
        kernels, strides = [[3, 3]] * 4, [[1, 1]] + [[2, 2]] * 3
        return nets.DynUNet(2, 1, 2, kernels, strides, strides[1:], filters=[8, 16, 32, 64], **options)

    def registration(kind: Any, **options: Any) -> nn.Module:
        return kind(2, 2, 8, out_kernel_initializer="kaiming_uniform", out_channels=2, **options)

    return {
        "monai_unet2d": lambda: Built(nets.UNet(2, 1, 2, (8, 16, 32, 64), (2, 2, 2)), plane),
        "monai_unet2d_res": lambda: Built(
            nets.UNet(2, 1, 2, (8, 16, 32, 64, 128), (2, 2, 2, 2), num_res_units=2), plane
        ),
        "monai_unet3d_res": lambda: Built(
            nets.UNet(3, 1, 2, (8, 16, 32, 64), (2, 2, 2), num_res_units=2), volume
        ),
        "monai_unet3d_plain": lambda: Built(nets.UNet(3, 1, 2, (8, 16, 32), (2, 2)), volume),
        "monai_basicunet2d": lambda: Built(nets.BasicUNet(2, 1, 2, features), plane),
        "monai_basicunet3d_nontrainable": lambda: Built(
            nets.BasicUNet(3, 1, 2, features, upsample="nontrainable"), volume
        ),
        "monai_basicunetpp2d": lambda: Built(nets.BasicUNetPlusPlus(2, 1, 2, features), plane),
        "monai_attentionunet2d": lambda: Built(
            nets.AttentionUnet(2, 1, 2, (8, 16, 32, 64), (2, 2, 2)), plane
        ),
        "monai_dynunet2d": lambda: Built(dynunet(), plane),
        "monai_dynunet2d_ds": lambda: Built(dynunet(deep_supervision=True, deep_supr_num=2), plane),
        "monai_segresnet2d": lambda: Built(nets.SegResNet(2, 8, 1, 2), plane),
        "monai_segresnetvae": lambda: Built(
            nets.SegResNetVAE((32, 32, 32), spatial_dims=3, init_filters=8, in_channels=1, out_channels=2),
            volume,
        ),
        "monai_segresnetds": lambda: Built(
            nets.SegResNetDS(3, 8, 1, 2, blocks_down=(1, 2, 2, 2), dsdepth=2), volume
        ),
        "monai_vnet2d": lambda: Built(nets.VNet(2, 1, 2, act=("elu", {"inplace": True})), plane),
        "monai_vnet3d": lambda: Built(nets.VNet(3, 1, 2), volume),
        "monai_unetr2d": lambda: Built(
            nets.UNETR(
                1, 2, (64, 64), feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4, spatial_dims=2
            ),
            plane,
        ),
        "monai_swinunetr2d": lambda: Built(nets.SwinUNETR(1, 2, feature_size=12, spatial_dims=2), plane),
        "monai_flexunet_effb0": lambda: Built(
            nets.FlexibleUNet(
                3,
                2,
                "efficientnet-b0",
                pretrained=False,
                decoder_channels=(64, 32, 16, 16, 8),
                spatial_dims=2,
            ),
            colour,
        ),
        "monai_regunet": lambda: Built(
            registration(nets.RegUNet, depth=3, concat_skip=False, extract_levels=(0, 3)), pair
        ),
        "monai_regunet_cat": lambda: Built(
            registration(nets.RegUNet, depth=3, concat_skip=True, extract_levels=(0, 3)), pair
        ),
        "monai_localnet": lambda: Built(
            registration(nets.LocalNet, out_activation=None, extract_levels=(0, 1, 2, 3)), pair
        ),
        "monai_voxelmorph_unet": lambda: Built(
            nets.VoxelMorphUNet(
                spatial_dims=2,
                in_channels=2,
                unet_out_channels=8,
                channels=(8, 8, 16, 16, 16, 16, 8, 8),
                final_conv_channels=(8, 8),
            ),
            pair,
        ),
        "monai_highresnet": lambda: Built(nets.HighResNet(3, 1, 2), _image(3, size=16)),
        "monai_mednext": lambda: Built(
            nets.MedNeXt(
                2,
                8,
                1,
                2,
                encoder_expansion_ratio=2,
                decoder_expansion_ratio=2,
                bottleneck_expansion_ratio=2,
                blocks_down=(1, 1, 1, 1),
                blocks_bottleneck=1,
                blocks_up=(1, 1, 1, 1),
                use_residual_connection=True,
            ),
            plane,
        ),
        "monai_diffusion_unet": lambda: Built(
            nets.DiffusionModelUNet(
                2,
                1,
                1,
                num_res_blocks=2,
                channels=(16, 32, 32),
                attention_levels=(False, False, True),
                norm_num_groups=8,
                num_head_channels=8,
            ),
            (*_image(size=32), torch.tensor([5])),
        ),
        "monai_autoencoderkl": lambda: Built(
            nets.AutoencoderKL(
                2,
                1,
                1,
                num_res_blocks=(1, 1, 1),
                channels=(8, 16, 16),
                attention_levels=(False, False, False),
                latent_channels=3,
                norm_num_groups=4,
            ),
            _image(size=32),
        ),
        "monai_autoencoder": lambda: Built(
            nets.AutoEncoder(2, 1, 2, (8, 16, 32), (2, 2, 2), num_res_units=1), plane
        ),
    }


def smp() -> dict[str, Builder]:
    """Networks of segmentation_models_pytorch."""
    import segmentation_models_pytorch as models

    narrow = {"decoder_channels": (64, 32, 16, 8, 8)}
    options: dict[str, tuple[str, str, dict[str, Any]]] = {
        "smp_unet_resnet18": ("Unet", "resnet18", narrow),
        "smp_unet_resnet34_scse": (
            "Unet",
            "resnet34",
            {"decoder_channels": (64, 48, 32, 32, 16), "decoder_attention_type": "scse"},
        ),
        "smp_unet_effb0": ("Unet", "efficientnet-b0", narrow),
        "smp_unet_mobilenetv2": ("Unet", "mobilenet_v2", narrow),
        "smp_unet_densenet121": ("Unet", "densenet121", narrow),
        "smp_unet_vgg11bn": ("Unet", "vgg11_bn", narrow),
        "smp_unet_tu_convnext": ("Unet", "tu-convnext_atto", narrow),
        "smp_unet_seresnext50": ("Unet", "se_resnext50_32x4d", narrow),
        "smp_unetpp_resnet18": ("UnetPlusPlus", "resnet18", narrow),
        "smp_manet_resnet18": ("MAnet", "resnet18", narrow),
        "smp_linknet_resnet18": ("Linknet", "resnet18", {}),
        "smp_linknet_vgg11bn": ("Linknet", "vgg11_bn", {}),
        "smp_fpn_resnet18": ("FPN", "resnet18", {}),
        "smp_fpn_effb0": ("FPN", "efficientnet-b0", {}),
        "smp_deeplabv3plus_resnet18": ("DeepLabV3Plus", "resnet18", {}),
        "smp_deeplabv3_resnet18": ("DeepLabV3", "resnet18", {}),
        "smp_pspnet_resnet18": ("PSPNet", "resnet18", {}),
        "smp_upernet_resnet18": ("UPerNet", "resnet18", {"decoder_channels": 32}),
        "smp_segformer_mitb0": ("Segformer", "mit_b0", {"decoder_segmentation_channels": 32}),
    }

    def builder(architecture: str, encoder: str, arguments: dict[str, Any]) -> Builder:
        kind = getattr(models, architecture)
        return lambda: Built(
            kind(encoder, encoder_weights=None, in_channels=3, classes=2, **arguments), _image(2, 3)
        )

    return {name: builder(*choice) for name, choice in options.items()}


def dna() -> dict[str, Builder]:
    """Networks of dynamic_network_architectures, as nnU-Net trains them."""
    from dynamic_network_architectures.architectures import unet

    convolutions = {2: nn.Conv2d, 3: nn.Conv3d}
    norms = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

    def make(kind: Any, dims: int, deep_supervision: bool, **blocks: int) -> Builder:
        return lambda: Built(
            kind(
                input_channels=1,
                n_stages=4,
                features_per_stage=[8, 16, 32, 64],
                conv_op=convolutions[dims],
                kernel_sizes=3,
                strides=[1, 2, 2, 2],
                num_classes=2,
                conv_bias=True,
                norm_op=norms[dims],
                norm_op_kwargs={"affine": True},
                nonlin=nn.LeakyReLU,
                nonlin_kwargs={"inplace": True},
                deep_supervision=deep_supervision,
                **blocks,
            ),
            _image(dims),
        )

    plain = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
    residual = {"n_blocks_per_stage": 2, "n_conv_per_stage_decoder": 1}
    return {
        "dna_plainunet2d": make(unet.PlainConvUNet, 2, False, **plain),
        "dna_plainunet2d_ds": make(unet.PlainConvUNet, 2, True, **plain),
        "dna_plainunet3d": make(unet.PlainConvUNet, 3, False, **plain),
        "dna_plainunet3d_ds": make(unet.PlainConvUNet, 3, True, **plain),
        "dna_resenc2d": make(unet.ResidualEncoderUNet, 2, False, **residual),
    }


def diffusers() -> dict[str, Builder]:
    """Networks of diffusers: timesteps and text beside the image."""
    import diffusers as models

    keyword = {"return_dict": False}

    def unet() -> Built:
        network = models.UNet2DModel(
            32,
            1,
            1,
            block_out_channels=(16, 32, 32),
            layers_per_block=2,
            norm_num_groups=8,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
        return Built(network, (*_image(size=32), torch.tensor([3])), keyword)

    def conditional() -> Built:
        network = models.UNet2DConditionModel(
            32,
            4,
            4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=4,
            cross_attention_dim=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        return Built(network, (*_image(2, 4, 32), torch.tensor([3]), torch.randn(1, 4, 16)), keyword)

    def autoencoder() -> Built:
        network = models.AutoencoderKL(
            3,
            3,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(16, 16),
            norm_num_groups=8,
            layers_per_block=1,
        )
        return Built(network, _image(2, 3, 32), keyword)

    return {
        "diffusers_unet2d": unet,
        "diffusers_unet2dcond": conditional,
        "diffusers_autoencoderkl": autoencoder,
    }


def torchvision() -> dict[str, Builder]:
    """Segmentation and detection backbones of torchvision."""
    from torchvision.models import segmentation
    from torchvision.models.detection import backbone_utils

    blank = {"weights": None, "weights_backbone": None, "num_classes": 2}
    colour = _image(2, 3)
    return {
        "tv_fcn_resnet50": lambda: Built(segmentation.fcn_resnet50(**blank), colour),
        "tv_deeplabv3_mobilenet": lambda: Built(segmentation.deeplabv3_mobilenet_v3_large(**blank), colour),
        "tv_fpn_resnet18": lambda: Built(
            backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5),
            colour,
        ),
    }


def timm() -> dict[str, Builder]:
    """Classifiers of timm: controls."""
    import timm as models

    def make(architecture: str, **options: Any) -> Builder:
        return lambda: Built(
            models.create_model(architecture, pretrained=False, num_classes=10, **options), _image(2, 3)
        )

    return {
        "timm_resnet18": make("resnet18"),
        "timm_convnext_atto": make("convnext_atto"),
        "timm_vit_tiny": make("vit_tiny_patch16_224", img_size=64),
        "timm_densenet121": make("densenet121"),
        "timm_effb0": make("efficientnet_b0"),
    }


FAMILIES: dict[str, Callable[[], dict[str, Builder]]] = {
    "monai": monai,
    "smp": smp,
    "dna": dna,
    "diffusers": diffusers,
    "torchvision": torchvision,
    "timm": timm,
}
