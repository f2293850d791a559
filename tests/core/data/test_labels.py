"""Labels in the many ways in which people write them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from surgeon.data import IGNORED, Batches, Legend, Preparation, open_data
from surgeon.errors import DataError
from surgeon.scores import Activation, Task, evaluate, find_task, score_case
from tests.core.data.builders import ball, disc, nnunet_folder, picture, volume, write_json


def masked(root: Path, mask: object, ending: str = "png", **options: object) -> Path:
    picture(root / "images" / "a.png", disc() * 100)
    file = root / "masks" / f"a.{ending}"
    file.parent.mkdir(parents=True)
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(file, **options)
    return root


def label_of(root: Path, **options: object) -> torch.Tensor:
    cohort = open_data(root, preparation=Preparation(), **options)
    label = cohort.read(cohort.cases[0]).label
    assert label is not None
    return label


def test_a_mask_of_jpeg_is_black_and_white_again(tmp_path: Path) -> None:
    colour = np.repeat((disc() * 255)[..., None], 3, 2)
    root = masked(tmp_path, colour, "jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(root / "masks" / "a.jpg")))) > 2  # compression has blurred it
    assert torch.equal(label_of(root), torch.from_numpy(disc()).long())
    assert torch.equal(label_of(root, binarise=True), torch.from_numpy(disc()).long())


def test_class_numbers_in_a_jpeg_are_refused(tmp_path: Path) -> None:
    for index, mask in enumerate((disc() * 2, disc() * 120 + 60)):
        with pytest.raises(DataError, match="compression blurs class numbers"):
            open_data(masked(tmp_path / str(index), mask, "jpg"))


def test_a_palette_of_black_and_white_is_read_by_its_colours_and_any_other_by_its_numbers(
    tmp_path: Path,
) -> None:
    turned = Image.fromarray(1 - disc(), mode="P")
    turned.putpalette([255, 255, 255, 0, 0, 0] + [9] * 750)  # number 0 is white
    assert torch.equal(label_of(masked(tmp_path / "a", turned)), torch.from_numpy(disc()).long())
    coloured = Image.fromarray(disc(), mode="P")
    coloured.putpalette([0, 0, 0, 200, 0, 0] + [9] * 750)
    assert torch.equal(label_of(masked(tmp_path / "b", coloured)), torch.from_numpy(disc()).long())


def test_a_mask_of_gif_is_read(tmp_path: Path) -> None:
    root = masked(tmp_path, Image.fromarray(disc() * 255), "gif")
    assert torch.equal(label_of(root), torch.from_numpy(disc()).long())


def test_label_values_may_have_gaps_where_they_are_named(tmp_path: Path) -> None:
    rows = np.indices(disc().shape)[0] > 12
    root = masked(tmp_path, disc() * np.where(rows, 255, 128).astype(np.uint8))
    write_json(root / "dataset.json", {"labels": {"background": 0, "cell": 255, "border": 128}})
    cohort = open_data(root)
    assert cohort.classes == ("background", "border", "cell")
    assert torch.equal(label_of(root), torch.from_numpy(disc() * (1 + rows)).long())
    write_json(root / "dataset.json", {"labels": {"background": 0, "cell": 255}})
    with pytest.raises(DataError, match=r"unknown classes: 128 \(known: 0 background, 255 cell\)"):
        open_data(root)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"background": 0, "a": "1"}, "label 'a' of '1' is no label value"),
        ({"background": 0, "a": -1}, "label 'a' of -1 is no label value"),
        ({"a": 1}, "need one background of value 0"),
        ({"background": 0, "a": 1, "ignore": 1}, "the ignored value 1 is not above those of all classes"),
    ],
)
def test_values_that_cannot_be_used_are_refused(labels: dict, text: str, tmp_path: Path) -> None:
    write_json(masked(tmp_path, disc()) / "dataset.json", {"labels": labels})
    with pytest.raises(DataError, match=text):
        open_data(tmp_path)


def test_an_image_of_another_kind_is_named(tmp_path: Path) -> None:
    root = masked(tmp_path, disc())
    (root / "images" / "a.png").rename(root / "images" / "a.dcm")
    with pytest.raises(DataError, match="no image is of a kind that is read") as caught:
        open_data(root)
    assert caught.value.where.endswith("a.dcm")


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_volumes_of_itk_are_what_the_same_volumes_of_nifti_are(ending: str, tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    root = nnunet_folder(tmp_path / "nifti", channels=1)
    for file in sorted(root.rglob("*.nii.gz")):
        affine = np.diag([1.0, -2.0, 3.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(file).dataobj), affine), file)
        other = tmp_path / "itk" / file.relative_to(root).parent / file.name.replace(".nii.gz", ending)
        other.parent.mkdir(parents=True, exist_ok=True)
        itk.WriteImage(itk.ReadImage(str(file)), str(other))
    (tmp_path / "itk" / "dataset.json").write_text((root / "dataset.json").read_text())
    for how in (Preparation(scale="zscore", axes="zyx"), Preparation(orientation="RAS", spacing=(1, 1, 2))):
        one, two = (open_data(tmp_path / name, preparation=how) for name in ("nifti", "itk"))
        pair = [cohort.read(cohort.cases[1]) for cohort in (one, two)]
        assert torch.allclose(pair[0].image, pair[1].image)
        assert torch.equal(pair[0].label, pair[1].label)
        assert pair[0].spacing == pytest.approx(pair[1].spacing)


def test_without_their_library_volumes_of_itk_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.mha").write_bytes(b"")
    with pytest.raises(DataError, match=r"\.mha files are read with a library that is not installed"):
        open_data(tmp_path)


# Voxels that nobody has labelled


def sparse(root: Path) -> Path:
    """Write volumes of which every second slice is labelled; the others hold 3, the value to ignore."""
    label = ball() + (np.indices(ball().shape)[0] > 5) * ball()
    label[:, :, ::2] = 3
    for index in range(3):
        volume(root / "imagesTr" / f"c{index}_0000.nii.gz", (label % 3).astype(np.float32))
        volume(root / "labelsTr" / f"c{index}.nii.gz", label)
    labels = {"background": 0, "front": 1, "back": 2, "ignore": 3}
    write_json(root / "dataset.json", {"channel_names": {"0": "MR"}, "labels": labels})
    return root


def test_what_nobody_has_labelled_counts_in_no_score(tmp_path: Path) -> None:
    cohort = open_data(sparse(tmp_path), preparation=Preparation(scale="none"))
    assert (cohort.classes, cohort.ignore) == (("background", "front", "back"), 3)
    label = cohort.read(cohort.cases[0]).label
    assert label is not None
    assert label.unique().tolist() == [0, 1, 2, IGNORED]

    def network(x: torch.Tensor) -> torch.Tensor:
        """See the image's own value; where it is zero, class 2 in every second slice."""
        value = x.clone()
        value[..., ::2] = 2
        return torch.cat([-((value - k) ** 2) for k in range(3)], 1)

    task = find_task(network(cohort.read(cohort.cases[0]).image[None]), cohort)
    assert task.ignores
    scores = evaluate(network, cohort, task, metrics=("iou", "hd95"))
    assert scores.dice_per_class == {"front": 1.0, "back": 1.0}
    assert scores.mean("hd95") == {"front": 0.0, "back": 0.0}


def test_patches_are_centred_on_labelled_voxels_alone(tmp_path: Path) -> None:
    from surgeon.data.batches import _class_to_centre

    label = torch.tensor([[0, 1, IGNORED], [IGNORED, 1, 2]])
    for seed in range(4):
        centre = _class_to_centre(label, np.random.default_rng(seed))
        assert not centre[label == IGNORED].any()
    only = torch.tensor([1, IGNORED, 0])
    assert _class_to_centre(only, np.random.default_rng(0)).tolist() == [True, False, False]
    assert len(Batches(open_data(sparse(tmp_path)), (8, 8, 8), 2).batch(0, 0).case_ids) == 2


TASKS = {
    "softmax": Task(Activation.LOGITS_SOFTMAX, ("b", "x", "y"), 3, 2, ignores=True),
    "sigmoid each": Task(Activation.LOGITS_SIGMOID, ("b", "x", "y"), 3, 2, ignores=True),
    "one class": Task(Activation.LOGITS_SIGMOID, ("b", "x"), 1, 2, ignores=True),
}


@pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai")
@pytest.mark.parametrize("name", TASKS)
def test_the_loss_is_that_of_the_labelled_part(name: str) -> None:
    import dataclasses

    task = TASKS[name]
    torch.manual_seed(0)
    logits = torch.randn(2, task.channels, 6, 8, requires_grad=True)
    label = torch.randint(0, len(task.classes), (2, 6, 8))
    hidden = label.clone()
    hidden[:, 3:] = IGNORED
    plain = dataclasses.replace(task, ignores=False)
    assert task.loss(logits, label).item() == pytest.approx(plain.loss(logits, label).item(), rel=1e-5)
    loss = task.loss(logits, hidden)
    assert loss.item() == pytest.approx(plain.loss(logits[:, :, :3], label[:, :3]).item(), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, 3:] == 0).all()
    assert torch.isfinite(task.loss(logits, torch.full_like(label, IGNORED)))


@pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai")
def test_regions_ignore_as_well(tmp_path: Path) -> None:
    root = sparse(tmp_path)
    labels = {"background": 0, "whole": [1, 2], "back": [2], "ignore": 3}
    content = {"channel_names": {"0": "MR"}, "labels": labels, "regions_class_order": [1, 2]}
    write_json(root / "dataset.json", content)
    cohort = open_data(root, preparation=Preparation(scale="none"))
    sample = cohort.read(cohort.cases[0])
    assert sample.label is not None
    logits = torch.cat([sample.image[None] - 0.5, sample.image[None] - 1.5], 1) * 40
    task = find_task(logits, cohort)
    assert task.loss(logits, sample.label[None]) < 1e-3
    scores = evaluate(lambda x: torch.cat([x - 0.5, x - 1.5], 1), cohort, task)
    assert scores.dice_mean == 1.0
    assert score_case(
        torch.tensor([1, 2, 2]), torch.tensor([1, IGNORED, 0]), cohort.classes, regions=cohort.regions
    )["dice"] == {"whole": pytest.approx(2 / 3), "back": 0.0}


def test_ignored_values_survive_names_and_binarising(tmp_path: Path) -> None:
    found = Legend(("b", "x"), None, 9).read(np.array([0, 4, 9]), "here", binarise=True)
    assert found.tolist() == [0, 1, IGNORED]
    cohort = open_data(sparse(tmp_path), classes=("nothing", "one", "two"))
    assert cohort.ignore == 3
