"""What the parts of the benchmark say together: intervals over subjects, targets, lines to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.record import Target

DRAWS = 10_000
Part = Mapping[str, Any]


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences over test cases, and its 95 % bootstrap interval."""
    values = np.asarray(differences)
    picks = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[picks].mean(1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def differences(parts: Sequence[Part], one: str, other: str, domain: str = "in") -> list[float]:
    """Return Dice under one row less that under another, for every test case of every part that has both.

    A case that several seeds of one split scored counts once, with its mean: seeds are not subjects.

    Args:
        parts: of one task or of several.
        one: name of a row; `random` is the mean of the random cells, `random-search` and `search` the best on
            validation of what one total cost buys (`equal_cost`).
        other: name of a row.
        domain: of the test cases.
    """
    found: dict[tuple[str, int, str], list[float]] = {}
    for part in parts:
        first, second = row_of(part, one, domain), row_of(part, other, domain)
        for case in first.keys() & second.keys():
            key = (part.get("task", ""), part.get("split", 0), case)
            found.setdefault(key, []).append(first[case] - second[case])
    return [fmean(found[key]) for key in sorted(found)]


def row_of(part: Part, name: str, domain: str = "in") -> Mapping[str, float]:
    """Return the Dice of a row by test case; empty where the part has no such row."""
    if name in ("search", "random-search"):
        name = equal_cost(part).get(name, "")
    dice, domains = part["dice"], part.get("domains", {})
    if name != "random":
        rows = [dice[name]] if name in dice else []
    else:
        rows = [values for row, values in dice.items() if row.startswith("random")]
    cases = [case for case in (rows[0] if rows else ()) if domains.get(case, "in") == domain]
    return {case: fmean(values[case] for values in rows) for case in cases}


def equal_cost(part: Part) -> dict[str, str]:
    """Name the rows that a search, and random cells at the same total cost, end with.

    The search ends with that of its cells that is best on validation; it paid for the search and the training
    of each. Random cells are trained one after the other until they have cost as much, or there are no more.
    """
    rows = {row["name"]: row for row in part["rows"]}
    searched = [rows[name] for name in ("searched", "perturbed") if name in rows]
    random = [row for name, row in rows.items() if name.startswith("random")]
    if not searched or not random:
        return {}
    budget = part["search"]["seconds"] + sum(row["seconds"] for row in searched)
    bought, spent = [], 0.0
    for row in random:
        if bought and spent + row["seconds"] > budget:
            break
        bought.append(row)
        spent += row["seconds"]
    best = [max(group, key=lambda row: row["validation_dice"]) for group in (searched, bought)]
    return {"search": best[0]["name"], "random-search": best[1]["name"]}


def regret(part: Part) -> float:
    """Return by how much the best row with a frozen host beats what was recommended, on the test cases."""
    dice = {row["name"]: fmean(row_of(part, row["name"]).values()) for row in part["rows"] if row["frozen"]}
    return float(max(dice.values()) - dice["implanted"])


def dearness(part: Part) -> float:
    """Return the FLOPs that the recommendation adds over those that the best row with a frozen host adds."""
    rows = {row["name"]: row for row in part["rows"]}
    frozen = [row for row in rows.values() if row["frozen"]]
    best = max(
        frozen, key=lambda row: (fmean(row_of(part, row["name"]).values()), row["name"] == "implanted")
    )
    added, allowed = (row["flops"] - rows["host"]["flops"] for row in (rows["implanted"], best))
    return float(added / allowed) if allowed else float(added > 0)


def targets(name: str, parts: Sequence[Part]) -> list[Target]:
    """Return what a task has to reach, with what it reached."""
    found = [Target.at_most(f"{name}: regret", round(fmean(map(regret, parts)), 5), 0.003)]
    found.append(Target.at_most(f"{name}: cost over the best frozen row's", _worst(dearness, parts), 1.0))
    for suits, make in _RULES:
        if suits(name):
            found += make(name, parts)
    return found


def summary_targets(parts: Mapping[str, Sequence[Part]]) -> list[Target]:
    """Return what all tasks together have to reach."""
    every = [part for found in parts.values() for part in found]
    if not every:
        return []
    found = [Target.at_most("mean regret over all parts", round(fmean(map(regret, every)), 5), 0.001)]
    gained = differences(every, "search", "random-search")
    if gained:
        mean, low, _ = interval(gained)
        name = "searched over random cells at equal total cost"
        found += [
            Target.at_least(f"{name}, mean", round(mean, 5), 0.0),
            Target.at_least(f"{name}, lower end", round(low, 5), 0.0),
        ]
    return found


def _worst(measure: Callable[[Part], float], parts: Sequence[Part]) -> float:
    return round(max(map(measure, parts)), 3)


def _gaining(name: str, parts: Sequence[Part]) -> list[Target]:
    gain, low, _ = interval(differences(parts, "implanted", "host"))
    full, _, _ = interval(differences(parts, "full", "host"))
    trained = [{row["name"]: row["trainable"] for row in part["rows"]} for part in parts]
    share = max(counts["implanted"] / counts["full"] for counts in trained)
    return [
        Target.at_least(f"{name}: gain over the host", round(gain, 5), 0.04),
        Target.at_least(f"{name}: lower end of that gain", round(low, 5), 0.0),
        Target.at_least(f"{name}: share of what full fine-tuning gains", round(gain / full, 3), 0.95),
        Target.at_most(f"{name}: share of its trainable parameters", round(share, 3), 0.1),
    ]


def _few(name: str, parts: Sequence[Part]) -> list[Target]:
    """Compare the worst seed with the worst seed of full fine-tuning, in and out of the domain."""
    found = []
    for domain in ("in", "out"):
        ours, full = (
            [fmean(row_of(part, row, domain).values()) for part in parts] for row in ("implanted", "full")
        )
        words = f"{name}: worst run over that of full fine-tuning, {domain} of domain"
        found.append(Target.at_least(words, round(min(ours) - min(full), 5), 0.0))
    return found


def _context(name: str, parts: Sequence[Part]) -> list[Target]:
    return [
        Target.at_least(
            f"{name}: lower end over {other}",
            round(interval(differences(parts, "implanted", other))[1], 5),
            0.0,
        )
        for other in ("adapter", "random")
    ]


def _harmless(name: str, parts: Sequence[Part]) -> list[Target]:
    _, _, high = interval(differences(parts, "implanted", "host"))
    worse = sum(part["verdict"] == "worse" for part in parts)
    return [
        Target.at_least(f"{name}: upper end of the gain", round(high, 5), 0.0),
        Target.at_most(f"{name}: verdicts of worse", worse, 0),
    ]


_RULES: tuple[tuple[Callable[[str], bool], Callable[[str, Sequence[Part]], list[Target]]], ...] = (
    (lambda name: name == "nuclei-200" or name.startswith(("volumes-", "slices-i", "slices-n")), _gaining),
    (lambda name: name == "slices-spacing", _gaining),
    (lambda name: name in ("nuclei-16", "nuclei-4"), _few),
    (lambda name: name == "lines", _context),
    (lambda name: name in ("right", "slices", "volumes"), _harmless),
)


def lines(name: str, parts: Sequence[Part]) -> list[str]:
    """Return a table in Markdown: every row's Dice and gain over all parts of a task."""
    rows = {row["name"]: row for part in parts for row in part["rows"]}
    names = [row for row in rows if not row.startswith("random")] + ["random", "random-search"]
    told = [
        f"{name}: {len(parts)} parts; recommended {', '.join(part['recommended'] for part in parts)};"
        f" verdicts {', '.join(part['verdict'] for part in parts)}",
        "| row | Dice | gain over the host, 95 % interval | trained | latency over the host's |",
        "|---|---|---|---|---|",
    ]
    for row in names:
        dice = [value for part in parts for value in row_of(part, row).values()]
        if dice:
            gain = interval(differences(parts, row, "host"))
            shown = f"{gain[0]:+.4f} ({gain[1]:+.4f} to {gain[2]:+.4f})"
            told.append(f"| {row} | {fmean(dice):.4f} | {shown} | {_cost(parts, row)} |")
    return told


def _cost(parts: Sequence[Part], row: str) -> str:
    kind = row.rstrip("0123456789")
    same = [one for part in parts for one in part["rows"] if one["name"].rstrip("0123456789") == kind]
    if not same:
        return "– | –"
    latency = fmean(one["latency"]["it"] / one["latency"]["host"] for one in same)
    return f"{round(fmean(one['trainable'] for one in same))} | {latency:.2f}"
