"""Networks of others, with a derived cell on every skip, exported and proved."""

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from surgeon.export import Freedom, to_onnx
from surgeon.search.cells import CellSpec, DerivedCell
from surgeon.search.genotype import CellGenotype, Edge

import surgeon
from tests.export.networks import stir

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

# Every operation of the search space once.
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
    ("state0", "state5", "none"),
)
GENOTYPE = CellGenotype(0.25, tuple(Edge(*edge) for edge in EDGES))


def cell(channels: int, rank: int) -> DerivedCell:
    """Build a derived cell that uses every operation and whose output counts."""
    made = stir(DerivedCell(CellSpec(channels, rank, states=6), GENOTYPE))
    with torch.no_grad():
        made.exit.gamma.fill_(0.5)
    return made


def implanted(host, x):
    """Splice a cell into every implantable skip of a host."""
    anatomy = surgeon.inspect(host, x)
    cells = {
        skip.id: cell(skip.merge_shape[1], len(skip.merge_shape) - 2)
        for skip in anatomy.skips
        if skip.implantable
    }
    assert cells
    return surgeon.splice(host, x, cells)


def build(name: str):
    """Return a small network of that kind and an example input."""
    torch.manual_seed(0)
    nets = pytest.importorskip("monai.networks.nets")
    if name == "UNet":
        return nets.UNet(2, 1, 2, (8, 16, 32), (2, 2), num_res_units=1, norm="batch"), (1, 1, 32, 32)
    if name.startswith("BasicUNet"):
        rank = int(name[-2])
        return nets.BasicUNet(rank, 1, 2, (8, 8, 8, 8, 8, 8), norm="batch"), (
            1,
            1,
            *[32] * rank,
        )
    if name == "DynUNet":
        kernels, strides = (3, 3, 3), (1, 2, 2)
        return nets.DynUNet(2, 1, 2, kernels, strides, strides[1:], filters=(8, 16, 16)), (1, 1, 32, 32)
    if name == "SegResNet":
        return nets.SegResNet(3, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1)), (1, 1, 16, 16, 16)
    smp = pytest.importorskip("segmentation_models_pytorch")
    return smp.Unet(name, encoder_weights=None, classes=2), (1, 3, 64, 64)


NAMES = ["UNet", "DynUNet"]
SLOW = ["BasicUNet 2D", "BasicUNet 3D", "SegResNet", "resnet18", "resnet34"]


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_an_implanted_network_is_proved_at_three_sizes_and_more(name, tmp_path):
    host, shape = build(name)
    network = implanted(stir(host), torch.randn(shape))
    artifact = to_onnx(network, torch.randn(shape), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    sizes = {case.shapes[0][2:] for case in artifact.parity}
    assert len(sizes) >= 3
    assert max(case.difference.relative for case in artifact.parity) < 1e-4
    # The gammas, the batch norms of the cells and the zeros of `none` are gone.
    kinds = {report.name: report.changed for report in artifact.fusion}
    assert kinds["fold_scale"] > 0
    assert kinds["fold_batchnorm"] > 0
    assert kinds["remove_neutral"] + kinds["drop_zero_channels"] > 0


@pytest.mark.parametrize(
    ("name", "uneven"),
    # UPerNet itself refuses sides that 32 does not divide.
    [("PSPNet", (72, 136)), pytest.param("UPerNet", (32, 224), marks=pytest.mark.slow)],
)
def test_a_pyramid_of_pools_is_right_at_other_sizes_than_it_was_traced_at(name, uneven, tmp_path):
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    network = stir(getattr(smp, name)("resnet18", encoder_weights=None, classes=2))
    artifact = to_onnx(network, torch.randn(1, 3, 64, 64), tmp_path / "out")
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    session = onnxruntime.InferenceSession(artifact.model, providers=["CPUExecutionProvider"])
    for height, width in ((64, 64), (96, 64), uneven, (160, 96)):
        x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            expected = network(x)
        found = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
        assert float((found.argmax(1) == expected.argmax(1)).double().mean()) > 0.999


@pytest.mark.slow
def test_the_pupil_network_is_proved_on_its_own_frames(tmp_path):
    folder = DATA / "pupil"
    weights = next(iter(folder.glob("*.pth")), None)
    if weights is None:
        pytest.skip("the pupil data are not here")
    unet = pytest.importorskip("mouse_pupil_analysis.unet")
    from PIL import Image

    host = unet.UNet(in_channels=1, out_channels=1, use_attention=True)
    host.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    host.eval()
    frames = sorted(path for path in folder.rglob("*.png") if "mask" not in str(path))[:2]
    samples = [_grey(Image.open(path)) for path in frames]
    assert samples
    x = torch.rand(1, 1, 148, 148)
    artifact = to_onnx(implanted(host, x), x, tmp_path / "out", samples=samples)
    assert sum(case.what.startswith("sample") for case in artifact.parity) == len(samples)


def _grey(picture):
    import numpy as np

    return torch.from_numpy(np.asarray(picture.convert("L").resize((148, 148)), dtype=np.float32)[None] / 255)


def test_a_network_without_code_is_exported(tmp_path):
    program = DATA / "nuclei" / "hpa.pt2"
    if not program.is_file():
        pytest.skip("the nuclei data are not here")
    host = surgeon.load(str(program))
    x = torch.rand(1, 1, 64, 64)
    artifact = to_onnx(implanted(host, x), x, tmp_path / "out", "triton", name="nuclei")
    content = json.loads((artifact.folder / "export.json").read_text())
    assert content["sizes"]["step"] == 16
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
