"""Whether a run compiles what its frozen host computes: tried before the start, kept with the run.

Compiled code rounds otherwise. So the choice is made once, and a run that is resumed goes on with it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from surgeon.errors import RunError, SurgeonError
from surgeon.tracing import first_line

from ..planning import Plan
from ..runs import RunFolder
from ..step.compiling import Compiler
from ..step.supply import Supply
from ..training.loop import Loop
from .pacing import Timer
from .remaining import Forecast
from .schedule import SEARCH, Pace

_FILE = "checkpoints/compile.json"
_LEAST = 1800.0
"""Seconds that a run has to take for a trial to be worth what it costs: that is a minute or more."""
_GAIN = 0.95
"""A step has to take less than this share of an uncompiled one."""


def choose_compilation(
    plan: Plan, supply: Supply, loop: Loop, forecast: Forecast | None
) -> tuple[Supply, str]:
    """Return the supply that compiles or does not, and a sentence that says which and why.

    Args:
        plan: of the operation; `config.compile` may decide.
        supply: of the trainings in full.
        loop: with the folder of the run.
        forecast: how long it takes uncompiled; its pace of the search is corrected.

    Raises:
        RunError: the run began compiled, and here it cannot be.
        Stopped: the user stopped it.
    """
    folder = loop.folder
    kept = loop.fleet.first(lambda: _read(folder))
    compiling = replace(supply, compiler=Compiler())
    if kept is None:
        on, why = _chosen(plan, compiling, loop, forecast)
        if folder is not None and loop.fleet.is_first:
            folder.write_json(_FILE, {"on": on, "why": why})
    else:
        on, why = bool(kept["on"]), str(kept["why"])
        if on:
            _check_possible(plan, compiling, loop)
    return (compiling if on else supply), f"compile {'on' if on else 'off'}: {why}"


def _read(folder: RunFolder | None) -> dict[str, Any] | None:
    path = folder.path / _FILE if folder else None
    if path is None or not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def _chosen(plan: Plan, compiling: Supply, loop: Loop, forecast: Forecast | None) -> tuple[bool, str]:
    """Decide for a run that begins."""
    asked = plan.config.compile
    if asked == "off":
        return False, "as asked for"
    if loop.fleet.size > 1:
        return False, "it is not done in several processes"
    if asked == "auto" and (forecast is None or forecast.seconds < _LEAST):
        return False, "the run is too short to pay for it"
    try:
        pace = _tried(plan, compiling, loop)
    except SurgeonError:
        raise
    except Exception as error:  # noqa: BLE001 - a compiler may raise anything, and nothing depends on it
        return False, f"it failed ({first_line(error)})"
    if asked == "on":
        return True, "as asked for"
    before = forecast.paces[SEARCH].step if forecast else 0.0
    times = f"a search step takes {pace.step:.3g} s with it, {before:.3g} s without"
    if not before or pace.step > _GAIN * before:
        return False, times
    if forecast is not None:
        forecast.correct(SEARCH, pace)
    return True, times


def _tried(plan: Plan, compiling: Supply, loop: Loop) -> Pace:
    """Time a compiled search on copies; what was compiled for them serves the run as well."""
    return Timer(plan, compiling, loop).pace(SEARCH)


def _check_possible(plan: Plan, compiling: Supply, loop: Loop) -> None:
    try:
        _tried(plan, compiling, loop)
    except SurgeonError:
        raise
    except Exception as error:
        raise RunError(
            f"the run was compiled when it began, and here that fails: {first_line(error)}",
            where="checkpoints/compile.json",
            fix="resume it on a machine like that of its start, with a C++ compiler",
        ) from error
