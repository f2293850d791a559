"""What was typed, read."""

from __future__ import annotations

from typing import Any

import pytest

from surgeon.cli.values import parse_arguments, parse_literal, parse_names, parse_shape
from surgeon.errors import InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("2,2", (2, 2)),
        ("(16, 32)", (16, 32)),
        ("[1, 2]", [1, 2]),
        ('{"kernel": 3}', {"kernel": 3}),
        ("{'kernel': 3}", {"kernel": 3}),
        ('"7"', "7"),
        ("instance", "instance"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_value_is_read_as_json_or_python_or_else_as_text(text: str, value: Any) -> None:
    read = parse_literal(text)
    assert read == value
    assert type(read) is type(value)


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_arguments(["norm=group=8"]) == {"norm": "group=8"}


@pytest.mark.parametrize("pair", ["in_channels", "=1", "in-channels=1"])
def test_an_argument_without_a_name_is_refused(pair: str) -> None:
    with pytest.raises(InputError, match=f"'{pair}' is not K=V"):
        parse_arguments([pair])


def test_an_argument_is_given_once() -> None:
    with pytest.raises(InputError, match="the argument 'a' is given twice"):
        parse_arguments(["a=1", "a=2"])


@pytest.mark.parametrize("text", ["1,1,64,64", "1, 1, 64, 64", "(1,1,64,64)"])
def test_a_shape_is_whole_numbers_with_commas(text: str) -> None:
    assert parse_shape(text) == (1, 1, 64, 64)


@pytest.mark.parametrize("text", ["", "1,,2", "1,x", "1,0,8", "1,-1,8", "1x1x64", "1.5,2"])
def test_anything_else_is_no_shape(text: str) -> None:
    with pytest.raises(InputError, match="is not a shape"):
        parse_shape(text)


def test_names_are_split_at_commas() -> None:
    assert parse_names("s0, s1,") == ("s0", "s1")
    assert parse_names(None) is None
