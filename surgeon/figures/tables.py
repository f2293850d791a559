"""The skips of a host, and the merges that are none, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from surgeon.rendering import format_count, format_shape

from .plan import AnatomyLike, Link, plan_of

KIND_STYLES: Mapping[str, str] = {
    "skip": "cyan",
    "dense": "magenta",
    "lateral": "yellow",
    "fusion": "bright_black",
}


def anatomy_summary(anatomy: AnatomyLike) -> Table:
    """Say in a few lines what the host is, what it accepts and how it was traced.

    Args:
        anatomy: an `Anatomy` or its `to_dict()`.
    """
    plan = plan_of(anatomy)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("host", Text.assemble((plan.host, "bold"), f"  {format_count(plan.parameters)} parameters"))
    for name, value in plan.facts:
        grid.add_row(name, Text(value))
    for note in plan.notes:
        grid.add_row("note", Text(note))
    return grid


def skip_table(
    anatomy: AnatomyLike,
    *,
    cell_parameters: Mapping[str, int] | None = None,
    cell_flops: Mapping[str, int] | None = None,
) -> Table:
    """Lay out the skips of a host, highest resolution first.

    Args:
        anatomy: an `Anatomy` or its `to_dict()`.
        cell_parameters: parameters that a cell would add, by skip id.
        cell_flops: floating-point operations that a cell would add at the example's size, by skip id.
    """
    plan = plan_of(anatomy)
    table = _new_table()
    table.add_column("id", no_wrap=True)
    for name in ("level", "stride", "ch", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("merge", "kind"):
        table.add_column(name, no_wrap=True)
    table.add_column("from → into", overflow="fold", min_width=10)
    pairs = (("params", cell_parameters), ("FLOPs", cell_flops))
    costs = [(name, values) for name, values in pairs if values is not None]
    for name, _ in costs:
        table.add_column(f"cell\n{name}", justify="right", no_wrap=True)
    if not costs:
        table.add_column("implant", no_wrap=True)
    for link in plan.links:
        last: list[str | Text] = [_cost_cell(values.get(link.id)) for _, values in costs]
        last = last or [_YES if link.implantable else _NO]
        table.add_row(*_skip_cells(link), *last)
    reasons = [f"{link.id} takes no cell: {link.reason}" for link in plan.links if not link.implantable]
    table.caption = Text("\n".join(reasons), style="yellow") if reasons else None
    return table


_YES, _NO = Text("yes", style="green"), Text("no", style="yellow")


def _new_table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        header_style="bold",
        caption_justify="left",
    )


def _cost_cell(value: int | None) -> str:
    return "–" if value is None else format_count(value)


def _skip_cells(link: Link) -> list[str | Text]:
    style = KIND_STYLES.get(link.kind, "")
    return [
        Text(link.id, style=f"bold {style}"),
        str(link.level),
        link.stride,
        str(link.channels),
        f"{link.source_size} → {link.size}" if link.source_size else link.size,
        link.merge,
        Text(link.kind, style=style),
        Text.assemble(link.source or "(root)", (" → ", "dim"), link.target or "(root)"),
    ]


def refusal_table(anatomy: AnatomyLike) -> Table:
    """Lay out the merges that were considered and are not skips, each with its reason.

    Args:
        anatomy: an `Anatomy` or its `to_dict()`.
    """
    table = _new_table()
    table.add_column("merge", no_wrap=True)
    table.add_column("node", overflow="fold", min_width=8)
    table.add_column("module", overflow="fold", min_width=10)
    table.add_column("shape", no_wrap=True)
    table.add_column("why it is no skip", min_width=20)
    for refusal in plan_of(anatomy).refusals:
        module = escape(refusal["module"]) or "(root)"
        shape = format_shape(refusal["shape"])
        table.add_row(refusal["merge"], escape(refusal["node"]), module, shape, escape(refusal["reason"]))
    return table
