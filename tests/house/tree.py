"""Lay `build/tree/surgeon`: symlinks that show the three folders as the one package they install as.

mypy and import-linter do not see the mapping of `[tool.setuptools.package-dir]`, so they run on this tree:

    python -m tests.house.tree
    cd build/tree && mypy --config-file ../../pyproject.toml -p surgeon
    cd build/tree && lint-imports --config ../../pyproject.toml
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "tree"


def lay_tree(tree: Path = TREE) -> Path:
    """Make the tree anew and return its folder, the one that holds `surgeon`."""
    package = tree / "surgeon"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in (ROOT / "surgeon").iterdir() if path.name != "__pycache__"}
    wanted |= {"search": ROOT / "search", "export": ROOT / "export"}
    for link in package.iterdir():
        if link.is_symlink():
            link.unlink()
    for name, target in wanted.items():
        (package / name).symlink_to(target)
    return tree


if __name__ == "__main__":
    print(lay_tree().relative_to(ROOT))
