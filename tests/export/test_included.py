import numpy as np
import onnx
import pytest
import torch
from surgeon.export import open_session, run_session, to_onnx
from torch import nn

from surgeon.data import LabelRegions, Preparation
from surgeon.data.intensities import prepare_intensities
from surgeon.data.window import Window
from surgeon.errors import InputError

from .networks import image, small_unet

FLIPS = ((), (2,), (3,), (2, 3))


def answer(artifact, x):
    return run_session(open_session(artifact.model), x)[0]


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(mean=(0.4,), std=(0.2,)),
        Preparation(scale="minmax", clip=(10.0, 200.0)),
        Preparation(scale="zscore"),
    ],
)
def test_normalisation_in_the_file_is_that_of_the_preparation(preparation, tmp_path):
    network = small_unet()
    raw = np.random.default_rng(0).integers(0, 256, (1, 20, 24), dtype=np.uint8)
    with torch.no_grad():
        expected = network(prepare_intensities(raw, preparation, "")[None])
    artifact = to_onnx(network, image(), tmp_path / "out", include=["normalise"], preparation=preparation)
    found = answer(artifact, torch.from_numpy(raw[None].astype(np.float32)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_flips_softmax_and_argmax_in_the_file_are_what_they_say(tmp_path):
    network, x = small_unet(), image(size=20, batch=2)
    steps = ["argmax", "flips", "activation"]
    artifact = to_onnx(network, image(), tmp_path / "out", include=steps, samples=[x])
    with torch.no_grad():
        passes = [network(x.flip(axes)).softmax(1).flip(axes) for axes in FLIPS]
    mean = torch.stack(passes).mean(0)
    assert [(port.name, port.type) for port in artifact.outputs] == [("labels", "uint8")]
    found = answer(artifact, x)
    assert found.dtype == torch.uint8
    assert (found == mean.argmax(1)).double().mean() > 0.995
    # What the labels are taken from is proved as numbers, the labels themselves as labels.
    names = [case.what for case in artifact.parity]
    assert "sample 0, before argmax" in names
    assert "sample 0" in names
    recorded = {entry.key: entry.value for entry in onnx.load(artifact.model).metadata_props}
    assert recorded["included"] == '["flips", "activation", "argmax"]'
    assert sorted(path.name for path in artifact.folder.iterdir()) == ["export.json", "model.onnx"]


def test_probabilities_of_three_dimensions_have_their_name(tmp_path):
    network = small_unet(3, classes=1)
    artifact = to_onnx(network, image(3, 8), tmp_path / "out", include=["activation"])
    assert artifact.outputs[0].name == "probabilities"
    with torch.no_grad():
        torch.testing.assert_close(answer(artifact, image(3, 8)), network(image(3, 8)).sigmoid())


def test_one_channel_of_logits_is_cut_at_zero(tmp_path):
    network = small_unet(classes=1)
    artifact = to_onnx(network, image(), tmp_path / "out", include=["argmax"])
    with torch.no_grad():
        assert torch.equal(answer(artifact, image()), (network(image())[:, 0] > 0).to(torch.uint8))


def test_steps_that_do_not_suit_the_network_are_refused(tmp_path):
    network = small_unet()
    with pytest.raises(InputError, match="nothing to include is called 'argmin'"):
        to_onnx(network, image(), tmp_path, include=["argmin"])
    with pytest.raises(InputError, match="nothing says how images are normalised"):
        to_onnx(network, image(), tmp_path, include=["normalise"])
    for unseen in (
        Preparation(scale="zscore", mask_nonzero=True),
        Preparation("minmax", window=Window((8, 8))),
    ):
        with pytest.raises(InputError, match="statistics that the network's input does not show"):
            to_onnx(network, image(), tmp_path, include=["normalise"], preparation=unseen)
    with pytest.raises(InputError, match="gives probabilities already"):
        to_onnx(nn.Sequential(network, nn.Softmax(1)), image(), tmp_path, include=["activation"])
    with pytest.raises(InputError, match="gives no map of classes"):
        to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), image(), tmp_path, include=["argmax"])
    with pytest.raises(InputError, match="300 classes do not fit"):
        to_onnx(nn.Conv2d(1, 300, 1), image(), tmp_path, include=["argmax"])


@pytest.mark.parametrize("steps", [["argmax"], ["argmax", "activation"], ["argmax", "activation", "flips"]])
def test_classes_that_overlap_are_painted_one_over_the_other(steps, tmp_path):
    network, x = small_unet(classes=3), image(size=20, batch=2)
    regions = LabelRegions(((1, 2, 4), (2, 4), (4,)), (1, 2, 4))
    artifact = to_onnx(network, image(), tmp_path / "out", include=steps, regions=regions, samples=[x])
    with torch.no_grad():
        passes = [network(x.flip(axes)).sigmoid().flip(axes) for axes in FLIPS]
    mean = torch.stack(passes).mean(0) if "flips" in steps else passes[0]
    expected = np.zeros((2, 20, 20), dtype=np.uint8)
    for channel, value in enumerate((1, 2, 4)):
        expected[mean[:, channel].numpy() > 0.5] = value
    found = answer(artifact, x)
    assert found.dtype == torch.uint8
    assert len(np.unique(expected)) >= 2
    assert (found.numpy() == expected).mean() > 0.995


def test_regions_leave_a_network_with_a_channel_for_each_value_alone(tmp_path):
    network, x = small_unet(classes=3), image(size=20)
    regions = LabelRegions(((1, 2), (2,)), (1, 2))
    artifact = to_onnx(network, image(), tmp_path / "out", include=["argmax"], regions=regions)
    with torch.no_grad():
        expected = network(x).argmax(1)
    assert (answer(artifact, x) == expected).double().mean() > 0.995
