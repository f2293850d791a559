import dataclasses
from pathlib import Path

import pytest
from surgeon.export import TARGETS, Precision
from surgeon.export.targets import find_precision, find_target

from surgeon.errors import InputError


def test_the_four_targets_have_a_reason_each():
    assert [target.name for target in TARGETS] == ["ort-cpu", "ort-cuda", "ort-tensorrt", "triton"]
    assert all(target.why and target.opset >= 18 for target in TARGETS)


def test_a_target_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TARGETS[0].opset = 1


def test_an_unknown_target_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"no export target is called 'tpu'\n.*\n.*ort-cpu, ort-cuda"):
        find_target("tpu")


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(InputError, match=r"no precision is called 'fp8'\n.*\n.*fp32, fp16"):
        find_precision("fp8")
    assert find_precision("fp16") is Precision.FP16


def test_the_search_of_cudnn_follows_the_sizes():
    target = find_target("ort-cuda")
    assert target.provider_options(free_sizes=True)[0] == {"cudnn_conv_algo_search": "HEURISTIC"}
    assert target.provider_options(free_sizes=False)[0] == {"cudnn_conv_algo_search": "EXHAUSTIVE"}
    assert find_target("ort-tensorrt").provider_options(free_sizes=True)[0]["trt_engine_cache_enable"] == "1"


def test_the_readme_says_of_every_target_what_the_code_does():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Where an export runs")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in section.splitlines() if "| `" in row]
    table = {row[0].strip("`"): row for row in rows}
    assert list(table) == [target.name for target in TARGETS]
    for target in TARGETS:
        _, opset, _, _, providers, options, _ = table[target.name]
        assert int(opset.partition(";")[0]) == target.opset
        assert [name.strip(" `") for name in providers.split(",")] == list(target.providers)
        for name in target.provider_options(free_sizes=True)[0] if target.name != "triton" else ():
            assert f"`{name}`" in options
