from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.gain.__main__ import main, summary
from benchmarks.gain.hosts import Recipe, trained_host
from benchmarks.gain.kept import KeptParts
from benchmarks.gain.runs import QUICK, Size, run_part
from benchmarks.gain.scenes import SIDE, draw_scene, train_host, write_scenes
from benchmarks.gain.tables import (
    bar_lines,
    bars,
    dearness,
    differences,
    equal_cost,
    interval,
    is_equal_cost,
    lines,
    regret,
    share_spent,
    summary_targets,
    targets,
    together,
)
from benchmarks.gain.tasks import TASKS, Place, Task, deal
from benchmarks.gain.volumes import SHIFTS
from surgeon.data import Preparation, open_data


def part(task="nuclei-200", seconds=10.0, domains=None, **dice):
    """Return a part with two test images, whose rows have these Dice."""
    return {
        "task": task,
        "split": 0,
        "seed": 0,
        "seconds": 1.0,
        "recommended": "adapter",
        "verdict": "improved",
        "search": {"seconds": 15.0},
        "dice": {name: dict(zip("ab", values, strict=True)) for name, values in dice.items()},
        "domains": domains or {},
        "rows": [
            {
                "name": name,
                "frozen": name != "full",
                "dice": sum(values) / 2,
                "validation_dice": sum(values) / 2,
                "seconds": seconds,
                "flops": 100 + 10 * (name != "host") + number,
                "trainable": 10 if name == "full" else 1,
                "latency": {"host": 1.0, "it": 2.0},
            }
            for number, (name, values) in enumerate(dice.items())
        ],
    }


PART = part(
    host=(0.8, 0.8), implanted=(0.86, 0.84), adapter=(0.85, 0.85), random1=(0.84, 0.82), random2=(0.82, 0.84),
    full=(0.88, 0.86),
)  # fmt: skip


def test_differences_are_paired_by_image_and_random_is_the_mean_of_its_cells():
    other = {**PART, "split": 1}
    assert sorted(differences([PART, other], "implanted", "random")) == pytest.approx(
        [0.01, 0.01, 0.03, 0.03]
    )
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


def test_seeds_of_one_split_are_no_further_subjects():
    worse = part(host=(0.8, 0.8), implanted=(0.82, 0.80))
    assert differences([PART, {**worse, "seed": 1}], "implanted", "host") == pytest.approx([0.04, 0.02])


def test_random_cells_buy_as_much_as_the_search_cost_and_validation_takes_the_best():
    cells = {"random1": (0.5, 0.5), "random2": (0.6, 0.6), "random3": (0.7, 0.7)}
    rows = part(host=(0.1, 0.1), searched=(0.4, 0.4), **cells)  # 15 s of search and 10 s of training buy two
    assert equal_cost(rows) == {"search": "searched", "random-search": "random2"}
    assert equal_cost({**rows, "search": {"seconds": 25.0}})["random-search"] == "random3"
    assert equal_cost({**rows, "search": {"seconds": 0.0}})["random-search"] == "random1"
    assert differences([rows], "search", "random-search") == pytest.approx([-0.2, -0.2])
    fixed = {**part(host=(0.1, 0.1), sep5=(0.8, 0.8), **cells), "same": {"searched": "sep5"}}
    assert equal_cost(fixed) == {"search": "sep5", "random-search": "random2"}


def test_a_search_is_only_compared_at_equal_cost_where_there_were_random_cells_enough():
    cells = {"random1": (0.5, 0.5), "random2": (0.6, 0.6)}
    both = {"implanted": (0.7, 0.7), "searched": (0.7, 0.7)}
    rows = part(host=(0.1, 0.1), **both, **cells)  # 25 s against 20 s, and there are no more cells
    assert share_spent(rows) == pytest.approx(0.8)
    assert not is_equal_cost(rows)
    assert not [target for target in summary_targets({"lines": [rows]}) if "random" in target.name]
    cheaper = {**rows, "search": {"seconds": 12.0}}  # 22 s
    assert is_equal_cost(cheaper)
    (mean,) = (t for t in summary_targets({"lines": [cheaper]}) if t.name.endswith("cost, mean"))
    assert mean.value == pytest.approx(0.1)
    assert "- random-search cost 80 % of what the search cost" in lines("lines", [rows])


def test_all_tasks_together_count_alike_however_many_images_they_have():
    lost = part(host=(0.1, 0.1), implanted=(0.7, 0.7), searched=(0.4, 0.4), random1=(0.5, 0.5))
    won = part(host=(0.1, 0.1), implanted=(0.7, 0.7), searched=(0.8, 0.8), random1=(0.5, 0.5))
    twice = [lost, {**lost, "split": 1}]
    (told, _) = together({"lines": twice, "slices": [won], "right": [part(host=(0.1, 0.1))]})
    assert told.startswith(
        "all tasks: search over random-search +0.1000 (+0.1000 to +0.1000), which cost 30 %"
    )
    assert together({"right": [part(host=(0.1, 0.1))]}) == []


def test_cost_is_compared_with_that_of_the_best_row_with_a_frozen_host():
    # Rows cost 100 and 10 more for each implant, and one more from row to row.
    assert dearness(part(host=(0.8, 0.8), implanted=(0.9, 0.9))) == pytest.approx(1.0)
    better = part(host=(0.8, 0.8), adapter=(0.95, 0.95), implanted=(0.9, 0.9))
    assert dearness(better) == pytest.approx(12 / 11)


def test_few_images_are_judged_by_their_worst_run_in_and_out_of_the_domain():
    rows = {"host": (0.8, 0.5), "implanted": (0.9, 0.6), "full": (0.88, 0.7)}
    runs = [part("nuclei-4", domains={"b": "out"}, **rows) for _ in range(2)]
    told = {target.name: target for target in targets("nuclei-4", runs)}
    assert told["nuclei-4: worst run over that of full fine-tuning, in of domain"].holds
    assert not told["nuclei-4: worst run over that of full fine-tuning, out of domain"].holds


def test_targets_that_are_missed_are_said_to_be():
    told = summary({"nuclei-200": [PART]}, QUICK, TASKS[:2])
    held = {target["name"]: target["holds"] for target in told["targets"]}
    assert held["nuclei-200: gain over the host"] is True
    assert held["nuclei-200: share of what full fine-tuning gains"] is False
    assert held["nuclei-200: share of its trainable parameters"] is True
    assert told["not_measured"] == ["nuclei-16 split 0 seed 0"]
    assert any(line.startswith("| implanted | 0.8500 | +0.0500") for line in told["lines"])


def test_every_bar_is_held_or_missed_or_not_measured_and_says_on_how_many_parts():
    rows = {row["name"]: row for row in bars({"nuclei-200": [PART]}, ["nuclei-200", "lines"], 6)}
    assert {name: row["outcome"] for name, row in rows.items() if name.startswith("nuclei-200")} == {
        "nuclei-200: regret": "holds",
        "nuclei-200: cost over the best frozen row's": "holds",
        "nuclei-200: gain over the host": "holds",
        "nuclei-200: lower end of that gain": "holds",
        "nuclei-200: share of what full fine-tuning gains": "missed",
        "nuclei-200: share of its trainable parameters": "holds",
    }
    assert rows["lines: lower end over random"] == {
        "name": "lines: lower end over random",
        "outcome": "not measured",
        "parts": 0,
    }
    told = bar_lines([*rows.values()])
    assert "| nuclei-200: gain over the host | 0.0500 | 0.04 | 1 of 6 | holds |" in told
    assert (
        "| nuclei-200: share of what full fine-tuning gains | 0.7143 | 0.95 | 1 of 6 | **missed** |" in told
    )
    assert told[-1].startswith("Not measured: lines; searched over random cells")
    assert told[-1].endswith("at equal total cost, lower end.")


def test_a_report_is_of_finished_parts_wherever_they_were_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.gain.kept.machine", lambda: {"processor": "another"})
    KeptParts(tmp_path).keep(PART)
    monkeypatch.setattr("benchmarks.gain.__main__.KeptParts", partial(KeptParts, tmp_path))
    assert main(["--report"]) == 1
    told = capsys.readouterr().out
    assert "nuclei-200: 1 parts; recommended adapter; verdicts improved" in told
    assert "| nuclei-200: gain over the host | 0.0500 | 0.04 | 1 of 6 | holds |" in told
    assert f"another, torch {torch.__version__.split('+')[0]}" in told
    assert "do not count" not in told


def test_a_part_that_is_kept_is_the_part_and_says_where_it_was_run(tmp_path):
    kept = KeptParts(tmp_path)
    assert kept.find("nuclei-200", 0, 0) is None
    kept.keep(PART)
    found = kept.find("nuclei-200", 0, 0)
    assert {key: found[key] for key in PART} == PART
    assert found["machine"]["cores"]
    assert kept.find("nuclei-200", 0, 1) is None
    assert [one["dice"] for one in kept.all()] == [PART["dice"]]
    assert kept.stale() == 0


def test_a_part_of_other_sources_does_not_count_and_the_report_says_so(tmp_path, monkeypatch, capsys):
    KeptParts(tmp_path).keep(PART)
    monkeypatch.setattr("benchmarks.gain.kept.SOURCES", ("benchmarks/gain/runs.py",))
    assert KeptParts(tmp_path).find("nuclei-200", 0, 0) is None
    assert KeptParts(tmp_path).stale() == 1
    monkeypatch.setattr("benchmarks.gain.__main__.KeptParts", partial(KeptParts, tmp_path))
    assert main(["--report"]) == 1
    told = capsys.readouterr().out
    assert "1 finished parts do not count" in told
    assert "nuclei-200: 1 parts" not in told


def test_a_benchmark_that_is_told_what_to_do_knows_those_tasks():
    names = {task.name for task in TASKS}
    assert len(names) == len(TASKS)
    assert set(QUICK.tasks) < names


def test_scenes_are_those_of_their_seed_and_specks_are_no_lines():
    (image, mask), (again, _) = (draw_scene(np.random.default_rng(3), specks=False) for _ in range(2))
    assert image.shape == mask.shape == (SIDE, SIDE)
    assert np.array_equal(image, again)
    assert set(np.unique(mask)) == {0, 1}
    with_specks, same = draw_scene(np.random.default_rng(3), specks=True)
    assert np.array_equal(mask, same)
    assert with_specks.std() != image.std()


def test_a_task_deals_its_subjects_out_and_adds_those_of_another_domain_to_the_test(tmp_path):
    cohort = open_data(write_scenes(tmp_path / "x", 20, 1, specks=True))
    other = {case.id for case in cohort.cases[:4]}
    task = Task(
        "t", (6, 3, 4), lambda _: cohort, None, {}, domain=lambda case: "out" if case.id in other else "in"
    )
    dealt = deal(cohort, task, 0)
    assert [len(dealt.splits[name]) for name in ("train", "validation", "test")] == [6, 3, 8]
    assert other < {*dealt.splits["test"]}
    assert {case.subject for case in dealt.cases} == {s for names in dealt.splits.values() for s in names}
    assert deal(cohort, task, 1).splits != dealt.splits


def test_a_host_is_trained_once_and_read_from_then_on(tmp_path):
    cohort = open_data(
        write_scenes(tmp_path / "x", 4, 1, specks=False), preparation=Preparation("unit", channels=1)
    )
    recipe = Recipe(steps=2, crop=(32, 32), batch_size=2)
    first = trained_host(_small_host, cohort, recipe, 0, tmp_path / "kept")
    (path,) = (tmp_path / "kept").iterdir()
    written = path.stat().st_mtime_ns
    again = trained_host(_small_host, cohort, recipe, 0, tmp_path / "kept")
    assert path.stat().st_mtime_ns == written
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in first.state_dict().items())
    fewer = cohort.select(cohort.subjects[:3])
    trained_host(_small_host, fewer, recipe, 0, tmp_path / "kept")
    assert len([*(tmp_path / "kept").iterdir()]) == 2


def _small_host():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 1))


@pytest.mark.parametrize("name", ["intensity", "noise"])
def test_a_shift_changes_what_a_linear_scaling_cannot_undo(name):
    image = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32)
    shifted = SHIFTS[name](image, np.random.default_rng(1))
    assert shifted.shape == image.shape
    assert np.isfinite(shifted).all()
    assert 0.2 < np.corrcoef(image.ravel(), shifted.ravel())[0, 1] < 0.99


@pytest.mark.slow
def test_a_part_of_the_benchmark_runs(tmp_path):
    less = {"epochs": 1, "retrain_epochs": 1, "steps": 2, "compare_cells": 1, "crosswise_below": 0}
    tiny = Size("tiny", (0,), (0,), {**QUICK.settings, **less})
    small = Task("lines", (12, 6, 6), _open_few_scenes, lambda *_: train_host(2), {"crop": (32, 32)})
    found = run_part(small, tiny, Place(tmp_path, tmp_path), 0, 0, unfinished=tmp_path / "runs")
    assert {"host", "implanted", "adapter", "sep3", "sep5", "full"} <= set(found["dice"])
    assert len(found["dice"]["host"]) == 6
    assert found["finalists"][0]["genotype"].keys() == {"shared"}
    assert any(line.startswith("| full | ") for line in lines("lines", [found]))


def _open_few_scenes(place):
    how = Preparation("unit", channels=1)
    return open_data(write_scenes(place.folder / "scenes", 24, 1, specks=True), preparation=how)
