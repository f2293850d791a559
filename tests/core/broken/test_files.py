"""One file of a data folder spoilt in every way: one clear error that names it, before any training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from surgeon.data import open_data
from surgeon.errors import DataError
from tests.core.broken.files import DAMAGES, SUFFIXES, pairs


def tree_of(root: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize("role", ["images", "labels"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_spoilt_file_is_named_in_one_clear_error(
    damage: Callable[[Path], None], suffix: str, role: str, tmp_path: Path
) -> None:
    pairs(tmp_path, suffix)
    file = next((tmp_path / role).glob("case1.*"))
    damage(file)
    before = tree_of(tmp_path)
    if role == "images" and not file.is_file() and not file.is_symlink():
        # An image that is not there leaves two whole cases and a label too many.
        assert len(open_data(tmp_path).cases) == 2
        return
    with pytest.raises(DataError) as caught:
        open_data(tmp_path)
    message = str(caught.value)
    assert "case1" in message
    assert len(message.splitlines()) <= 3
    assert len(message) < 1000
    assert "Error(" not in message
    assert tree_of(tmp_path) == before
