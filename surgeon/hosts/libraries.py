"""Libraries that only some forms of host need, imported when they are needed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from surgeon.errors import HostError


def require(name: str, where: str) -> ModuleType:
    """Import a library of the extra `hosts`.

    Raises:
        HostError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise HostError(
            f"this host needs the library {name.partition('.')[0]}: {error}",
            where=where,
            fix="pip install 'unet-surgeon[hosts]'" if name != "transformers" else "pip install transformers",
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object of a host's folder.

    Raises:
        HostError: the file is missing, or is not a JSON object.
    """
    if not file.is_file():
        raise HostError(f"the folder has no {file.name}", where=str(file), fix="give the whole folder")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HostError(f"{file.name} is not JSON: {error}", where=str(file)) from error
    if not isinstance(content, dict):
        raise HostError(f"{file.name} is not a JSON object", where=str(file))
    return content
