"""Classes that are unions of label values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from surgeon.data import LabelRegions, open_data
from surgeon.errors import DataError
from surgeon.scores import Activation, evaluate, find_task, score_case
from tests.core.data.builders import ball, volume, write_json

BRATS = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
}


def brats(root: Path, **changes: object) -> Path:
    """Write three cases with rings of 1, 2 and 3, one inside the other; the image is the label."""
    rings = sum((ball() if radius == 4 else shrunk(radius)) for radius in (4, 3, 2)).astype(np.uint8)
    for index in range(3):
        volume(root / "imagesTr" / f"b{index}_0000.nii.gz", rings.astype(np.float32))
        volume(root / "labelsTr" / f"b{index}.nii.gz", rings)
    write_json(root / "dataset.json", BRATS | changes)
    return root


def shrunk(radius: float) -> np.ndarray:
    from tests.core.data.builders import disc

    return disc((10, 12, 14), radius)


def network(x: torch.Tensor) -> torch.Tensor:
    """See the whole and the core rightly, and the enhancing part nowhere."""
    return torch.cat([x - 0.5, x - 1.5, x * 0 - 1], 1)


def test_regions_are_trained_painted_and_scored_as_they_overlap(tmp_path: Path) -> None:
    from surgeon.data import Preparation

    cohort = open_data(brats(tmp_path), preparation=Preparation(scale="none"))
    assert cohort.classes == ("background", "whole", "core", "enhancing")
    assert cohort.regions == LabelRegions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    sample = cohort.read(cohort.cases[0])
    assert sample.label is not None
    task = find_task(network(sample.image[None]), cohort)
    assert (task.activation, task.channels) == (Activation.LOGITS_SIGMOID, 3)
    assert task.predict(network(sample.image[None])).unique().tolist() == [0, 1, 2]
    scores = evaluate(network, cohort, task, metrics=("iou",))
    assert scores.dice_per_class == {"whole": 1.0, "core": 1.0, "enhancing": 0.0}
    assert task.to_dict()["regions"]["values"] == [[1, 2, 3], [2, 3], [3]]


def test_the_loss_of_regions_falls_where_each_channel_learns_its_union() -> None:
    regions = LabelRegions(((1, 2), (2,)), (1, 2))
    label = torch.tensor([[0, 1, 2, 2]])
    masks = regions.masks(label)
    assert masks.int().tolist() == [[[0, 1, 1, 1], [0, 0, 1, 1]]]
    assert regions.paint(masks).tolist() == label.tolist()
    from surgeon.scores import Task

    task = Task(Activation.LOGITS_SIGMOID, ("b", "whole", "core"), 2, 1, regions=regions)
    right, wrong = masks * 20.0 - 10, 10 - masks * 20.0
    assert task.loss(right, label) < 1e-3 < 1 < task.loss(wrong, label)


def test_a_softmax_network_of_the_label_values_is_scored_on_regions(tmp_path: Path) -> None:
    from surgeon.data import Preparation

    cohort = open_data(brats(tmp_path), preparation=Preparation(scale="none"))

    def values(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-((x - value) ** 2) for value in range(4)], 1)

    task = find_task(values(cohort.read(cohort.cases[0]).image[None]), cohort)
    assert task.regions is None
    assert evaluate(values, cohort, task).dice_mean == 1.0


def test_a_region_counts_its_parts_together() -> None:
    regions = LabelRegions(((1, 2), (2,)), (1, 2))
    truth, seen = torch.tensor([1, 1, 2, 0]), torch.tensor([2, 1, 2, 0])
    scores = score_case(seen, truth, ("b", "whole", "core"), ("iou",), regions=regions)
    assert scores["dice"] == {"whole": 1.0, "core": 2 / 3}
    assert scores["iou"]["core"] == 0.5


def test_a_network_with_other_channels_than_regions_is_refused_before_training(tmp_path: Path) -> None:
    cohort = open_data(brats(tmp_path))
    with pytest.raises(DataError, match=r"2 output channels, the data 3 regions \(whole, core, enhancing\)"):
        find_task(torch.randn(1, 2, 16, 16, 16), cohort)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"regions_class_order": None}, "one value for each of the 3 regions"),
        ({"regions_class_order": [1, 2]}, "one value for each of the 3 regions"),
        ({"regions_class_order": [1, 2, 9]}, "names a value that is in no region"),
        ({"labels": {"whole": [1, 2], "core": 2}}, "need one background of value 0"),
        ({"labels": {"background": 0, "whole": [1, "2"]}}, "label 'whole' of .* is no label value"),
        ({"labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1]}, "of no region: 3"),
    ],
)
def test_regions_that_cannot_be_used_are_refused(changes: dict, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text):
        open_data(brats(tmp_path, **changes))


def test_other_names_for_regions_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 classes are named, the data have 3 regions"):
        open_data(brats(tmp_path), classes=("b", "f"))
