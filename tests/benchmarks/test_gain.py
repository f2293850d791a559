from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gain import QUICK, TASKS, Size, differences, interval, regret, run_part, summary
from benchmarks.scenes import SIDE, draw_scene, train_host, write_scenes
from surgeon.data import Preparation, open_data


def part(**dice):
    """Return a part with two test images, whose rows have these Dice."""
    return {
        "seconds": 1.0,
        "recommended": "adapter",
        "verdict": "improved",
        "dice": {name: dict(zip("ab", values, strict=True)) for name, values in dice.items()},
        "rows": [
            {
                "name": name,
                "frozen": name != "full",
                "dice": sum(values) / 2,
                "trainable": 10 if name == "full" else 1,
                "latency": {"host": 1.0, "it": 2.0},
            }
            for name, values in dice.items()
        ],
    }


PART = part(
    host=(0.8, 0.8), implanted=(0.86, 0.84), adapter=(0.85, 0.85), random1=(0.84, 0.82), random2=(0.82, 0.84),
    full=(0.88, 0.86),
)  # fmt: skip


def test_differences_are_paired_by_image_and_random_is_the_mean_of_its_cells():
    assert sorted(differences([PART, PART], "implanted", "random")) == pytest.approx([0.01, 0.01, 0.03, 0.03])
    assert differences([PART], "implanted", "unknown") == []


def test_an_interval_holds_its_mean_and_has_no_width_without_spread():
    assert interval([0.02] * 9) == pytest.approx((0.02, 0.02, 0.02))
    mean, low, high = interval([0.0, 0.1, 0.2, 0.3])
    assert mean == pytest.approx(0.15)
    assert low < mean < high


def test_regret_is_over_the_rows_with_a_frozen_host_alone():
    assert regret(PART) == pytest.approx(0.0)
    better = part(host=(0.8, 0.8), implanted=(0.8, 0.8), adapter=(0.82, 0.82), full=(0.99, 0.99))
    assert regret(better) == pytest.approx(0.02)


def test_targets_that_are_missed_are_said_to_be():
    told = summary({"nuclei-60": [PART]}, QUICK, TASKS[:2])
    held = {target["name"]: target["holds"] for target in told["targets"]}
    assert held["nuclei-60: gain over the host"] is True
    assert held["nuclei-60: share of what full fine-tuning gains"] is False
    assert held["nuclei-60: share of its trainable parameters"] is True
    assert "nuclei-200" in told["not_measured"]
    assert any(line.startswith("| implanted | 0.8500 | +0.0500") for line in told["lines"])


def test_scenes_are_those_of_their_seed_and_specks_are_no_lines():
    (image, mask), (again, _) = (draw_scene(np.random.default_rng(3), specks=False) for _ in range(2))
    assert image.shape == mask.shape == (SIDE, SIDE)
    assert np.array_equal(image, again)
    assert set(np.unique(mask)) == {0, 1}
    with_specks, same = draw_scene(np.random.default_rng(3), specks=True)
    assert np.array_equal(mask, same)
    assert with_specks.std() != image.std()


@pytest.mark.slow
def test_a_part_of_the_benchmark_runs(tmp_path):
    cohort = open_data(
        write_scenes(tmp_path / "lines", 24, 1, specks=True), preparation=Preparation("unit", channels=1)
    )
    task = next(task for task in TASKS if task.name == "lines")
    tiny = Size("tiny", (0,), (0,), 6, {**QUICK.settings, "epochs": 1, "retrain_epochs": 1, "steps": 2})
    small = type(task)("lines", 12, 6, task.open, 32, True)
    found = run_part(small, tiny, (train_host(2), cohort), 0, 0)
    assert {"host", "implanted", "adapter", "full"} <= set(found["dice"])
    assert len(found["dice"]["host"]) == 6
