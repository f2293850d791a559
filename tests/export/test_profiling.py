import pytest
import torch
from surgeon.export import to_onnx

from .networks import image, small_unet


def test_each_pass_that_changed_something_says_how_long_a_run_took_before_and_after(tmp_path):
    artifact = to_onnx(small_unet(), image(), tmp_path / "x", second_opinion=False, profile_passes=True)
    for report in artifact.fusion:
        measured = report.milliseconds_before is not None and report.milliseconds_after is not None
        assert measured == bool(report.changed)
    assert sum(report.changed > 0 for report in artifact.fusion) > 2


def test_times_of_passes_are_measured_on_request_alone(tmp_path):
    artifact = to_onnx(small_unet(), image(), tmp_path / "x", second_opinion=False)
    assert all(report.milliseconds_before is None for report in artifact.fusion)
    # Each 3x3 convolution of 8 channels had a BatchNorm of two operations a value, now in its bias.
    folded = next(report for report in artifact.fusion if report.name == "fold_batchnorm")
    assert folded.flops_before > folded.flops_after


@pytest.mark.slow
def test_labels_are_profiled_once_and_int8_in_float32(tmp_path):
    torch.manual_seed(0)
    artifact = to_onnx(
        small_unet(),
        image(),
        tmp_path / "x",
        precision="int8",
        samples=[image(batch=2)],
        include=["argmax"],
        second_opinion=False,
        profile_passes=True,
    )
    assert any(report.milliseconds_after is not None for report in artifact.fusion)
