"""Every example in a docstring runs, by the names the modules are installed under."""

from __future__ import annotations

import doctest
import importlib

import pytest

from .test_package import all_modules


@pytest.mark.parametrize("name", all_modules())
def test_the_examples_of_a_module_are_true(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.failed == 0
