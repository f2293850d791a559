"""Python files of somebody's repository, imported as a package of their own.

A repository's `utils.py`, `search.py` or `export.py` must neither hide an installed module of that name nor
be hidden by it. So its modules live in `sys.modules` under a private prefix, and an `import utils` in one of
them is answered from the repository first. `sys.path` stays as it is, and imports inside functions that run
later are answered in the same way, from what a file put on `sys.path` too; imports by name are answered by
`surgeon.aliases`. A folder of installed packages (`pip install --target`) that a file puts on `sys.path` is
left at its end: such packages keep their names, which some of them know themselves by.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec, PathFinder, SourceFileLoader
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from .aliases import PREFIX, answering, find_elsewhere


def local_file(name: str) -> Path | None:
    """Return the file below the working directory that a module's name means.

    Args:
        name: such as `models.net`.

    Returns:
        the file; None where there is none, or where the very module is installed, which goes first.
    """
    place = Path.cwd().joinpath(*name.split("."))
    files = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    file = next((file for file in files if file.is_file()), None)
    return None if file is None or _is_installed(name) else file


def _is_installed(name: str) -> bool:
    """Whether a module can be imported, told without importing the packages it is in."""
    top, *inner = name.split(".")
    spec = find_elsewhere(top)
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return spec is not None


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
    prefix = f"{PREFIX}{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    for name in [name for name in sys.modules if name.partition(".")[0] == prefix]:
        del sys.modules[name]
    package = ModuleType(prefix, "The files of a repository.")
    package.__path__ = folders
    sys.modules[prefix] = package
    repository = _Repository(prefix, folders, _folders_above(root))
    _repositories[prefix] = repository
    path_before = list(sys.path)
    try:
        with answering(repository):
            return repository.load(".".join((prefix, *parts)))
    finally:
        added = [folder for folder in sys.path if folder not in path_before]
        packages = [folder for folder in added if _holds_packages(Path(folder))]
        repository.search_also(folder for folder in added if folder not in packages)
        sys.path[:] = [*path_before, *packages]


# How many folders above a file are searched for what it imports.
_HIGHEST = 4
_repositories: dict[str, _Repository] = {}  # by prefix
_OF_PACKAGES = ("site-packages", "dist-packages")


@contextmanager
def running(module: ModuleType | None) -> Iterator[None]:
    """Let functions of a module import by name what lies in its repository while they run.

    Args:
        module: from `import_file`; nothing changes for one that is from elsewhere.
    """
    repository = _repositories.get(getattr(module, "__name__", "").partition(".")[0])
    with nullcontext() if repository is None else answering(repository):
        yield


class _Repository:
    """The folders of a repository, and the `__import__` its modules see."""

    def __init__(self, prefix: str, folders: list[str], above: Sequence[Path]) -> None:
        self.prefix = prefix
        self._folders = folders
        self._above = above
        self._added: tuple[str, ...] = ()
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._is_own: dict[tuple[str, str], bool] = {}
        self._importlib = _Importlib(self._import_by_name)

    @contextmanager
    def found_first(self) -> Iterator[None]:
        """Let modules under the prefix be found, with this repository's `__import__` in them."""
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]
        try:
            yield
        finally:
            sys.meta_path.remove(self)  # type: ignore[arg-type]

    def search_also(self, folders: Iterable[str]) -> None:
        """Search what a file put on `sys.path` too, for the imports of its functions, which run later."""
        self._added = tuple(str(Path(folder).resolve()) for folder in folders if folder)
        self._above = (*self._above, *map(Path, self._added))
        self._is_own = {name: own for name, own in self._is_own.items() if own}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: Any = None
    ) -> ModuleSpec | None:
        """Find a module under the prefix; part of the protocol of `sys.meta_path`."""
        if not name.startswith(f"{self.prefix}."):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        return spec

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Find what is installed in a folder that a file put on `sys.path`: packages ask their version."""
        return MetadataPathFinder.find_distributions(
            DistributionFinder.Context(name=context.name, path=list(self._added))
        )

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if name.partition(".")[0] == "importlib" and not level:
            found = builtins.__import__(name, globals, locals, fromlist or (), level)
            return self._importlib if found is importlib else found
        with self.found_first():
            if level or not self.owns(*_first_parts(name, fromlist or ())):
                return builtins.__import__(name, globals, locals, fromlist or (), level)
            leaf = f"{self.prefix}.{name}"
            if fromlist:
                return builtins.__import__(leaf, globals, locals, fromlist, 0)
            importlib.import_module(leaf)
            return sys.modules[f"{self.prefix}.{name.partition('.')[0]}"]

    def _import_by_name(self, name: str, package: str | None = None) -> ModuleType:
        """Import as `importlib.import_module` does, what is the repository's own first."""
        whole = importlib.util.resolve_name(name, package) if name.startswith(".") else name
        top, *inner = whole.split(".")
        own = self.owns(top, next(iter(inner), ""))
        return self.load(f"{self.prefix}.{whole}" if own else whole)

    def load(self, name: str) -> ModuleType:
        """Import a module by its whole name, with the prefix where it is the repository's own."""
        with self.found_first():
            return importlib.import_module(name)

    def owns(self, top: str, inner: str = "") -> bool:
        """Tell whether a module or package is the repository's own.

        Args:
            top: its name.
            inner: what is wanted of it; empty for the whole.
        """
        if (top, inner) not in self._is_own:
            self._is_own[top, inner] = self._look(top, inner)
        return self._is_own[top, inner]

    def _look(self, top: str, inner: str) -> bool:
        if top in sys.stdlib_module_names or top == "surgeon":
            return False
        other = find_elsewhere(top)
        if any(_offers(Path(folder), top, inner, other) for folder in self._folders):
            return True
        # `models/net.py` is written to be run from the folder above, which then comes first on sys.path.
        above = next((folder for folder in self._above if _offers(folder, top, inner, other)), None)
        if above is None or (other is not None and other.origin == str(_module_in(above, top))):
            return False
        self._folders.append(str(above))
        return True


def _offers(folder: Path, top: str, inner: str, other: ModuleSpec | None) -> bool:
    """Whether Python would take a module from this folder before what is installed or imported.

    Args:
        folder: searched first.
        top: the name of the module or package.
        inner: what is wanted of it; may be empty.
        other: what else is called so.
    """
    if _holds_packages(folder):
        return False
    if _module_in(folder, top):
        return True
    # A folder without __init__.py, such as the clone of a repository that is called like its package, is
    # meant where it has what is wanted. It comes after a package that has it, and beside folders.
    place = folder / top / inner
    has_it = place.is_dir() or place.with_name(f"{inner}.py").is_file()
    free = other is None or other.origin is None
    return has_it and (free or (inner != "" and not _is_installed(f"{top}.{inner}")))


@functools.cache
def _holds_packages(folder: Path) -> bool:
    """Whether packages are installed in a folder, which are never a repository's own."""
    return folder.name in _OF_PACKAGES or any(folder.glob("*.dist-info"))


def _module_in(folder: Path, top: str) -> Path | None:
    # Compiled ones too: what `setup.py build_ext --inplace` puts beside the files that use it.
    suffixes = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)
    files = (folder / top / "__init__.py", *(folder / f"{top}{suffix}" for suffix in suffixes))
    return next((file for file in files if file.is_file()), None)


def _first_parts(name: str, fromlist: Sequence[str]) -> tuple[str, str]:
    """Return the package that is imported from, and the first name in it that is wanted, or nothing."""
    top, *inner = name.split(".")
    return top, next(iter((*inner, *fromlist)), "")


def _folders_above(root: Path) -> tuple[Path, ...]:
    """Return the folders above a file's own, up to that of its repository where it is one of git."""
    folders = (root, *root.parents)[: _HIGHEST + 1]
    end = next((at for at, folder in enumerate(folders) if (folder / ".git").exists()), len(folders))
    return tuple(folder for folder in folders[1 : end + 1] if folder != folder.parent)


class _Importlib(ModuleType):
    """What a repository's modules see as importlib."""

    def __init__(self, import_module: Callable[..., ModuleType]) -> None:
        super().__init__("importlib", importlib.__doc__)
        self.import_module = import_module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib, name)


class _Loader(SourceFileLoader):
    """Loads a module of a repository with the repository's own `__import__`."""

    def __init__(self, name: str, path: str, names: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._names = names

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        module.__dict__["__builtins__"] = self._names
        super().exec_module(module)
