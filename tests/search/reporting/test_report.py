"""report.html of runs written by hand."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from surgeon.search.reporting import write_report

from surgeon.errors import RunError

from .runs import anatomy, export, genotype, history, report, samples, scores, write_export, write_run

EMPTY = {"meta", "img", "path", "use", "line", "circle", "rect", "stop", "br", "image"}


class Balance(HTMLParser):
    """Collects ids and tags that close nothing."""

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if tag in EMPTY:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def page_of(folder, **options):
    text = write_report(folder, **options).read_text("utf-8")
    parser = Balance()
    parser.feed(text)
    assert not parser.faults
    assert not parser.open
    assert len(parser.ids) == len(set(parser.ids))
    return text


def words_of(text):
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.DOTALL))
    )


def test_a_whole_run_with_its_export(tmp_path):
    run, exported = write_run(tmp_path / "run"), write_export(tmp_path / "export")
    words = words_of(page_of(run, export_dir=exported))
    for expected in (
        "The implanted cells raise Dice by 0.036 on held-out subjects.",
        "95 % interval +0.021 to +0.052, p = 0.0013",
        "lies wholly above zero",
        "baseline: adapter",
        "24 of 24 gained, 0 lost. Largest gain 0.066.",
        "down_0.convs upcat_4",
        "one cell design for all skips",
        "12 epochs · 1 min 24 s",
        "467 k 489 k +4.7 %",
        "1×1×192×320 3.1e−6 4.4e−7 99.9999 %",
        "At the median the export is 2.12 times as fast as the network in PyTorch.",
        "fold batchnorm 9 210 → 180 5.12 M → 4.98 M – 0",
        "odd size the host refuses it 1×1×255×255",
        "CPUExecutionProvider",
        "the factor is not a constant",
        "surgeon implant monai.networks.nets:BasicUNet --data frames --out RUN --checkpoint weights.pt",
        "torch 2.14.0",
    ):
        assert expected in words
    names = {path.name for path in (run / "figures").iterdir()}
    whole = {"anatomy.svg", "dice_by_case.svg", "training.svg"}
    assert names == whole | {"weights_shared.svg", "cell_shared.svg", "case_0.png", "case_1.png"}


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    text = page_of(write_run(tmp_path / "run"))
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "<script" not in text
    assert "@import" not in text


def test_figures_in_the_page_follow_the_theme_and_those_on_disk_do_not(tmp_path):
    run = write_run(tmp_path / "run")
    assert "fill: var(--ink)" in page_of(run)
    assert "var(--" not in (run / "figures" / "anatomy.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("verdict", "gain", "expected"),
    [
        ("unchanged", {"dice_mean": 0.002, "low": -0.01, "high": 0.014}, "No gain over the host is claimed."),
        ("unchanged", {"dice_mean": 0.002, "low": -0.01, "high": 0.014}, "contains zero"),
        (
            "worse",
            {"dice_mean": -0.04, "low": -0.06, "high": -0.02},
            "lower Dice by 0.040 on held-out subjects: keep",
        ),
        ("worse", {"dice_mean": -0.04, "low": -0.06, "high": -0.02}, "lies wholly below zero"),
        ("improved", {"dice_mean": 0.01, "low": -0.001, "high": 0.02}, "Read the gain with care."),
        (
            "improved",
            {"dice_mean": 0.01, "low": 0.001, "high": 0.02, "subjects": 2},
            "With 2 test subjects it is wide",
        ),
        ("improved", {"dice_mean": 0.1, "low": 0.1, "high": 0.1, "subjects": 1}, "one test subject alone"),
    ],
)
def test_the_verdict_claims_what_the_interval_allows(tmp_path, verdict, gain, expected):
    run = write_run(tmp_path / "run", leave_out=("history.jsonl", "samples.npz"), verdict=verdict, gain=gain)
    assert expected in words_of(page_of(run))


def test_notes_stand_under_the_verdict(tmp_path):
    run = write_run(tmp_path / "run", leave_out=("samples.npz",), notes=["this shows function, not gain"])
    assert "this shows function, not gain" in words_of(page_of(run))


def test_what_was_not_recorded_is_said_in_a_sentence(tmp_path):
    bare = dict.fromkeys(
        ("host", "data", "splits", "search", "cost", "anatomy", "genotype", "config", "versions")
    )
    few = {"host": {"dice_mean": 0.8}, "implanted": {"dice_mean": 0.9}}
    run = write_run(
        tmp_path / "run", leave_out=("genotype.json", "history.jsonl", "samples.npz"), scores=few, **bare
    )
    words = words_of(page_of(run))
    for expected in (
        "Scores of single cases were not recorded.",
        "no baseline was run",
        "No test images were kept with this run.",
        "The anatomy of the host was not recorded.",
        "No genotype was recorded.",
        "No history of the epochs was recorded.",
        "Cost was not measured.",
        "This run was not exported yet",
    ):
        assert expected in words


def test_an_export_without_measurements_says_so(tmp_path):
    run = write_run(tmp_path / "run", leave_out=("history.jsonl", "samples.npz"))
    words = words_of(page_of(run, export_dir=write_export(tmp_path / "export", {"target": "ort-cpu"})))
    assert "Parity was not recorded." in words
    assert "Latency was not measured." in words
    assert "No fusion pass was run." in words


def test_an_export_that_is_slower_is_called_slower(tmp_path):
    value = {**export(), "latency": {"host": {"p50": 10, "p99": 11}, "export": {"p50": 20, "p99": 30}}}
    run = write_run(tmp_path / "run", leave_out=("history.jsonl", "samples.npz"))
    words = words_of(page_of(run, export_dir=write_export(tmp_path / "export", value)))
    assert "the export is slower than PyTorch: it takes 2.00 times as long" in words


def test_one_genotype_for_each_skip_gives_a_graph_and_weights_for_each(tmp_path):
    cells = ("s0", "s1")
    value = genotype(cells)
    value["cells"]["s2"] = None
    run = write_run(tmp_path / "run", rows=history(cells, 3), leave_out=("samples.npz",), genotype=value)
    words = words_of(page_of(run))
    assert "Cell on s0" in words
    assert "No cell: this skip stays as it is." in words
    assert "none chosen" in words
    assert {"cell_s0.svg", "cell_s1.svg", "weights_s1.svg"} <= {
        path.name for path in (run / "figures").iterdir()
    }


def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    run = write_run(tmp_path / "run")
    page_of(run)
    (run / "samples.npz").unlink()
    page_of(run)
    assert not list((run / "figures").glob("case_*"))


@pytest.mark.parametrize(("dimensions", "channels"), [(1, 1), (2, 3), (2, 4), (3, 1)])
def test_signals_images_and_volumes_are_shown(tmp_path, dimensions, channels):
    run = write_run(tmp_path / "run", rows=history(epochs=1), pictures=samples(dimensions, channels))
    text = page_of(run)
    assert text.count("data:image/png;base64,") == 2
    assert ("slice with most foreground" in text) == (dimensions == 3)


def test_empty_labels_and_one_case_are_no_trouble(tmp_path):
    pictures = samples(names=("only",))
    for name in ("label_0", "host_0", "implanted_0"):
        pictures[name] = np.zeros_like(pictures[name])
    one = {"host": scores(0, 1), "implanted": scores(-0.1, 1)}
    words = words_of(
        page_of(write_run(tmp_path / "run", rows=history(epochs=1), pictures=pictures, scores=one))
    )
    assert "0 of 1 gained, 1 lost. Largest loss" in words


def test_many_cases_are_drawn_without_names(tmp_path):
    many = {"host": scores(0, 200), "implanted": scores(0.02, 200)}
    run = write_run(tmp_path / "run", leave_out=("history.jsonl", "samples.npz"), scores=many)
    assert "of 200 gained" in words_of(page_of(run))


def test_cost_is_read_when_it_is_nested_the_other_way(tmp_path):
    cost = {
        "host": {"parameters": 100, "flops": 1000, "latency": 5.0},
        "implanted": {"parameters": 90, "flops": 2000, "latency": 6.0},
    }
    run = write_run(tmp_path / "run", leave_out=("history.jsonl", "samples.npz"), cost=cost)
    words = words_of(page_of(run))
    assert "parameters 100 90 −10.0 %" in words
    assert "latency, median 5 ms 6 ms +20.0 %" in words


def test_what_comes_from_files_is_escaped(tmp_path):
    host = {"name": "<script>alert(1)</script>", "spec": "a&b"}
    run = write_run(tmp_path / "run", leave_out=("history.jsonl", "samples.npz"), host=host)
    text = page_of(run)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="there is no such RUN folder"):
        write_report(tmp_path / "nowhere")


def test_a_run_that_did_not_finish(tmp_path):
    with pytest.raises(RunError, match=r"no report.json: it did not finish") as caught:
        write_report(write_run(tmp_path, leave_out=("report.json",)))
    assert "--resume" in caught.value.fix


def test_an_export_folder_without_its_record(tmp_path):
    run = write_run(tmp_path / "run", leave_out=("samples.npz",))
    with pytest.raises(RunError, match=r"the export has no export.json"):
        write_report(run, tmp_path)


def test_a_report_that_lacks_what_is_needed(tmp_path):
    run = write_run(tmp_path / "run", gain={"low": 0.1}, verdict=None)
    with pytest.raises(RunError, match=r"says nothing of gain.dice_mean, gain.high, verdict"):
        write_report(run)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("report.json", "{", "report.json cannot be read: Expecting"),
        ("report.json", "[]", "report.json holds no JSON object"),
        ("genotype.json", "nonsense", "genotype.json cannot be read"),
        ("genotype.json", '{"cells": {"shared": {"edges": [1]}}, "states": 1}', "cannot be drawn: TypeError"),
        ("history.jsonl", '{"phase": "search", "epoch": 0}\n{"ph', "line 2 of history.jsonl cannot be read"),
        ("history.jsonl", '{"epoch": 0}', "line 1 of history.jsonl cannot be read: KeyError"),
        ("samples.npz", "no archive", "samples.npz cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, content, message):
    run = write_run(tmp_path / "run")
    (run / name).write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message) as caught:
        write_report(run)
    assert str(tmp_path) in caught.value.where
    assert caught.value.fix
    assert not (run / "report.html").exists()


def test_maps_that_do_not_fit_their_image(tmp_path):
    pictures = {**samples(), "host_1": np.zeros((3, 3), dtype=np.int16)}
    with pytest.raises(RunError, match=r"samples.npz cannot be read: case mouse1_frame0001 has an image"):
        write_report(write_run(tmp_path / "run", pictures=pictures))


def test_an_anatomy_that_is_none(tmp_path):
    run = write_run(tmp_path / "run", anatomy={**anatomy(), "skips": [{"id": "s0"}]})
    with pytest.raises(RunError, match=r"the anatomy in report.json cannot be read: KeyError"):
        write_report(run)


def test_an_unexpected_form_inside_a_section(tmp_path):
    run = write_run(tmp_path / "run", leave_out=("history.jsonl", "samples.npz"))
    broken = write_export(tmp_path / "export", {"fusion": [{"changed": 3}]})
    with pytest.raises(RunError, match="holds something unexpected: KeyError"):
        write_report(run, broken)


def test_the_fixture_is_plain_json():
    assert json.loads(json.dumps(report())) == report()
