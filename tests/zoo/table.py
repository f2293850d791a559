"""The table of truth, and how an anatomy is held against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from surgeon.skips import Kind, Skip


@dataclass(frozen=True)
class Planted:
    """A link that a network has.

    Attributes:
        kind: skip, dense, lateral or fusion.
        merge: cat or add.
        modules: the qualified names that are right for the merge.
        sources: the qualified names that are right for the source.
        source: shape at the source.
        at_merge: shape as it enters the merge.
    """

    kind: str
    merge: str
    modules: tuple[str, ...]
    sources: tuple[str, ...]
    source: tuple[int, ...]
    at_merge: tuple[int, ...]

    def is_hit_by(self, skip: Skip) -> bool:
        """Tell whether a found skip is this one: operation, module, shape and kind of its merge."""
        return (
            skip.merge.value == self.merge
            and skip.merge_module in self.modules
            and skip.merge_shape == self.at_merge
            and skip.kind.value == self.kind
        )


@dataclass(frozen=True)
class Truth:
    """What is right for a network; `ambiguous` are merges (operation, module) that count neither way."""

    name: str
    family: str
    skips: tuple[Planted, ...]
    ambiguous: tuple[tuple[str, str], ...]

    @property
    def counted(self) -> tuple[Planted, ...]:
        """The links that count: all but fusions."""
        return tuple(planted for planted in self.skips if planted.kind != Kind.FUSION.value)

    @property
    def is_control(self) -> bool:
        """Whether the network has no links at all."""
        return not self.skips


@dataclass(frozen=True)
class Score:
    """An anatomy held against the truth.

    Attributes:
        right: found links that the network has.
        extra: found links that it does not have, in words.
        missing: links that were not found, in words.
        ambiguous: found links at merges that count neither way.
        sources: how many of the right ones also name the right source, of the right shape.
    """

    right: int
    extra: tuple[str, ...]
    missing: tuple[str, ...]
    ambiguous: int
    sources: int

    @property
    def exact(self) -> bool:
        """Whether every link is right, and none is missing."""
        return not self.extra and not self.missing


@cache
def table() -> tuple[Truth, ...]:
    """Read the table of truth."""
    rows = yaml.safe_load((Path(__file__).parent / "truth.yaml").read_text(encoding="utf-8"))
    return tuple(_truth(row) for row in rows)


def truth_of(name: str) -> Truth:
    """Return the row of a network."""
    return next(row for row in table() if row.name == name)


def _truth(row: dict[str, Any]) -> Truth:
    return Truth(
        name=row["id"],
        family=row["family"],
        skips=tuple(
            Planted(
                s["kind"],
                s["merge"],
                tuple(s["modules"]),
                tuple(s["sources"]),
                tuple(s["source"]),
                tuple(s["at_merge"]),
            )
            for s in row["skips"]
        ),
        ambiguous=tuple((a["merge"], a["module"]) for a in row.get("ambiguous", [])),
    )


def score(truth: Truth, skips: Sequence[Skip]) -> Score:
    """Match found links with those of the truth, each at most once; fusions count neither way."""
    rest, extra, right, ambiguous, sources = list(truth.counted), [], 0, 0, 0
    for skip in skips:
        if skip.kind is Kind.FUSION:
            continue
        hits = [planted for planted in rest if planted.is_hit_by(skip)]
        if hits:
            # Where several fit, the one whose source fits too.
            hit = max(hits, key=lambda planted: _same_source(planted, skip))
            rest.remove(hit)
            right += 1
            sources += _same_source(hit, skip)
        elif (skip.merge.value, skip.merge_module) in truth.ambiguous:
            ambiguous += 1
        else:
            extra.append(f"{skip.kind.value} {skip.merge.value} {skip.merge_module!r} {skip.merge_shape}")
    missing = tuple(f"{p.kind} {p.merge} {p.modules[0]!r} {p.at_merge}" for p in rest)
    return Score(right, tuple(extra), missing, ambiguous, sources)


def _same_source(planted: Planted, skip: Skip) -> bool:
    return skip.source_module in planted.sources and skip.source_shape == planted.source
