"""What the fusion passes of an export changed, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def fusion_table(passes: list[dict[str, Any]]) -> Table | str:
    """Lay out nodes, operations and, where they were measured, times before and after each pass.

    Args:
        passes: `fusion` of an `export.json`.

    Returns:
        a table of the passes that changed something; a line where none did.
    """
    from rich import box
    from rich.table import Table

    from surgeon.rendering import format_count

    active = [one for one in passes if one["changed"]]
    if not active:
        return "no fusion pass found anything to change"
    counts = {"nodes": str, "flops": format_count, "milliseconds": "{:.2f}".format}
    known = {name: show for name, show in counts.items() if any(_pair(one, name) for one in active)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("fusion pass")
    for title in ("places", *(_TITLES[name] for name in known)):
        table.add_column(title, justify="right")
    for one in active:
        shown = (_change(_pair(one, name), show) for name, show in known.items())
        table.add_row(one["name"].replace("_", " "), str(one["changed"]), *shown)
    whole = (_change(_whole(active, name), show) for name, show in known.items())
    table.add_section()
    table.add_row("all", str(sum(one["changed"] for one in active)), *whole)
    return table


_TITLES = {"nodes": "nodes", "flops": "FLOPs", "milliseconds": "ms"}


def _pair(one: dict[str, Any], name: str) -> tuple[float, float] | None:
    before, after = one.get(f"{name}_before"), one.get(f"{name}_after")
    return None if before is None or after is None else (before, after)


def _whole(active: list[dict[str, Any]], name: str) -> tuple[float, float] | None:
    """Return what the first pass was given, and that less what all of them took away."""
    pairs = [pair for one in active if (pair := _pair(one, name)) is not None]
    if not pairs:
        return None
    return pairs[0][0], pairs[0][0] + sum(after - before for before, after in pairs)


def _change(pair: tuple[float, float] | None, show: Any) -> str:
    return "" if pair is None else f"{show(pair[0])} → {show(pair[1])}"
