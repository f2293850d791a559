"""What is installed: every module, the demo's frames, the public names, and no torch at import."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import surgeon
from tests.house.tree import ROOT

FOLDERS = {"surgeon": "surgeon", "search": "surgeon/search", "export": "surgeon/export"}
HEAVY = ("torch", "numpy", "monai", "onnx", "onnxruntime", "matplotlib", "nibabel")


def source_files(pattern: str) -> set[str]:
    """Return the files of the source tree, under the names they are installed by."""
    return {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in FOLDERS.items()
        for path in (ROOT / folder).rglob(pattern)
        if path.is_file()
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that no leftover of an older build can fill a gap."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        held = set(content.namelist())
    assert source_files("*.py") - held == set()
    assert {name for name in held if name.endswith(".py")} - source_files("*.py") == set()


def test_the_frames_of_the_demo_are_in_the_wheel_with_their_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        held = set(content.namelist())
    frames = source_files("*.png")
    assert len(frames) == 64
    assert frames <= held
    assert {"surgeon/data/pupil/LICENSE", "surgeon/data/pupil/provenance.csv", "surgeon/py.typed"} <= held


def test_the_wheel_installs_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        tops = {name.split("/")[0] for name in content.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"surgeon"}


def test_the_list_of_packages_is_complete() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = config["tool"]["setuptools"]["packages"]
    found = {name.removesuffix("/__init__.py").replace("/", ".") for name in source_files("__init__.py")}
    assert sorted(listed) == sorted(found)


def test_the_version_is_written_once_in_each_place() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert config["project"]["version"] == surgeon.__version__
    assert f"## [{surgeon.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def all_modules() -> list[str]:
    """Return the name of every module, `surgeon.search` and `surgeon.export` included."""
    names = [name.removesuffix(".py").replace("/", ".") for name in source_files("*.py")]
    return sorted(name.removesuffix(".__init__") for name in names if not name.endswith("__main__"))


@pytest.mark.parametrize("name", all_modules())
def test_every_module_imports_and_has_the_names_it_promises(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert getattr(module, public, None) is not None, f"{name}.{public}"


def test_the_public_names_of_the_package() -> None:
    assert sorted(surgeon.__all__) == surgeon.__all__ == dir(surgeon)
    assert {"load", "inspect", "splice", "search", "export", "trace"} <= set(surgeon.__all__)
    assert callable(surgeon.search.implant)
    assert callable(surgeon.search.load_implant)
    assert callable(surgeon.export.to_onnx)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'surgeon' has no attribute 'implants'"):
        surgeon.implants  # noqa: B018


def test_top_level_search_and_export_are_not_installed() -> None:
    names = {module.name for module in pkgutil.iter_modules() if "site-packages" in str(module.module_finder)}
    assert not {"search", "export"} & names


def loaded_by(code: str) -> set[str]:
    """Return which of the heavy modules a fresh interpreter holds after `code`."""
    report = f"\nimport sys; print('HELD', *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stderr.split("HELD", 1)[1].split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_by("import surgeon") == set()


@pytest.mark.parametrize("command", ["", "inspect", "implant", "export", "evaluate", "demo"])
def test_help_imports_nothing_heavy(command: str) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    ask = (
        f"from surgeon.cli import main\ntry:\n    main({arguments!r})\n"
        "except SystemExit as end:\n    assert not end.code"
    )
    assert loaded_by(ask) == set()


def test_help_answers_in_half_a_second_of_processor_time() -> None:
    ask = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'surgeon', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)"
    )
    runs = (
        subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
        for _ in range(3)
    )
    assert min(float(done.stdout) for done in runs) < 0.5


@pytest.mark.slow
def test_the_tests_of_the_commands_pass_against_the_built_wheel(wheel: Path, tmp_path: Path) -> None:
    """From a folder that holds nothing but the wheel's content and the tests."""
    installed, tests = tmp_path / "installed", tmp_path / "tests"
    with zipfile.ZipFile(wheel) as content:
        content.extractall(installed)
    shutil.copytree(ROOT / "tests", tests, ignore=shutil.ignore_patterns("__pycache__", "house"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    probe = (
        "import surgeon, surgeon.export, surgeon.search as search; print(surgeon.__file__, search.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(installed), str(tmp_path)))}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    held = subprocess.run([sys.executable, "-c", probe], **options)
    assert [Path(path).is_relative_to(installed) for path in held.stdout.split()] == [True, True]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cli", "tests/core/data"]
    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
