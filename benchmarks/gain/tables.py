"""What the parts of the benchmark say together: intervals over subjects, targets, lines to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.record import Target

DRAWS = 10_000
_MEAN_REGRET = "mean regret over all tasks"
_SEARCHED = tuple(f"searched over random cells at equal total cost, {end}" for end in ("mean", "lower end"))
_NEARLY = 0.9
Part = Mapping[str, Any]


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences over test cases, and its 95 % bootstrap interval."""
    low, high = np.percentile(_drawn_means(differences), (2.5, 97.5))
    return fmean(differences), float(low), float(high)


def _drawn_means(differences: Sequence[float], seed: int = 0) -> np.ndarray:
    """Return the means of bootstrap draws of differences: `(DRAWS,)`."""
    values = np.asarray(differences)
    return values[np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))].mean(1)


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

    The search ends with that of its cells that is best on validation (one that came to a fixed cell counts
    with that cell's row); it paid for the search and the training of each. Random cells are trained one after
    the other until they have cost as much, or there are no more.
    """
    _, searched, bought = _purchases(part)
    if not searched or not bought:
        return {}
    best = [max(group, key=lambda row: row["validation_dice"]) for group in (searched, bought)]
    return {"search": best[0]["name"], "random-search": best[1]["name"]}


def share_spent(part: Part) -> float:
    """Return what the random cells that were bought cost, as a share of what the search cost.

    It is above 1 where one more would have been too dear, and far below where there were too few of them.
    """
    budget, _, bought = _purchases(part)
    return float(sum(row["seconds"] for row in bought) / budget) if budget else 0.0


def is_equal_cost(part: Part) -> bool:
    """Tell whether there were random cells enough to cost as much as the search."""
    _, searched, bought = _purchases(part)
    there = sum(row["name"].startswith("random") for row in part["rows"])
    return bool(searched) and bool(bought) and (len(bought) < there or share_spent(part) > _NEARLY)


def _purchases(part: Part) -> tuple[float, list[Part], list[Part]]:
    """Return what the search cost, the rows of its cells, and the random rows that this buys."""
    rows = {row["name"]: row for row in part["rows"]}
    names = {part.get("same", {}).get(name, name) for name in ("searched", "perturbed")}
    searched = [rows[name] for name in sorted(names & rows.keys())]
    budget = part["search"]["seconds"] + sum(row["seconds"] for row in searched)
    bought: list[Part] = []
    for row in (row for name, row in rows.items() if name.startswith("random")):
        if bought and sum(one["seconds"] for one in (*bought, row)) > budget:
            break
        bought.append(row)
    return budget, searched, bought


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


@dataclass(frozen=True, slots=True)
class Bar:
    """What a task has to reach.

    Attributes:
        words: what is measured.
        limit: that has to be reached, or not be passed.
        measure: what the finished parts of the task reached.
        most: whether the limit is the most.
    """

    words: str
    limit: float
    measure: Callable[[Sequence[Part]], float]
    most: bool = False

    def judge(self, name: str, parts: Sequence[Part]) -> Target:
        """Return what the parts of a task of that name reached."""
        make = Target.at_most if self.most else Target.at_least
        return make(f"{name}: {self.words}", round(self.measure(parts), 5), self.limit)


def targets(name: str, parts: Sequence[Part]) -> list[Target]:
    """Return what a task has to reach, with what it reached."""
    return [bar.judge(name, parts) for bar in bars_of(name)]


def bars_of(name: str) -> tuple[Bar, ...]:
    """Return what the task of a name has to reach."""
    return (*_EVERY, *(bar for suits, bars in _RULES if suits(name) for bar in bars))


def summary_targets(parts: Mapping[str, Sequence[Part]]) -> list[Target]:
    """Return what all tasks together have to reach."""
    every = [part for found in parts.values() for part in found]
    if not every:
        return []
    mean = fmean(_regret(found) for found in parts.values())
    found = [Target.at_most(_MEAN_REGRET, round(mean, 5), 0.001)]
    gained = differences([part for part in every if is_equal_cost(part)], "search", "random-search")
    if gained:
        mean, low, _ = interval(gained)
        found += [
            Target.at_least(_SEARCHED[0], round(mean, 5), 0.0),
            Target.at_least(_SEARCHED[1], round(low, 5), 0.0),
        ]
    return found


def bars(parts: Mapping[str, Sequence[Part]], tasks: Sequence[str], whole: int) -> list[dict[str, Any]]:
    """Return every bar of every task, and those of all together: held, missed, or not measured.

    Args:
        parts: the finished ones, by task.
        tasks: names of all tasks, measured or not.
        whole: parts that a task has in all.
    """
    found = [
        _told(target, len(parts[name]), whole)
        for name in tasks
        if name in parts
        for target in targets(name, parts[name])
    ]
    every = sum(map(len, parts.values()))
    found += [_told(target, every, whole * len(tasks)) for target in summary_targets(parts)]
    names = [f"{name}: {bar.words}" for name in tasks for bar in bars_of(name)]
    known = {row["name"] for row in found}
    missing = [name for name in (*names, _MEAN_REGRET, *_SEARCHED) if name not in known]
    return found + [{"name": name, "outcome": "not measured", "parts": 0} for name in missing]


def _told(target: Target, parts: int, whole: int) -> dict[str, Any]:
    return {
        **target.to_dict(),
        "outcome": "holds" if target.holds else "missed",
        "parts": parts,
        "whole": whole,
    }


def bar_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return bars as a table in Markdown; below it tasks and bars that were not measured."""
    told = ["| bar | value | limit | parts | |", "|---|---|---|---|---|"]
    for row in rows:
        if row["parts"]:
            word = "**missed**" if row["outcome"] == "missed" else row["outcome"]
            parts = f"{row['parts']} of {row['whole']}"
            told.append(f"| {row['name']} | {row['value']:.4f} | {row['bar']:g} | {parts} | {word} |")
    missing = dict.fromkeys(row["name"].partition(": ")[0] for row in rows if not row["parts"])
    return [*told, "", f"Not measured: {'; '.join(missing) or 'nothing'}."]


def _regret(parts: Sequence[Part]) -> float:
    return fmean(map(regret, parts))


def _worst_cost(parts: Sequence[Part]) -> float:
    return max(map(dearness, parts))


def _gain(parts: Sequence[Part], row: str = "implanted", other: str = "host", end: int = 0) -> float:
    """Return the mean of a gain, or the lower (1) or upper (2) end of its interval."""
    return interval(differences(parts, row, other))[end]


def _share_of_gain(parts: Sequence[Part]) -> float:
    return _gain(parts) / _gain(parts, "full")


def _share_of_parameters(parts: Sequence[Part]) -> float:
    trained = [{row["name"]: row["trainable"] for row in part["rows"]} for part in parts]
    return float(max(counts["implanted"] / counts["full"] for counts in trained))


def _over_worst(parts: Sequence[Part], domain: str) -> float:
    """Return the worst run less the worst run of full fine-tuning."""
    ours, full = (
        min(fmean(row_of(part, row, domain).values()) for part in parts) for row in ("implanted", "full")
    )
    return ours - full


def _said_worse(parts: Sequence[Part]) -> float:
    return sum(part["verdict"] == "worse" for part in parts)


_EVERY = (
    Bar("regret", 0.003, _regret, most=True),
    Bar("cost over the best frozen row's", 1.0, _worst_cost, most=True),
)
_GAINING = (
    Bar("gain over the host", 0.04, _gain),
    Bar("lower end of that gain", 0.0, partial(_gain, end=1)),
    Bar("share of what full fine-tuning gains", 0.95, _share_of_gain),
    Bar("share of its trainable parameters", 0.1, _share_of_parameters, most=True),
)
_FEW = tuple(
    Bar(f"worst run over that of full fine-tuning, {words}", 0.0, partial(_over_worst, domain=domain))
    for domain, words in (("in", "in of domain"), ("out", "out of domain"))
)
_CONTEXT = tuple(
    Bar(f"lower end over {other}", 0.0, partial(_gain, other=other, end=1)) for other in ("adapter", "random")
)
_HARMLESS = (
    Bar("upper end of the gain", 0.0, partial(_gain, end=2)),
    Bar("verdicts of worse", 0, _said_worse, most=True),
)
_RULES: tuple[tuple[Callable[[str], bool], tuple[Bar, ...]], ...] = (
    (lambda name: name == "nuclei-200" or name.startswith("volumes-"), _GAINING),
    (lambda name: name in ("slices-intensity", "slices-noise", "slices-spacing"), _GAINING),
    (lambda name: name in ("nuclei-16", "nuclei-4"), _FEW),
    (lambda name: name == "lines", _CONTEXT),
    (lambda name: name in ("right", "slices", "volumes"), _HARMLESS),
)


def lines(name: str, parts: Sequence[Part]) -> list[str]:
    """Return a table in Markdown: every row's Dice and gain over all parts of a task."""
    rows = {row["name"]: row for part in parts for row in part["rows"]}
    names = [row for row in rows if not row.startswith("random")] + ["random", "random-search"]
    told = [
        f"{name}: {len(parts)} parts; recommended {', '.join(part['recommended'] for part in parts)};"
        f" verdicts {', '.join(part['verdict'] for part in parts)}",
        "",
        "| row | Dice | gain over the host, 95 % interval | trained | FLOPs added |",
        "|---|---|---|---|---|",
    ]
    for row in names:
        dice = [value for part in parts for value in row_of(part, row).values()]
        if dice:
            cost = _cost(parts, row)
            told.append(f"| {row} | {fmean(dice):.4f} | {_shown(parts, row, 'host')} | {cost} |")
    told += ["", *(f"- {one} over {other}: {_shown(parts, one, other)}" for one, other in _PAIRS)]
    share = fmean(map(share_spent, parts))
    return [*told, f"- random-search cost {100 * share:.0f} % of what the search cost", ""]


def together(parts: Mapping[str, Sequence[Part]]) -> list[str]:
    """Return what all tasks say together of searched and random cells, every task counting alike.

    Where random cells were too few to cost as much as the search, this favours the search.
    """
    found = [differences(one, "search", "random-search") for one in parts.values()]
    gained = [one for one in found if one]
    if not gained:
        return []
    means = np.mean([_drawn_means(one, seed) for seed, one in enumerate(gained)], 0)
    low, high = np.percentile(means, (2.5, 97.5))
    share = fmean(share_spent(part) for one in parts.values() for part in one)
    mean = fmean(map(fmean, gained))
    return [
        f"all tasks: search over random-search {mean:+.4f} ({low:+.4f} to {high:+.4f}), which cost"
        f" {100 * share:.0f} % of what the search cost",
        "",
    ]


_PAIRS = (
    ("implanted", "adapter"),
    ("implanted", "random"),
    ("implanted", "full"),
    ("search", "random-search"),
)


def _shown(parts: Sequence[Part], one: str, other: str) -> str:
    found = differences(parts, one, other)
    if not found:
        return "not measured"
    mean, low, high = interval(found)
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def _cost(parts: Sequence[Part], row: str) -> str:
    """Return trained parameters and the share of FLOPs added; times of a loaded machine say little."""
    same = [
        (one, next(other for other in part["rows"] if other["name"] == "host"))
        for part in parts
        for one in part["rows"]
        if one["name"] == row or (row == "random" and one["name"].startswith("random"))
    ]
    if not same:
        return "– | –"
    added = fmean(one["flops"] / host["flops"] - 1 for one, host in same)
    return f"{round(fmean(one['trainable'] for one, _ in same))} | {100 * added:.0f} %"
