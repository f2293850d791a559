"""Networks scored on whole cases."""

from __future__ import annotations

import dataclasses
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from surgeon.data import Preparation, Window, open_data
from surgeon.errors import DataError, InputError
from surgeon.hosts import open_host
from surgeon.scores import Activation, Scores, Task, evaluate, find_task, predict, score_case
from tests.core.data.builders import ball, decathlon_folder, disc, picture, volume

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai")

SHARED = Path(os.environ.get("SURGEON_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "data"
BINARY = Task(Activation.LOGITS_SIGMOID, ("background", "part"), 1, 2)


class Threshold(nn.Module):
    """Foreground where the image is above a value; wrong in train mode."""

    def __init__(self, at: float = 0.5) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at))
        self.inner = nn.Dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return x[:, :1] - self.at


def write_pair(root: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    picture(root / "images" / f"{name}.png", (image * 255).astype(np.uint8))
    picture(root / "masks" / f"{name}.png", mask.astype(np.uint8))


def test_dice_is_counted_by_hand(tmp_path: Path) -> None:
    truth, seen = np.zeros((8, 8)), np.zeros((8, 8))
    truth[:4], seen[2:6] = 1, 1
    write_pair(tmp_path, "half", seen, truth)
    write_pair(tmp_path, "empty", truth * 0, truth * 0)
    write_pair(tmp_path, "missed", truth * 0, truth)
    scores = evaluate(Threshold(), open_data(tmp_path), BINARY)
    dice = {name: values["dice"]["foreground"] for name, values in scores.per_case.items()}
    assert dice == {"half": 0.5, "empty": 1.0, "missed": 0.0}
    assert scores.dice_mean == 0.5
    assert scores.dice_per_class == {"foreground": 0.5}
    assert Scores.from_dict(scores.to_dict()) == scores


def test_padding_is_not_scored(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", np.ones((5, 7)), np.ones((5, 7)))
    cohort = open_data(tmp_path, preparation=Preparation(multiple=16))
    everywhere = evaluate(torch.ones_like, cohort, BINARY)
    assert everywhere.dice_mean == 1.0


def test_a_module_is_run_in_eval_mode_and_put_back_as_it_was(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", disc(), disc())
    network = Threshold().train()
    network.inner.eval()
    assert evaluate(network, open_data(tmp_path), BINARY).dice_mean == 1.0
    assert network.training
    assert not network.inner.training


def test_cases_of_one_size_are_run_together_and_scored_as_alone(tmp_path: Path) -> None:
    for index, size in enumerate([(8, 8), (16, 8), (8, 8), (8, 8)]):
        write_pair(tmp_path, str(index), disc(size, 3, index % 2), disc(size, 3))
    seen: list[int] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x - 0.5

    cohort = open_data(tmp_path, preparation=Preparation())
    together = evaluate(network, cohort, BINARY, batch_size=2)
    assert sorted(seen) == [1, 1, 2]
    assert evaluate(network, cohort, BINARY, batch_size=1) == together


def test_slices_are_scored_as_one_volume(tmp_path: Path) -> None:
    root = decathlon_folder(tmp_path, count=2)
    slices = open_data(root, spatial_dims=2, preparation=Preparation(scale="minmax"))
    whole = open_data(root, preparation=Preparation(scale="minmax"))

    def network(x: torch.Tensor) -> torch.Tensor:
        shifted = x.roll(1, dims=2)  # along the first spatial axis, which slices keep
        return shifted - 0.5

    two, three = (dataclasses.replace(BINARY, spatial_dims=dims) for dims in (2, 3))
    metrics = ("iou", "hd95", "assd")
    found = evaluate(network, slices, two, metrics=metrics)
    assert found == evaluate(network, whole, three, metrics=metrics)
    assert list(found.per_case) == ["brain0", "brain1"]
    assert 0 < found.dice_mean < 1
    assert 0 < found.per_case["brain0"]["assd"]["part"] <= 1


def test_a_sliding_window_sees_what_the_whole_image_shows(tmp_path: Path) -> None:
    volume(tmp_path / "images" / "a.nii.gz", ball((20, 18, 16)))
    volume(tmp_path / "labels" / "a.nii.gz", ball((20, 18, 16)))
    cohort = open_data(tmp_path, preparation=Preparation(scale="minmax"))
    task = dataclasses.replace(BINARY, spatial_dims=3)
    scores = evaluate(Threshold(), cohort, task, window=Window((8, 8, 8)))
    assert scores.dice_mean == 1.0
    image = cohort.read(cohort.cases[0]).image[None]
    network = Threshold().eval()
    assert torch.equal(
        predict(network, image, task, window=Window((8, 32, 8))), predict(network, image, task)
    )


def test_distances_are_in_millimetres_and_none_where_a_mask_is_empty() -> None:
    truth, seen = torch.zeros(2, 12, 12, dtype=torch.int64)
    truth[4:8, 4:8], seen[4:8, 6:10] = 1, 1
    scores = score_case(seen, truth, ("background", "part"), ("iou", "hd95", "assd"), (1.0, 3.0))
    assert scores["dice"]["part"] == 0.5
    assert scores["iou"]["part"] == pytest.approx(8 / 24)
    assert scores["hd95"]["part"] == pytest.approx(6.0)
    empty = score_case(seen * 0, truth, ("background", "part"), ("hd95",))
    assert empty == {"dice": {"part": 0.0}, "hd95": {"part": None}}
    assert score_case(seen * 0, truth * 0, ("background", "part"), ("assd",))["assd"]["part"] == 0.0


def test_distances_without_their_library_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    ones = torch.ones(2, 2, dtype=torch.int64)
    with pytest.raises(InputError, match="surface distances need a library that is not installed: scipy"):
        score_case(ones, ones, ("background", "part"), ("hd95",))


def test_what_cannot_be_scored_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", disc(), disc())
    cohort = open_data(tmp_path)
    with pytest.raises(DataError, match="no case to score"):
        evaluate(Threshold(), dataclasses.replace(cohort, cases=()), BINARY)
    bare = tuple(dataclasses.replace(case, labels=()) for case in cohort.cases)
    with pytest.raises(DataError, match="case 'a' has no label"):
        evaluate(Threshold(), dataclasses.replace(cohort, cases=bare, memory=None), BINARY)
    with pytest.raises(InputError, match="unknown metric 'auc'"):
        evaluate(Threshold(), cohort, BINARY, metrics=("auc",))


def test_a_case_that_the_network_does_not_take_is_named(tmp_path: Path) -> None:
    for index, size in enumerate([(8, 8), (16, 8)]):
        write_pair(tmp_path, f"c{index}", disc(size, 3), disc(size, 3))
    position = torch.zeros(1, 1, 8, 8)
    cohort = open_data(tmp_path, preparation=Preparation())
    with pytest.raises(
        DataError,
        match=r"does not take the images: The size of tensor(.|\n)*case c1, .*16, 8(.|\n)*a \[window\]",
    ):
        evaluate(lambda x: x + position, cohort, BINARY)


@pytest.mark.skipif(not (SHARED / "pupil").is_dir(), reason="the pupil frames are not here")
def test_the_pupil_network_scores_what_its_authors_data_say() -> None:
    weights = next((SHARED / "pupil").glob("*.pth"))
    arguments = {"in_channels": 1, "out_channels": 1, "use_attention": True}
    pytest.importorskip("mouse_pupil_analysis")
    host = open_host("mouse_pupil_analysis.unet:UNet", weights, arguments)
    how = Preparation(channels=1, resize_fit=(148, 148))
    cohort = open_data(SHARED / "pupil" / "labeled_frames", preparation=how)
    assert (len(cohort.cases), len(cohort.subjects)) == (32, 10)
    task = find_task(host.module(cohort.read(cohort.cases[0]).image[None]), cohort)
    assert task.activation is Activation.LOGITS_SIGMOID
    assert evaluate(host.module, cohort, task).dice_mean == pytest.approx(0.941, abs=0.002)


@pytest.mark.skipif(not (SHARED / "nuclei").is_dir(), reason="the nuclei are not here")
def test_the_exported_program_scores_on_nuclei_it_never_saw(tmp_path: Path) -> None:
    with zipfile.ZipFile(SHARED / "nuclei" / "dsb2018_fluo_gray.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("images/"))[:24]
        archive.extractall(tmp_path, [*names, *(n.replace("images/", "labels/") for n in names)])
    host = open_host(str(SHARED / "nuclei" / "hpa.pt2"))
    how = Preparation(scale="minmax", multiple=16)
    cohort = open_data(tmp_path, preparation=how, binarise=True)
    task = find_task(host.module(cohort.read(cohort.cases[0]).image[None]), cohort)
    assert task.activation is Activation.PROBABILITIES
    assert evaluate(host.module, cohort, task).dice_mean > 0.8
