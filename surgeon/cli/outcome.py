"""How an operation went, in a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgeon.rendering import format_count, format_seconds

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"improved": "bold green", "unchanged": "bold yellow", "worse": "bold red"}


def score_table(report: Mapping[str, Any]) -> Table:
    """Lay out the Dice of the host, the implanted network and each baseline on the test subjects.

    Args:
        report: the content of a `report.json`.
    """
    from rich import box
    from rich.table import Table

    scores: Mapping[str, Mapping[str, Any]] = report["scores"]
    classes = list(scores["host"]["dice_per_class"])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("on the test subjects", no_wrap=True)
    table.add_column("mean Dice", justify="right")
    for name in classes if len(classes) > 1 else ():
        table.add_column(name, justify="right")
    table.add_column("parameters", justify="right")
    for name, row in scores.items():
        each = [_number(row["dice_per_class"][one]) for one in classes] if len(classes) > 1 else []
        table.add_row(name, _number(row["dice_mean"]), *each, _parameters(report, name))
    return table


def comparison_table(report: Mapping[str, Any]) -> Table:
    """Lay out what a sceptic would have tried beside what is recommended.

    Args:
        report: the content of a `report.json` with a comparison.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("on the test subjects", no_wrap=True)
    for name in ("Dice", "gain", "95 % interval", "HD95", "trained", "FLOPs", "latency", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report["comparison"]["rows"]:
        gain = row["gain"]
        interval = f"{_number(gain['low'], signed=True)} to {_number(gain['high'], signed=True)}"
        table.add_row(
            row["words"],
            _number(row["dice"]),
            _number(gain["dice_mean"], signed=True),
            interval,
            "–" if row["hd95"] is None else f"{row['hd95']:.2f}",
            format_count(row["trainable"]),
            format_count(row["flops"]),
            format_seconds(row["latency"]["it"] / 1000),
            format_seconds(row["seconds"]),
            style="bold" if row["name"] == "implanted" else "",
        )
    return table


def random_line(report: Mapping[str, Any]) -> str:
    """Say how random cells did, on the mean and as validation would have chosen one."""
    random = report["comparison"]["random"]
    if not random:
        return "no random cell was compared"
    return (
        f"{random['cells']} random cells: mean Dice {random['dice_mean']:.4f},"
        f" the best on validation {random['dice_chosen']:.4f}"
    )


def choice_line(report: Mapping[str, Any]) -> str:
    """Say what is recommended, and why."""
    finalists = report["finalists"]
    return f"recommended: [bold]{finalists['recommended']}[/], {finalists['reason']}"


def bill_line(report: Mapping[str, Any]) -> str:
    """Say what the work took of the machine: time and what it went to, speed, memory."""
    search: Mapping[str, Any] = report.get("search") or {}
    spent: Mapping[str, float] = search.get("spent_seconds") or {}
    total = sum(spent.values())
    if not total:
        return "nothing was trained"
    shares = sorted(spent.items(), key=lambda item: -item[1])
    words = [
        f"training {format_seconds(total)}: " + ", ".join(f"{name} {v / total:.0%}" for name, v in shares)
    ]
    speeds = {name: search.get(f"{name}_images_per_second") for name in ("search", "retrain")}
    words += [f"{name} {speed:.3g} images/s" for name, speed in speeds.items() if speed]
    if search.get("peak_memory_mib"):
        words.append(f"peak memory {search['peak_memory_mib']:.0f} MiB")
    return "; ".join(words)


def estimate_lines(report: Mapping[str, Any]) -> list[str]:
    """Say how long it took beside what was estimated before the start; nothing where it was not."""
    estimate: Mapping[str, Any] = (report.get("search") or {}).get("estimate") or {}
    if not estimate:
        return []
    most, ran, took = (
        format_seconds(estimate[f"{name}_seconds"]) for name in ("at_most", "of_what_ran", "took")
    )
    return [f"took {took}; estimated before the start: at most {most}, and {ran} for what there was to do"]


def verdict_line(report: Mapping[str, Any]) -> str:
    """Say in one line, with rich markup, what came of it."""
    gain, verdict = report["gain"], report["verdict"]
    low, high = _number(gain["low"], signed=True), _number(gain["high"], signed=True)
    return (
        f"verdict: [{_STYLES[verdict]}]{verdict}[/], mean Dice {_number(gain['dice_mean'], signed=True)}"
        f" (95 % interval over subjects {low} to {high})"
    )


def path_table(paths: Mapping[str, Path | str]) -> Table:
    """Lay out what was written, and what to type next."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, path in paths.items():
        grid.add_row(name, Text(str(path)))
    return grid


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def _parameters(report: Mapping[str, Any], name: str) -> str:
    counts = report.get("cost", {}).get("parameters", {})
    return format_count(counts[name]) if name in counts else ""
