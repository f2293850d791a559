"""The headline: what the run found, in plain words, and what may be claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .html import Html, join, number, paragraph, table, tag
from .reading import Record

_CHIPS = {"improved": "improved", "unchanged": "no gain claimed", "worse": "worse"}


def verdict_section(record: Record) -> Html:
    """Write the verdict with the gain and its interval."""
    report, gain = record.report, record.part("gain")
    verdict = str(report["verdict"])
    scores = record.part("scores")
    host, implanted = (scores[name]["dice_mean"] for name in ("host", "implanted"))
    tested = len(record.part("splits").get("test") or ())
    words = tag(
        "div",
        tag("span", _CHIPS.get(verdict, verdict), class_="chip"),
        tag("h2", headline(verdict, gain)),
        paragraph(meaning(verdict, gain, tested), caution(len(scores) > 2)),
        *(paragraph(note, class_="note") for note in report.get("notes") or ()),
    )
    p_value = gain.get("p_value")
    interval = f"95 % interval {number(gain['low'], signed=True)} to {number(gain['high'], signed=True)}"
    figures = tag(
        "div",
        tag("div", number(gain["dice_mean"], signed=True), class_="big"),
        tag("div", f"Dice, {number(host)} → {number(implanted)}", class_="small"),
        tag(
            "div",
            interval + (f", p = {p_value:.2g}" if isinstance(p_value, int | float) else ""),
            class_="small",
        ),
        _interval(gain),
    )
    return tag("section", words, figures, class_=f"verdict {verdict if verdict in _CHIPS else 'unchanged'}")


def headline(verdict: str, gain: Mapping[str, Any]) -> str:
    """Say the verdict in one sentence."""
    size = number(abs(gain["dice_mean"]))
    if verdict == "improved":
        return f"The implanted cells raise Dice by {size} on held-out subjects."
    if verdict == "worse":
        return f"The implanted cells lower Dice by {size} on held-out subjects: keep the host."
    return "No gain over the host is claimed."


def meaning(verdict: str, gain: Mapping[str, Any], subjects: int) -> str:
    """Say how far the verdict carries, from where the interval lies."""
    count = gain.get("subjects") or subjects
    over = f"{count} test subject{'s' if count != 1 else ''}" if count else "the test subjects"
    if count == 1:
        return "There is one test subject alone: the interval means nothing, and others may differ."
    low, high = gain["low"], gain["high"]
    if low > 0:
        place = "lies wholly above zero, so chance in the choice of subjects alone hardly explains the gain"
    elif high < 0:
        place = "lies wholly below zero, so chance in the choice of subjects alone hardly explains the loss"
    else:
        place = "contains zero, so the difference cannot be told from chance in the choice of subjects"
    text = f"The interval (bootstrap over {over}, who were not used for training or selection) {place}."
    if verdict == "improved" and low <= 0:
        text += " Read the gain with care."
    if isinstance(count, int) and 0 < count < 6:
        text += f" With {over} it is wide by nature and says little about others."
    return text


def caution(has_baselines: bool) -> str:
    """Say what the verdict leaves open."""
    if has_baselines:
        return " Whether a simpler change does as well is seen from the baselines below."
    return " Whether a simpler change does as well was not tried: no baseline was run."


def _interval(gain: Mapping[str, Any]) -> Html:
    """Draw the interval on a line with zero in it."""
    low, high, middle = (float(gain[key]) for key in ("low", "high", "dice_mean"))
    reach = max(abs(low), abs(high), abs(middle), 1e-4) * 1.15

    def place(value: float) -> str:
        return f"{150 + 140 * value / reach:.1f}"

    zero = place(0)
    return Html(
        '<svg class="interval" viewBox="0 0 300 44" role="img" aria-label="the gain and its interval">'
        '<line x1="8" x2="292" y1="18" y2="18" style="stroke:var(--line);stroke-width:1.5"/>'
        f'<line x1="{zero}" x2="{zero}" y1="6" y2="30" style="stroke:var(--muted);stroke-width:1.5"/>'
        f'<line x1="{place(low)}" x2="{place(high)}" y1="18" y2="18" '
        'style="stroke:var(--tone);stroke-width:7;stroke-linecap:round;opacity:.35"/>'
        f'<circle cx="{place(middle)}" cy="18" r="6" style="fill:var(--tone)"/>'
        f'<text x="{zero}" y="42" text-anchor="middle">no difference</text></svg>'
    )


def scores_section(record: Record) -> Html:
    """Write the table of scores: host, implanted, baselines, per class."""
    scores = record.part("scores")
    names = ["host", "implanted", *(name for name in scores if name not in ("host", "implanted"))]
    classes = list(dict.fromkeys(c for name in names for c in scores[name].get("dice_per_class") or {}))
    keys: list[str | None] = [None, *(classes if len(classes) > 1 else [])]
    best = {key: max((_score(scores[name], key) for name in names), default=0.0) for key in keys}
    base = scores["host"]["dice_mean"]
    rows = []
    for name in names:
        cells: list[object] = [name if name in ("host", "implanted") else f"baseline: {name}"]
        for key in keys:
            value = _score(scores[name], key)
            cells.append(tag("span", number(value), class_="best") if value == best[key] else number(value))
        cells.insert(2, "" if name == "host" else _change(scores[name]["dice_mean"] - base))
        rows.append(cells)
    one = f" of {classes[0]}" if len(classes) == 1 else ""
    return join((table([f"test Dice{one}", "mean", "change", *keys[1:]], rows), _only_host(names)))


def _only_host(names: list[str]) -> Html:
    if len(names) > 2:
        return paragraph(
            "Bold is the best of a column. Baselines were trained on the same data.", class_="small"
        )
    return paragraph("No baseline was run beside the cells; Config(baselines=...) adds them.", class_="small")


def _score(scores: Mapping[str, Any], key: str | None) -> float:
    value = scores["dice_mean"] if key is None else (scores.get("dice_per_class") or {}).get(key)
    return float(value) if isinstance(value, int | float) else float("-inf")


def _change(value: float) -> Html:
    return tag("span", number(value, signed=True), class_="up" if value > 0 else "down" if value < 0 else "")
