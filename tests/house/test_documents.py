"""What the documents say is so: code runs, options exist, files are where they are said to be."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from surgeon.cli.app import app, spread_repeated
from tests.house.tree import ROOT

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def surgeon_lines() -> list[tuple[str, str]]:
    """Return every line of a console block that calls the command, with its document."""
    lines = [
        (name, line) for name in DOCUMENTS for block in blocks(name, "console") for line in block.splitlines()
    ]
    return [
        (name, line[line.index("surgeon ") :]) for name, line in lines if re.search(r"(^|/)surgeon ", line)
    ]


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_the_python_code_of_the_readme_runs_and_says_what_is_written(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    promised = re.findall(r"^print\(.*\)\n((?:# .*\n)+)", code, flags=re.MULTILINE)
    written = [re.sub(r"^# ", "", lines, flags=re.MULTILINE) for lines in promised]
    assert written
    assert capsys.readouterr().out == "".join(written)


def test_the_readme_calls_the_command() -> None:
    assert len(surgeon_lines()) >= 9


@pytest.mark.parametrize(("document", "line"), surgeon_lines())
def test_every_option_in_the_documents_exists(document: str, line: str) -> None:
    words = shlex.split(line.replace("[", " ").replace("]", " ").replace("|", " | "))
    command = COMMANDS[words[1]]
    known = {name for parameter in command.params for name in getattr(parameter, "opts", ())}
    assert {word for word in words if word.startswith("--")} <= known, document


@pytest.mark.parametrize("line", [line for _, line in surgeon_lines() if "[" not in line and "|" not in line])
def test_every_example_in_the_documents_parses(line: str) -> None:
    words = list(spread_repeated(shlex.split(line)[1:]))
    context = COMMANDS[words[0]].make_context(words[0], words[1:])
    assert isinstance(context, object)
    assert typer


def test_every_option_of_a_command_is_explained() -> None:
    for name, command in COMMANDS.items():
        assert command.help, name
        assert all(getattr(parameter, "help", "x") for parameter in command.params), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_architecture_names_modules_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:surgeon|search|export|tests|benchmarks|examples)/[\w./]*)`", text)
    assert len(named) >= 10
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_gate_is_a_bash_script_that_stops_at_the_first_error() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash")
    assert "set -euo pipefail" in text
