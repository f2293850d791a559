"""An operation from the command line: open, search with a live display, say how it went."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .answer import Answer
from .cohorts import DataRequest
from .hosting import HostRequest
from .live import watching
from .outcome import (
    bill_line,
    choice_line,
    comparison_table,
    estimate_lines,
    path_table,
    random_line,
    score_table,
    verdict_line,
)

if TYPE_CHECKING:
    from surgeon.data import Cohort
    from surgeon.hosts import Host
    from surgeon.search import ImplantResult


@dataclass(frozen=True, slots=True)
class Operation:
    """What is to be done.

    Attributes:
        host: the network.
        data: the labelled images.
        out: the folder to write.
        settings: of the search; what is left out has the library's default.
        resume: go on where the folder stopped.
    """

    host: HostRequest
    data: DataRequest
    out: Path
    settings: dict[str, Any]
    resume: bool = False


def operate(answer: Answer, operation: Operation, opened: Host | None = None) -> ImplantResult:
    """Search, train and compare, with a display on standard error.

    Args:
        answer: where to say it.
        operation: what is to be done.
        opened: the host, when it is open already.

    Raises:
        InputError: settings, host or data cannot be used.
        GateError: the implant is worse than its host, or a skip cannot be operated on.
        Stopped: the user stopped it.
    """
    from surgeon.scores import match_task
    from surgeon.search import Config, implant

    config = Config.create(**operation.settings, host_spec=operation.host.to_dict())
    host = opened or operation.host.open_for_images()
    inputs = operation.host.inputs_for(host)
    answer.note(*host.report)
    cohort = operation.data.open(host.preparation, inputs[0].dim() - 2)
    answer.note(
        f"{len(cohort.cases)} cases of {len(cohort.subjects)} subjects, {cohort.format},"
        f" classes: {', '.join(cohort.classes)}",
        *_splits_line(cohort),
        match_task(host.module, cohort, answer=config.answer).sentence,
        *cohort.remarks,
    )
    with watching(answer.progress_console()) as progress:
        return implant(
            host.module,
            cohort,
            config,
            out=operation.out,
            inputs=inputs if operation.host.shapes or host.example is not None else None,
            resume=operation.resume,
            progress=progress,
            note=answer.note,
        )


def _splits_line(cohort: Cohort) -> tuple[str, ...]:
    if cohort.splits is None:
        return ()
    counts = ", ".join(f"{len(subjects)} {split}" for split, subjects in cohort.splits.items() if subjects)
    missing = [split for split, subjects in cohort.splits.items() if not subjects]
    rest = f"; {missing[0]} is dealt out of train" if missing else ""
    return (f"splits as the data declare them: {counts}{rest}",)


def show_outcome(answer: Answer, report: dict[str, Any], out: Path) -> None:
    """Print the scores, the verdict, the files and the next command."""
    answer.say(score_table({**report, "scores": {k: report["scores"][k] for k in _shown(report)}}))
    if report.get("comparison"):
        answer.say(comparison_table(report), random_line(report))
    if report.get("finalists"):
        answer.say(choice_line(report))
    answer.say(bill_line(report), *estimate_lines(report), verdict_line(report), "")
    answer.say(
        path_table(
            {
                "report": out / "report.html",
                "implant": out / "implant.safetensors",
                "next": f"surgeon export {out} --out {out}-onnx",
            }
        )
    )


def _shown(report: dict[str, Any]) -> list[str]:
    """Name the scores of the short table: those of a comparison have a table of their own."""
    rows = (report.get("comparison") or {}).get("rows", ())
    compared = {row["name"] for row in rows} - {"host", "implanted"}
    return [name for name in report["scores"] if name not in compared]
