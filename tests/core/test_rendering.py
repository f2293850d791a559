"""Numbers in words, and errors on a console."""

import io

import pytest
from rich.console import Console

from surgeon.errors import GateError, InputError, Stopped
from surgeon.rendering import format_count, format_seconds, format_shape, format_stride, print_error, shorten


def printed(error, **options):
    console = Console(file=io.StringIO(), **options)
    print_error(error, console)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1234, "1.23 k"),
        (467_331, "467 k"),
        (999_900, "1 M"),
        (3.2e9, "3.2 G"),
    ],
)
def test_a_count_has_three_digits_and_a_unit(value, words):
    assert format_count(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00045, "0.45 ms"), (0.25, "250 ms"), (59.97, "1 min 0 s"), (75, "1 min 15 s"), (3599.9, "1 h 0 min")],
)
def test_a_duration_has_the_units_a_person_would_use(seconds, words):
    assert format_seconds(seconds) == words


def test_shapes_and_strides_are_short():
    assert format_shape((1, 3, 64)) == "1×3×64"
    assert format_stride((4, 4, 4)) == "4"
    assert format_stride((1, 2, 2)) == "1×2×2"


@pytest.mark.parametrize("width", range(1, 12))
def test_a_shortened_name_fits(width):
    assert len(shorten("encoder.layer", width)) == width
    assert shorten("abc", width + 2) == "abc"


def test_an_error_says_what_where_and_how_to_mend_it():
    text = printed(InputError("no such file", where="a.pt", fix="name one that exists"), width=80)
    assert text == "error: no such file\n  where: a.pt\n  fix: name one that exists\n"


def test_what_is_empty_is_not_printed():
    assert printed(GateError("outputs differ"), width=80) == "refused: outputs differ\n"
    assert printed(Stopped("stopped at epoch 3"), width=80).startswith("stopped: ")


def test_lines_stay_whole_where_nobody_looks_at_a_terminal():
    assert "word " * 40 in printed(InputError("word " * 40), width=40)


def test_a_terminal_gets_colours_and_a_hanging_indent(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = printed(InputError("word " * 20, fix="f"), width=40, force_terminal=True, color_system="standard")
    assert "\x1b[1;31merror" in text
    assert "\n       " in text


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(InputError("what"), width=40, force_terminal=True, color_system="standard")
    assert "\x1b[31" not in text
    assert ";31m" not in text


def test_brackets_in_a_message_are_not_taken_for_markup():
    assert "[/red] [bold]x" in printed(InputError("[/red] [bold]x"), width=80)
    assert "[/red] [bold]x" in printed(
        InputError("[/red] [bold]x"), width=80, force_terminal=True, no_color=True
    )
