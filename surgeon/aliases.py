"""Imports by name of what lies in somebody's repository: `importlib.import_module("models.net")`.

The modules of a repository live under a private prefix (`surgeon.repository`), and an `import` in one of them
is answered from there. What asks by name, such as importlib, a registry, hydra or pickle, does not pass that
way. While code of the repository runs, a name that nothing else answers is answered here with the module
under the prefix itself, so that there are never two of it; afterwards nobody sees it by that name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from types import ModuleType
from typing import Any, Protocol

PREFIX = "surgeon_host_"
"""The names of all private packages begin with it."""


class Repository(Protocol):
    """What names are asked of."""

    @property
    def prefix(self) -> str:
        """Name of the package that its modules live in."""

    def owns(self, top: str) -> bool:
        """Tell whether a module or package is the repository's own."""

    def load(self, name: str) -> ModuleType:
        """Import a module by its whole name, with the prefix where it is the repository's own."""

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Find what is installed in one of its folders."""


@contextmanager
def answering(repository: Repository) -> Iterator[None]:
    """Answer imports by name that nothing else answers from a repository."""
    before = _aliases()
    finder = _Finder(repository)
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path[:] = [one for one in sys.meta_path if one is not finder]
        for name in _aliases() - before:
            del sys.modules[name]


def _aliases() -> set[str]:
    return {name for name, module in list(sys.modules.items()) if _is_alias(name, module)}


def _is_alias(name: str, module: ModuleType | None) -> bool:
    return not name.startswith(PREFIX) and str(getattr(module, "__name__", "")).startswith(PREFIX)


def find_elsewhere(top: str) -> ModuleSpec | None:
    """Return where a module or package comes from that is found without a repository."""
    module = sys.modules.get(top)
    if module is not None and not _is_alias(top, module):
        return getattr(module, "__spec__", None)
    finders = (one for one in sys.meta_path if not isinstance(one, _Finder) and hasattr(one, "find_spec"))
    try:
        return next(filter(None, (finder.find_spec(top, None) for finder in finders)), None)
    except (ImportError, ValueError):
        return None


class _Finder:
    """Finds what is the repository's own and nobody else's.

    What is in a package that was answered is answered too, before Python reads its file again.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: Any = None
    ) -> ModuleSpec | None:
        """Find a module; part of the protocol of `sys.meta_path`."""
        parent, _, leaf = name.rpartition(".")
        if not parent:
            private = f"{self._repository.prefix}.{name}" if self._is_free(name) else ""
        else:
            package = sys.modules.get(parent)
            private = f"{package.__name__}.{leaf}" if package and _is_alias(parent, package) else ""
        return ModuleSpec(name, _Same(self._repository, private)) if private else None  # type: ignore[arg-type]

    def find_distributions(self, context: DistributionFinder.Context) -> Iterable[Distribution]:
        """Find an installed package; part of what `importlib.metadata` asks of `sys.meta_path`."""
        return self._repository.find_distributions(context)

    def _is_free(self, top: str) -> bool:
        return not top.startswith(PREFIX) and find_elsewhere(top) is None and self._repository.owns(top)


class _Same:
    """Loads nothing twice: gives the module under the prefix."""

    def __init__(self, repository: Repository, private: str) -> None:
        self._repository, self._private = repository, private

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module, imported where it is not yet."""
        try:
            module = self._repository.load(self._private)
        except ModuleNotFoundError as error:
            if error.name != self._private:
                raise
            raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name) from None
        self._own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it was before it got a second name."""
        module.__spec__ = self._own
