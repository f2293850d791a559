"""The U of a host drawn with lines of text: encoder on the left, decoder on the right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from .plan import AnatomyLike, Link, Plan, plan_of
from .tables import KIND_STYLES

_NARROWEST, _WIDEST = 36, 110
_ROWS_A_LEVEL = 10  # a level with more skips than that says how many it leaves out
_TRUNK = "bold"
_ASCII = str.maketrans("│├┤╰╯╭╮─╌●▶▼▲×→…", "|++++++--o>v^x>~")


@dataclass(frozen=True, slots=True)
class UDrawing:
    """A drawing that fits itself to the console it is printed on; `str()` gives it 80 columns wide."""

    plan: Plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw at the width of the console."""
        yield self.text(options.max_width, ascii_only=options.ascii_only)

    def __str__(self) -> str:
        return self.text(80).plain

    def text(self, width: int, *, ascii_only: bool = False) -> Text:
        """Draw at a width in columns, with plain ASCII where nothing else can be shown."""
        lines = list(_lines(self.plan, max(_NARROWEST, min(width, _WIDEST))))
        drawing = Text("\n", no_wrap=True, overflow="crop").join(lines)
        if ascii_only:
            drawing.plain = drawing.plain.translate(_ASCII)
        return drawing


def draw_u(anatomy: AnatomyLike) -> UDrawing:
    """Draw the U of a host for a terminal.

    Each skip is a line at its level, from the encoder (left) into the decoder (right), with its id,
    channels, size and merge; a dashed line takes no cell.

    Args:
        anatomy: an `Anatomy` or its `to_dict()`.
    """
    return UDrawing(plan_of(anatomy))


def _lines(plan: Plan, width: int) -> Iterator[Text]:
    margin = max((len(_stride_label(level)) for level in plan.levels), default=0) + 1
    inner = width - margin
    step = _step(len(plan.levels), inner)
    yield _ends(_pad("", margin), _shapes("input", plan.inputs), _shapes("output", plan.outputs), inner)
    yield _ends(_pad("", margin), "▼", "▲", inner)
    for depth, level in enumerate(plan.levels):
        if depth and step:
            yield _corner(margin, step, depth, inner)
        for row, link in enumerate(level[:_ROWS_A_LEVEL]):
            label = _stride_label(level) if row == 0 else ""
            yield _row(_pad(label, margin), step * depth, _link_line(link, inner - 2 * step * depth - 2))
        if len(level) > _ROWS_A_LEVEL:
            hidden = f" … {len(level) - _ROWS_A_LEVEL} more at this level"
            span = inner - 2 * step * depth - 2
            yield _row(_pad("", margin), step * depth, Text(hidden[:span].ljust(span), style="dim"))
    yield _bottom(margin, step * max(len(plan.levels) - 1, 0), inner, bool(plan.levels))


def _step(levels: int, inner: int) -> int:
    """Columns by which each level is indented: as many as leave the deepest one room for its label."""
    room = (inner - 28) // 2
    return max(0, min(3, room // max(levels - 1, 1)))


def _stride_label(level: tuple[Link, ...]) -> str:
    return f"/{level[0].stride}" if level[0].stride else ""


def _shapes(name: str, shapes: tuple[str, ...]) -> str:
    more = f" +{len(shapes) - 1}" if len(shapes) > 1 else ""
    return f"{name} {shapes[0]}{more}" if shapes else name


def _pad(label: str, margin: int) -> Text:
    return Text(label.ljust(margin), style="dim")


def _ends(head: Text, left: str, right: str, inner: int) -> Text:
    if len(left) + len(right) + 1 > inner:
        left, right = left.partition(" ")[0], right.partition(" ")[0]
    return Text.assemble(head, left, " " * (inner - len(left) - len(right)), right)


def _row(head: Text, indent: int, middle: Text) -> Text:
    return Text.assemble(head, " " * indent, ("├", _TRUNK), middle, ("┤", _TRUNK))


def _corner(margin: int, step: int, depth: int, inner: int) -> Text:
    outer = step * (depth - 1)
    bar = "─" * (step - 1)
    gap = inner - 2 * outer - 2 * (step + 1)
    return Text.assemble(" " * (margin + outer), (f"╰{bar}╮", _TRUNK), " " * gap, (f"╭{bar}╯", _TRUNK))


def _bottom(margin: int, indent: int, inner: int, has_skips: bool) -> Text:
    name = " bottleneck " if has_skips else " no skips found "
    return Text.assemble(" " * (margin + indent), (f"╰{name:─^{inner - 2 * indent - 2}}╯", _TRUNK))


def _link_line(link: Link, span: int) -> Text:
    """Draw one skip in `span` columns, leaving out the least telling words first."""
    style = KIND_STYLES.get(link.kind, "")
    dash = "─" if link.implantable else "╌"
    words = [f"{link.channels} ch", f"{link.source_size} → {link.size}" if link.source_size else link.size]
    words += [link.kind] if link.kind != "skip" else []
    words += ["no cell"] if not link.implantable else []
    while words and len(link.id) + sum(len(word) + 4 for word in words) + len(link.merge) + 8 > span:
        words.pop()
    left = Text.assemble((f"{dash}● ", style), (link.id, f"bold {style}"), " ")
    for word in words:
        left.append(f"{dash}{dash} ", style=style).append(f"{word} ")
    right = Text.assemble(" ", link.merge, " ", (f"{dash}▶", style))
    fill = max(0, span - len(left.plain) - len(right.plain))
    return Text.assemble(left, (dash * fill, style), right)
