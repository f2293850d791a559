"""Streams, exit codes and what is said when something goes wrong."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest

from surgeon.cli.answer import Answer

from .conftest import TINY, Cli


def test_what_a_network_prints_stays_out_of_the_result(cli: Cli) -> None:
    done = cli("inspect", f"{TINY}:build_noisy", "--json")
    assert done.code == 0
    assert done.json["skips"]
    assert "loading the best model ever" in done.err


def test_an_unforeseen_error_of_the_network_is_one_clear_error(cli: Cli) -> None:
    done = cli("inspect", f"{TINY}:build_failing")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert "a learning rate of 1/0" in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 3


def test_an_error_from_anywhere_is_one_clear_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RecursionError("deep\nin a library")

    monkeypatch.setattr("surgeon.skips.inspect", fail)
    done = cli("inspect", f"{TINY}:build")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "error: RecursionError: deep",
        "  where: unexpected, outside of what surgeon checks",
        "  fix: repeat with --traceback to see where it came from",
    ]


def test_traceback_shows_where_it_came_from(cli: Cli) -> None:
    done = cli("inspect", f"{TINY}:build_failing", "--traceback")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert "in build_failing" in done.err


def test_a_stop_by_the_user_is_130(cli: Cli) -> None:
    done = cli("inspect", f"{TINY}:build_interrupted")
    assert (done.code, done.out) == (130, "")
    assert done.err == "stopped: stopped by the user\n"


def test_warnings_of_libraries_are_not_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from surgeon.cli import hosting

    opened = hosting.HostRequest.open

    def warn(request: hosting.HostRequest) -> object:
        warnings.warn("deprecated in a library", DeprecationWarning, stacklevel=1)
        return opened(request)

    monkeypatch.setattr(hosting.HostRequest, "open", warn)
    done = cli("inspect", f"{TINY}:build")
    assert done.code == 0
    assert "deprecated" not in done.err


def test_wrong_usage_is_2(cli: Cli, tmp_path: Path) -> None:
    for words in (
        ["inspect"],
        ["inspect", "a", "--nonsense"],
        ["nonsense"],
        ["implant", "a", "--out", tmp_path],
    ):
        done = cli(*words)
        assert (done.code, done.out) == (2, "")
        assert "Usage" in done.err


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == "surgeon 0.1.0\n"


def test_an_option_may_be_followed_by_several_values(cli: Cli, tiny: str) -> None:
    together = cli("inspect", tiny, "--arg", "in_channels=3", "width=8", "--input", "1,3,32,32", "--json")
    repeated = cli(
        "inspect", tiny, "--arg", "in_channels=3", "--arg", "width=8", "--input", "1,3,32,32", "--json"
    )
    assert together.code == 0
    assert together.json == repeated.json
    assert together.json["input_shapes"] == [[1, 3, 32, 32]]
    assert together.json["skips"][0]["merge_shape"] == [1, 8, 32, 32]


def test_each_part_of_a_result_is_on_lines_of_its_own() -> None:
    output = io.StringIO()
    Answer(output, io.StringIO()).say("took 3 min", "verdict: [bold]improved[/]", "")
    assert output.getvalue() == "took 3 min\nverdict: improved\n\n"
