"""The hosts whose exports are measured, each with a cell of one genotype on all its skips."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from surgeon.skips import locate
from surgeon.splicing import splice_trace
from surgeon.tracing import trace

# Every operation of the search space.
EDGES = (
    ("input0", "state0", "sep3"),
    ("input0", "state0", "pointwise"),
    ("input0", "state1", "dil3"),
    ("state0", "state1", "max3"),
    ("input0", "state2", "avg3"),
    ("state1", "state2", "sep5"),
    ("state0", "state3", "none"),
    ("state2", "state3", "identity"),
    ("state2", "state4", "dil5"),
    ("state3", "state5", "sep3"),
)


def _unet() -> tuple[nn.Module, Tensor]:
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet34", encoder_weights=None, classes=2), torch.randn(1, 3, 128, 128)


def _dynunet() -> tuple[nn.Module, Tensor]:
    from monai.networks.nets import DynUNet

    kernels, strides = (3, 3, 3, 3), (1, 2, 2, 2)
    return DynUNet(3, 1, 3, kernels, strides, strides[1:], filters=(16, 32, 64, 128)), torch.randn(
        1, 1, 32, 32, 32
    )


def _segresnet() -> tuple[nn.Module, Tensor]:
    from monai.networks.nets import SegResNet

    return SegResNet(3, 16, 1, 3), torch.randn(1, 1, 32, 32, 32)


def _swinunetr() -> tuple[nn.Module, Tensor]:
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(1, 2, feature_size=12), torch.randn(1, 1, 64, 64, 64)


HOSTS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "unet": _unet,
    "dynunet": _dynunet,
    "segresnet": _segresnet,
    "swinunetr": _swinunetr,
}


def implanted(host: nn.Module, x: Tensor) -> nn.Module:
    """Splice a cell of the fixed genotype, with weights that count, into every skip of a host."""
    from surgeon.search.cells import CellSpec, DerivedCell
    from surgeon.search.genotype import CellGenotype, Edge

    genotype = CellGenotype(0.25, tuple(Edge(*edge) for edge in EDGES))
    cells: dict[str, nn.Module] = {}
    traced = trace(host, x)
    for skip in locate(traced).skips:
        if skip.implantable:
            cell = DerivedCell(CellSpec(skip.merge_shape[1], x.ndim - 2, states=6), genotype)
            with torch.no_grad():
                if cell.exit.gamma is not None:
                    cell.exit.gamma.fill_(0.5)
            cells[skip.id] = cell
    network: nn.Module = splice_trace(traced, cells).eval()
    return network


def settle(network: nn.Module, x: Tensor) -> None:
    """Give BatchNorms statistics of their inputs, so that values stay in range."""
    norms = [part for part in network.modules() if getattr(part, "running_mean", None) is not None]
    for part in norms:
        part.training = True
    with torch.no_grad():
        for _ in range(3):
            network(x)
    network.eval()
    for part in norms:
        part.training = False
