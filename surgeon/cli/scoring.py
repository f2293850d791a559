"""What `surgeon evaluate` does: open, score, write the table and the pictures."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgeon.errors import InputError

from .cohorts import DataRequest
from .hosting import Form, HostRequest, find_form

if TYPE_CHECKING:
    from torch import nn

    from surgeon.data import Cohort
    from surgeon.scores import Scores, Task

WORST = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be scored and written.

    Attributes:
        metrics: beside Dice.
        tolerance: in mm, for `surface_dice`.
        empty: `perfect` or `skip`.
        table: a CSV file to write.
        pictures: a folder to draw the worst cases into.
        answer: which output is the segmentation; None for what RUN or export know, else the largest.
    """

    metrics: tuple[str, ...] = ()
    tolerance: float = 1.0
    empty: str = "perfect"
    table: Path | None = None
    pictures: Path | None = None
    answer: int | None = None


def score(
    request: HostRequest,
    images: DataRequest,
    device: str,
    wanted: Wanted | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Score what was asked for.

    Returns:
        plain JSON: `network`, `form`, `data`, `task`, `metrics` (the mean of each for each class), `policy`
        and what `surgeon.scores.Scores.to_dict` gives.

    Raises:
        InputError: network or data cannot be used, or they do not suit each other.
    """
    wanted = wanted or Wanted()
    if wanted.empty not in ("perfect", "skip"):
        raise InputError(f"no policy {wanted.empty!r}", where="--empty", fix="one of perfect, skip")
    form = find_form(request.spec)
    if form is Form.EXPORT:
        module, cohort, known = _open_export(Path(request.spec), images)
        device = "cpu"
    else:
        module, cohort, known = _open_network(request, images)
    if wanted.answer is None:
        wanted = dataclasses.replace(wanted, answer=known)
    return {
        "network": request.spec,
        "form": form.value,
        "data": cohort.to_dict(),
        **_scores(module.to(device), cohort, device, wanted, note),
    }


def score_export(folder: Path, images: DataRequest) -> dict[str, Any]:
    """Score an exported model on labelled images; plain JSON, as `score` without what names it."""
    return score_module(*_open_export(folder, images))


def score_module(module: nn.Module, cohort: Cohort, answer: int | None = None) -> dict[str, Any]:
    """Score a network on labelled images; plain JSON, as `score` without what names it."""
    return _scores(module, cohort, "cpu", Wanted(answer=answer), lambda _: None)


def _scores(
    module: nn.Module, cohort: Cohort, device: str, wanted: Wanted, note: Callable[[str], None]
) -> dict[str, Any]:
    from surgeon.modes import in_eval
    from surgeon.scores import Empty, match_task, write_table
    from surgeon.scores import evaluate as score_cases

    task = match_task(in_eval(module), cohort, device, wanted.answer)
    note(f"{len(cohort.cases)} cases of {len(cohort.subjects)} subjects, {cohort.format}; {task.sentence}")
    for remark in cohort.remarks:
        note(remark)
    scores = score_cases(
        module,
        cohort,
        task,
        device=device,
        metrics=wanted.metrics,
        tolerance=wanted.tolerance,
        empty=Empty(wanted.empty),
    )
    named = ("dice", *wanted.metrics)
    if wanted.table is not None:
        write_table(scores, wanted.table, named)
    drawn = []
    if wanted.pictures is not None:
        drawn = _draw_worst(module, cohort, task, scores, wanted.pictures)
    return {
        "task": task.to_dict(),
        "policy": {"empty": wanted.empty, "tolerance": wanted.tolerance},
        "metrics": {metric: scores.mean(metric) for metric in named},
        **({"pictures": drawn} if drawn else {}),
        **scores.to_dict(),
    }


def _draw_worst(module: nn.Module, cohort: Cohort, task: Task, scores: Scores, folder: Path) -> list[str]:
    """Draw the worst cases into a folder; return the files."""
    from surgeon.figures import case_figure
    from surgeon.figures.canvas import save_figure
    from surgeon.scores import look_at, worst_cases

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    device = next((str(p.device) for p in module.parameters()), "cpu")
    for rank, (name, dice) in enumerate(worst_cases(scores, WORST), start=1):
        seen = look_at(module, cohort, task, name, device)
        arrays = (seen.image.numpy(), seen.label.numpy(), seen.prediction.numpy())
        figure = case_figure(*arrays, title=f"{name}: Dice {dice:.4f}")
        plain = re.sub(r"[^\w.-]+", "_", name)
        files.append(str(save_figure(figure, folder / f"{rank}_{plain}.png")))
    return files


_Opened = tuple["nn.Module", "Cohort", int | None]


def _open_network(request: HostRequest, images: DataRequest) -> _Opened:
    """Open a network and the data, and say which output is the answer as far as that is known."""
    from .networks import open_network

    network = open_network(request, for_images=True)
    images = images.of_classes(network.classes)
    cohort = images.open(network.host.preparation, network.inputs[0].dim() - 2)
    return network.module, cohort, network.answer


def _open_export(folder: Path, images: DataRequest) -> _Opened:
    from .served import ExportedNetwork, read_recorded_data

    module = ExportedNetwork.open(folder)
    recorded = read_recorded_data(folder)
    cohort = images.of_classes(recorded.classes).open(recorded.preparation, module.spatial_dims)
    return module, cohort, recorded.answer
