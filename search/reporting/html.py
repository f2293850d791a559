"""Small pieces of HTML: everything that comes from a file is escaped here."""

from __future__ import annotations

import base64
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from surgeon.figures.canvas import INK, LINE, MUTED, PAPER, SOFT

# The colours of a figure that follow the reader's light or dark theme.
_THEMED = {INK: "--ink", MUTED: "--muted", LINE: "--line", SOFT: "--soft", PAPER: "--card"}


@dataclass(frozen=True, slots=True)
class Html:
    """Text that is HTML already; any other text is escaped."""

    text: str

    def __str__(self) -> str:
        return self.text


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Build an element; a trailing underscore in an attribute's name falls away."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """Put pieces one after another, escaping what is not HTML yet."""
    return Html("".join(child.text if isinstance(child, Html) else escape(str(child)) for child in children))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, text_columns: int = 1) -> Html:
    """Build a table that scrolls by itself when it is wider than the page.

    Args:
        head: names of the columns.
        rows: cells; the columns after the first `text_columns` are numbers, set to the right.
        text_columns: how many columns are words.
    """

    def cell(name: str, index: int, value: object) -> Html:
        return tag(name, value, class_="words" if index < text_columns else "number")

    body = [tag("tr", *(cell("td", i, value) for i, value in enumerate(row))) for row in rows]
    heading = tag("tr", *(cell("th", i, value) for i, value in enumerate(head)))
    return tag("div", tag("table", tag("thead", heading), tag("tbody", *body)), class_="scroll")


def facts(rows: Iterable[tuple[object, object]]) -> Html:
    """Build a list of names and values; empty values are left out."""
    pairs = [join((tag("dt", name), tag("dd", value))) for name, value in rows if str(value)]
    return tag("dl", *pairs)


def paragraph(*children: object, **attributes: object) -> Html:
    """Build a paragraph."""
    return tag("p", *children, **attributes)


def absent(sentence: str) -> Html:
    """Say in one sentence what is not there."""
    return paragraph(sentence, class_="absent")


def details(summary: object, *children: object, is_open: bool = False) -> Html:
    """Build a part that folds away."""
    content = join((tag("summary", summary), *children))
    return Html(f"<details{' open' if is_open else ''}>{content}</details>")


def inline_svg(content: bytes, label: str, prefix: str) -> Html:
    """Put an SVG figure into the page: own names, colours that follow the theme.

    Args:
        content: the bytes of the file.
        label: what it shows, for who cannot see it.
        prefix: goes before each id, since ids are shared by all figures of a page.
    """
    text = content.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'((?:xlink:)?href)="#', rf'\1="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    for colour, variable in _THEMED.items():
        text = text.replace(f": {colour}", f": var({variable})")
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    return Html(text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))


def inline_png(content: bytes, label: str) -> Html:
    """Put a PNG into the page."""
    data = base64.b64encode(content).decode("ascii")
    return Html(f'<img alt="{escape(label)}" src="data:image/png;base64,{data}">')


def figure(picture: Html, caption: object = "") -> Html:
    """Build a figure with its caption."""
    return tag("figure", picture, *([tag("figcaption", caption)] if str(caption) else []))


def number(value: Any, digits: int = 3, *, signed: bool = False) -> str:
    """Write a number with fixed digits; a dash for what is missing or no number."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def sentence(parts: Iterable[object]) -> str:
    """Join what is not empty with middle dots."""
    return "  ·  ".join(itertools.filterfalse(lambda part: not part, map(str, parts)))
