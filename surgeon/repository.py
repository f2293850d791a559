"""Python files of somebody's repository, imported as a package of their own.

A repository's `utils.py`, `search.py` or `export.py` must neither hide an installed module of that name nor
be hidden by it. So its modules live in `sys.modules` under a private prefix, and an `import utils` in one of
them is answered from the repository first. `sys.path` stays as it is, and imports inside functions that run
later are answered in the same way.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any


def local_file(name: str) -> Path | None:
    """Return the file below the working directory that a module's name means.

    Args:
        name: such as `models.net`.

    Returns:
        the file; None where there is none, or where a module of that name is installed, which goes first.
    """
    try:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return None
    except (ImportError, ValueError):
        return None
    place = Path.cwd().joinpath(*name.split("."))
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def import_file(file: Path) -> ModuleType:
    """Import a Python file with the modules beside it and those of the folders above, afresh.

    Args:
        file: where it lies. In a package (a folder with `__init__.py`) it is imported as part of it.

    Raises:
        Exception: whatever the file raises.
    """
    file = file.resolve()
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file() and root.parent != root:
        parts.insert(0, root.name)
        root = root.parent
    folders = list(dict.fromkeys((str(root), str(file.parent))))
    prefix = f"surgeon_host_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    for name in [name for name in sys.modules if name.partition(".")[0] == prefix]:
        del sys.modules[name]
    package = ModuleType(prefix, "The files of a repository.")
    package.__path__ = folders
    sys.modules[prefix] = package
    repository = _Repository(prefix, folders, tuple(root.parents)[:-1][:_HIGHEST])
    path_before = list(sys.path)
    try:
        with repository.found_first():
            return importlib.import_module(".".join((prefix, *parts)))
    finally:
        sys.path[:] = path_before


# How many folders above a file are searched for what it imports.
_HIGHEST = 4


class _Repository:
    """The folders of a repository, and the `__import__` its modules see."""

    def __init__(self, prefix: str, folders: list[str], above: Sequence[Path]) -> None:
        self._prefix = prefix
        self._folders = folders
        self._above = above
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._is_own: dict[str, bool] = {}

    @contextmanager
    def found_first(self) -> Iterator[None]:
        """Let modules under the prefix be found, with this repository's `__import__` in them."""
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]
        try:
            yield
        finally:
            sys.meta_path.remove(self)  # type: ignore[arg-type]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: Any = None
    ) -> ModuleSpec | None:
        """Find a module under the prefix; part of the protocol of `sys.meta_path`."""
        if not name.startswith(f"{self._prefix}."):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        return spec

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        with self.found_first():
            if level or not self._owns(name.partition(".")[0]):
                return builtins.__import__(name, globals, locals, fromlist or (), level)
            leaf = f"{self._prefix}.{name}"
            if fromlist:
                return builtins.__import__(leaf, globals, locals, fromlist, 0)
            importlib.import_module(leaf)
            return sys.modules[f"{self._prefix}.{name.partition('.')[0]}"]

    def _owns(self, top: str) -> bool:
        if top not in self._is_own:
            self._is_own[top] = self._look(top)
        return self._is_own[top]

    def _look(self, top: str) -> bool:
        if top in sys.stdlib_module_names or top == "surgeon":
            return False
        if any(
            (Path(f) / f"{top}.py").is_file() or (Path(f) / top / "__init__.py").is_file()
            for f in self._folders
        ):
            return True
        # A folder without __init__.py comes after every installed module, as it does on sys.path.
        plain = any((Path(folder) / top).is_dir() for folder in self._folders)
        spec = importlib.util.find_spec(top)
        # Another folder without __init__.py, which some library has put on sys.path, does not hide it.
        if plain:
            return spec is None or spec.origin is None
        return spec is None and self._reach_up(top)

    def _reach_up(self, top: str) -> bool:
        """Add the folder above that has the module: `models/net.py` is written to be run from there."""
        for folder in self._above:
            if (folder / f"{top}.py").is_file() or (folder / top).is_dir():
                self._folders.append(str(folder))
                return True
        return False


class _Loader(SourceFileLoader):
    """Loads a module of a repository with the repository's own `__import__`."""

    def __init__(self, name: str, path: str, names: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._names = names

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        module.__dict__["__builtins__"] = self._names
        super().exec_module(module)
