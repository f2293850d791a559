"""The sections on what was tried before and beside what is recommended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgeon.rendering import format_count, format_seconds

from .figures import Drawn
from .html import Html, absent, facts, figure, join, number, paragraph, table, tag
from .reading import Record


def finalists_section(record: Record, drawn: Mapping[str, Drawn]) -> Html:
    """Write the short list: entrants trained briefly and compared on validation."""
    finalists, trained = record.part("finalists"), record.part("trained")
    parts: list[object] = [facts(_moved(trained))] if trained else []
    if not finalists:
        return join((*parts, absent("There was no short list: what the search found was trained at once.")))
    words = f"Recommended: {finalists['recommended']}, {finalists['reason']}."
    head = ["finalist", "", "epochs", "validation Dice", "gain", "interval", "parameters", "FLOPs", "time"]
    rows = [_finalist(row) for row in finalists["rows"]]
    shown: list[object] = [paragraph(words), *parts, table(head, rows, text_columns=2)]
    if "front" in drawn:
        shown.append(
            figure(drawn["front"].html, "On the blue line nothing cheaper is as good on validation.")
        )
    return join(shown)


def _moved(trained: Mapping[str, Any]) -> list[tuple[object, object]]:
    host = trained["host_parameters"]
    words = "nothing: it is frozen" if not host else f"{format_count(host)} parameters ({trained['choice']})"
    return [
        ("trained of the implants", f"{format_count(trained['implant_parameters'])} parameters"),
        ("of the host", words),
    ]


def _finalist(row: Mapping[str, Any]) -> list[object]:
    gain = row["gain"] or {}
    remark = row["refusal"] or ("no other is better at its price" if row["pareto"] else "")
    interval = (
        f"{number(gain.get('low'), signed=True)} to {number(gain.get('high'), signed=True)}" if gain else "–"
    )
    time = format_seconds(row["milliseconds"] / 1000) if row.get("milliseconds") else "–"
    dice, change = number(row["validation_dice"], 4), number(gain.get("dice_mean"), 4, signed=True)
    counts = [format_count(row["parameters"]), format_count(row["flops"]), time]
    return [row["name"], remark, row["epochs"], dice, change, interval, *counts]


def comparison_section(record: Record, drawn: Mapping[str, Drawn]) -> Html:
    """Write the sceptic's table and its figure."""
    rows = record.part("comparison").get("rows") or ()
    if not rows:
        return absent("No comparison was run; `surgeon implant --compare` runs one.")
    head = ["", "host", "test Dice", "gain", "interval", "HD95", "trained", "FLOPs", "latency", "training"]
    body = table(head, [_row(row) for row in rows], text_columns=2)
    random = record.part("comparison").get("random") or {}
    note = (
        f"{random['cells']} random cells: mean Dice {number(random['dice_mean'], 4)}, the best on validation"
        f" {number(random['dice_chosen'], 4)}. "
        if random
        else ""
    )
    note += "Every trained row had the same data, steps and three learning rates, of which validation chose."
    caption = (
        "Blue is what is recommended, green has a frozen host, orange a trained one, grey are random cells."
    )
    parts: list[object] = [body, paragraph(note, class_="small")]
    return join((*parts, figure(drawn["trade"].html, caption)) if "trade" in drawn else parts)


def _row(row: Mapping[str, Any]) -> list[object]:
    gain = row["gain"]
    name: object = tag("b", row["words"]) if row["name"] == "implanted" else row["words"]
    return [
        name,
        "frozen" if row["frozen"] else "trained",
        number(row["dice"], 4),
        number(gain["dice_mean"], 4, signed=True),
        f"{number(gain['low'], signed=True)} to {number(gain['high'], signed=True)}",
        number(row["hd95"], 2),
        format_count(row["trainable"]),
        format_count(row["flops"]),
        format_seconds(row["latency"]["it"] / 1000),
        format_seconds(row["seconds"]),
    ]
