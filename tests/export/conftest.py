"""What the tests of exports share: torch's table of translations, read once."""

from __future__ import annotations

import functools

import pytest
from torch.onnx._internal.exporter import _registration


@pytest.fixture(scope="session", autouse=True)
def _translations_read_once():
    """Spare the half second in which torch reads the source of all its translations again for each file."""
    made = _registration.onnxscript_apis
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "get_torchlib_ops", functools.cache(made.get_torchlib_ops))
        yield
