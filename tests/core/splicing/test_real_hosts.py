"""Networks that people use: located right, equal under identities, and a cell trains in them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from surgeon.parity import tensors_in
from surgeon.skips import locate
from surgeon.splicing import splice_trace
from surgeon.tracing import trace
from tests.core.networks import image
from tests.core.splicing.cells import ConvCell


def nets():
    return pytest.importorskip("monai").networks.nets


def dynunet():
    kernels, strides = [3, 3, 3], [1, 2, 2]
    return nets().DynUNet(2, 1, 2, kernels, strides, strides[1:], filters=[4, 8, 8])


def resnet_unet():
    smp = pytest.importorskip("segmentation_models_pytorch")
    return smp.Unet(
        "resnet18", encoder_weights=None, in_channels=1, classes=2, decoder_channels=(16, 8, 8, 4, 4)
    )


FEATURES = (4, 4, 8, 8, 8, 4)
# Builder, image, and merge, module and channels of each skip, read from the networks' code.
HOSTS = {
    "MONAI UNet": (
        lambda: nets().UNet(2, 1, 2, (4, 8, 8), (2, 2), num_res_units=1),
        image(size=32),
        [("cat", "model.1", (1, 4, 16, 16)), ("cat", "model.1.submodule.1", (1, 8, 8, 8))],
    ),
    "MONAI BasicUNet 2-D": (
        lambda: nets().BasicUNet(2, 1, 2, FEATURES),
        image(size=32),
        [
            ("cat", "upcat_1", (1, 4, 32, 32)),
            ("cat", "upcat_2", (1, 4, 16, 16)),
            ("cat", "upcat_3", (1, 8, 8, 8)),
            ("cat", "upcat_4", (1, 8, 4, 4)),
        ],
    ),
    "MONAI BasicUNet 3-D": (
        lambda: nets().BasicUNet(3, 1, 2, FEATURES),
        image(3, size=32),
        [
            ("cat", "upcat_1", (1, 4, 32, 32, 32)),
            ("cat", "upcat_2", (1, 4, 16, 16, 16)),
            ("cat", "upcat_3", (1, 8, 8, 8, 8)),
            ("cat", "upcat_4", (1, 8, 4, 4, 4)),
        ],
    ),
    "MONAI DynUNet": (
        dynunet,
        image(size=32),
        [
            ("cat", "skip_layers.upsample", (1, 4, 32, 32)),
            ("cat", "skip_layers.next_layer.upsample", (1, 8, 16, 16)),
        ],
    ),
    "MONAI SegResNet": (
        lambda: nets().SegResNet(2, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        image(size=32),
        [("add", "", (1, 8, 32, 32)), ("add", "", (1, 16, 16, 16))],
    ),
    "smp Unet resnet18": (
        resnet_unet,
        image(size=64),
        [
            ("cat", "decoder.blocks.3", (1, 64, 32, 32)),
            ("cat", "decoder.blocks.2", (1, 64, 16, 16)),
            ("cat", "decoder.blocks.1", (1, 128, 8, 8)),
            ("cat", "decoder.blocks.0", (1, 256, 4, 4)),
        ],
    ),
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_real_network_is_located_spliced_and_trained(name):
    build, x, expected = HOSTS[name]
    torch.manual_seed(0)
    host = build().eval()
    traced = trace(host, x)
    skips = locate(traced).skips
    found = {(s.merge.value, s.merge_module, s.merge_shape) for s in skips}
    assert found == set(expected)
    assert len(skips) == len(expected)
    assert {s.kind.value for s in skips} == {"skip"}

    identical = splice_trace(traced, {s.id: nn.Identity() for s in skips})
    for batch in (1, 2):
        other = torch.cat([x, x.flip(-1)])[:batch]
        with torch.no_grad():
            pairs = zip(tensors_in(host(other)), tensors_in(identical(other)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)

    cells = {s.id: ConvCell(s.channels, dims=len(s.spatial)) for s in skips}
    spliced = splice_trace(traced, cells).train()
    before = {key: tensor.clone() for key, tensor in spliced.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in spliced.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        output = tensors_in(spliced(torch.cat([x, x.flip(-1)])))[0]
        loss = F.mse_loss(output, torch.ones_like(output))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    changed = {key for key, tensor in spliced.state_dict().items() if not torch.equal(tensor, before[key])}
    assert {f"implants.{s.id}.conv.weight" for s in skips} <= changed
    assert all(key.startswith("implants.") for key in changed)
