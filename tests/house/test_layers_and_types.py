"""The static checks: formatting, lint, types and layers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT, lay_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_tree(tmp_path_factory.mktemp("tree"))


def run_tool(*arguments: str, cwd: Path = ROOT) -> str:
    """Run a tool of this environment, in the folder `cwd`, and return what it says if it fails."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    done = subprocess.run(
        arguments, cwd=cwd, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    assert run_tool("ruff", "check", "--no-cache", ".") == ""


def test_every_file_is_formatted() -> None:
    assert run_tool("ruff", "format", "--no-cache", "--check", ".") == ""


@pytest.mark.slow
def test_the_package_is_typed_strictly(tree: Path) -> None:
    config = (
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "tree"),
    )
    assert run_tool(sys.executable, "-m", "mypy", *config, "-p", "surgeon", cwd=tree) == ""


def test_imports_point_down_the_layers(tree: Path) -> None:
    config = ("--config", str(ROOT / "pyproject.toml"))
    assert run_tool("lint-imports", *config, "--no-cache", cwd=tree) == ""
