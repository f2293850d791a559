"""surgeon inspect."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import TINY, Cli

HPA = Path(__file__).parents[2].parent / "shared" / "data" / "nuclei" / "hpa.pt2"


def test_json_is_the_anatomy_and_nothing_else(cli: Cli, tiny: str) -> None:
    done = cli("inspect", tiny, "--input", "1,1,32,32", "--json")
    assert done.code == 0
    assert [(skip["id"], skip["merge"], skip["merge_shape"]) for skip in done.json["skips"]] == [
        ("s0", "cat", [1, 4, 32, 32])
    ]


def test_a_person_sees_the_table_and_the_u(cli: Cli, tiny: str) -> None:
    done = cli("inspect", tiny)
    assert done.code == 0
    assert "bottleneck" in done.out
    assert "s0" in done.out
    assert "cat" in done.out


def test_the_channels_of_a_guessed_input_are_those_of_the_network(cli: Cli, tiny: str) -> None:
    done = cli("inspect", tiny, "--arg", "in_channels=3", "--json")
    assert done.json["input_shapes"][0][:2] == [1, 3]


def test_what_a_forward_takes_beside_tensors_is_an_option(cli: Cli) -> None:
    modal = f"{TINY}:build_modal"
    done = cli("inspect", modal, "--input", "1,1,32,32")
    assert done.code == 2
    assert "the network takes 2 inputs, and was given 1" in done.err
    assert "--forward NAME=VALUE" in done.err
    done = cli("inspect", modal, "--forward", "inference=true", "--json")
    assert done.code == 0
    assert [skip["merge_shape"] for skip in done.json["skips"]] == [[1, 4, 64, 64]]
    done = cli("inspect", modal, "--forward", "training=true")
    assert done.code == 2
    assert "no input 'training'" in done.err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_figure_is_drawn_into_a_file(cli: Cli, tiny: str, tmp_path: Path, suffix: str) -> None:
    figure = tmp_path / f"anatomy.{suffix}"
    done = cli("inspect", tiny, "--figure", figure, "--json")
    assert done.code == 0
    assert done.json["skips"]
    assert figure.stat().st_size > 1000


def test_why_lists_what_is_no_skip(cli: Cli) -> None:
    words = ["--arg", "spatial_dims=2", "in_channels=1", "out_channels=2", "channels=4,8", "strides=2,"]
    done = cli("inspect", "monai.networks.nets:UNet", *words, "num_res_units=1", "--why")
    assert done.code == 0
    assert "why it is no skip" in done.out


@pytest.mark.skipif(not HPA.exists(), reason="the nuclei data are not here")
def test_a_network_without_code_has_four_additive_skips(cli: Cli) -> None:
    done = cli("inspect", HPA, "--json")
    assert done.code == 0
    assert [skip["merge"] for skip in done.json["skips"]] == ["add"] * 4
    assert [skip["merge_shape"][1] for skip in done.json["skips"]] == [8, 16, 32, 64]
