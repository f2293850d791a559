"""Folders that appear whole: written aside, moved at the end, `export.json` last."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from surgeon.errors import InputError

# In the order they are moved: whoever finds the last one finds them all.
_FILES = ("model.onnx", "triton", "export.json")


def check_name(name: str) -> str:
    """Return a model name that can be a folder of a model repository.

    Raises:
        InputError: it cannot.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        return name
    raise InputError(
        f"a model cannot be called {name!r}",
        where="name",
        fix="use letters, digits, '_', '-' and '.', a letter or digit first",
    )


def check_folder(folder: Path) -> Path:
    """Return a folder that can be written to, as an absolute path.

    Raises:
        InputError: it, or a folder above it, is a file.
    """
    folder = folder.absolute()
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise InputError(
                f"{path} is a file, not a folder", where="out_dir", fix="give a folder, new or existing"
            )
    return folder


@contextlib.contextmanager
def placed_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder whose content takes its place in `folder` when the block ends without an error.

    A former export in `folder` stays as it is until then; other files in it are never touched.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise InputError(
            f"the folder cannot be written to: {error.strerror}", where=str(folder), fix="choose another one"
        ) from error
    try:
        yield part
        part.chmod(0o755)
        _move(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move(part: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in reversed(_FILES):
        _remove(folder / name)
    for name in _FILES:
        if (part / name).exists():
            (part / name).replace(folder / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
