"""A network scored on whole cases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from surgeon.data import Case, Cohort, Sample, Window
from surgeon.errors import DataError, SurgeonError
from surgeon.ranks import Ranks

from .overlap import Empty, check_metrics, score_case
from .prediction import Network, place_in_file, predict_logits
from .refusals import refusal
from .tasks import Task


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a network on whole cases.

    Attributes:
        dice_mean: mean over the foreground classes of `dice_per_class`.
        dice_per_class: for each foreground class the mean over the cases.
        per_case: for each case `{"subject": ..., "dice": {class: value}, ...}`, with the metrics asked for;
            a value is None where there is none.
    """

    dice_mean: float
    dice_per_class: dict[str, float]
    per_case: dict[str, dict[str, Any]]

    def mean(self, metric: str) -> dict[str, float | None]:
        """Return the mean of a metric over the cases for each class; a case without a value has no part."""
        return {name: _mean(self.values(metric, name)) for name in self.dice_per_class}

    def values(self, metric: str, name: str) -> list[float | None]:
        """List the values of a metric on one class, in the order of the cases."""
        return [values[metric][name] for values in self.per_case.values()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "dice_mean": self.dice_mean,
            "dice_per_class": dict(self.dice_per_class),
            "per_case": {name: dict(values) for name, values in self.per_case.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Build from plain JSON."""
        return cls(values["dice_mean"], dict(values["dice_per_class"]), dict(values["per_case"]))

    @classmethod
    def together(cls, parts: Sequence[Scores]) -> Scores:
        """Return the scores of cases that were scored apart as if they had been scored at once."""
        merged = {name: values for part in parts for name, values in part.per_case.items()}
        per_case = {name: merged[name] for name in sorted(merged)}
        per_class = {
            name: _mean([values["dice"][name] for values in per_case.values()])
            for name in parts[0].dice_per_class
        }
        known = {name: mean for name, mean in per_class.items() if mean is not None}
        return cls(sum(known.values()) / len(known), known, per_case)


def evaluate(
    network: Network,
    cohort: Cohort,
    task: Task,
    device: torch.device | str = "cpu",
    *,
    batch_size: int = 8,
    window: Window | None = None,
    metrics: Sequence[str] = (),
    tolerance: float = 1.0,
    empty: Empty = Empty.PERFECT,
    kwargs: Mapping[str, Any] | None = None,
    peers: Peers | None = None,
) -> Scores:
    """Score a network on every case of a cohort; slices are put together to volumes first.

    Padding is left out. Where the preparation resamples voxels to a spacing or cuts them away, predictions
    are brought back to the grid of the files and scored there; images that are fitted into a size are scored
    in that size. Dice is counted in whole numbers and divided in double precision.

    Args:
        network: a module, which is moved to the device and run in eval mode, or any callable.
        cohort: with labels.
        task: how to read the output.
        device: to run on.
        batch_size: samples of one shape that are run at once.
        window: that slides over the images; None takes the preparation's.
        metrics: of `iou`, `hd95`, `assd` (mm) and `surface_dice`, beside Dice.
        tolerance: distance in mm within which two surfaces agree.
        empty: what a class counts for that is in neither prediction nor label.
        kwargs: keyword inputs of the network.
        peers: processes of which each scores a part of the cases; all return the whole result.

    Raises:
        DataError: the cohort is empty, or a case has no label or cannot be read; or no case has a class, and
            `empty` leaves it out.
        InputError: a metric is unknown.
    """
    if not cohort.cases:
        raise DataError("no case to score", where=str(cohort.path))
    check_metrics(metrics)

    mine = cohort if peers is None else _part_of(cohort, peers.ranks)
    per_case: dict[str, dict[str, Any]] = {}
    with in_eval_mode(network, device):
        for whole in predicted_wholes(
            network, mine, task, device, batch_size=batch_size, window=window, kwargs=kwargs
        ):
            found = score_case(
                whole.prediction,
                whole.label,
                cohort.classes,
                metrics,
                whole.spacing,
                regions=cohort.regions,
                tolerance=tolerance,
                empty=empty,
            )
            per_case[whole.volume] = {"subject": whole.subject, **found}
    if peers is not None:
        per_case = {name: row for part in peers.gather(per_case) for name, row in part.items()}
    return _summarise({name: per_case[name] for name in sorted(per_case)}, cohort)


class Peers(Protocol):
    """Processes that share an evaluation."""

    @property
    def ranks(self) -> Ranks:
        """Which one this is, of how many."""

    def gather(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the values of all processes."""


def _part_of(cohort: Cohort, ranks: Ranks) -> Cohort:
    """Return the cases that one process scores; the slices of a volume stay together."""
    volumes = list(dict.fromkeys(case.volume for case in cohort.cases))
    mine = set(volumes[ranks.rank :: ranks.size])
    return replace(cohort, cases=tuple(case for case in cohort.cases if case.volume in mine))


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole case on the grid it is scored on, its slices put together.

    Attributes:
        volume: its id.
        subject: of the case.
        prediction: int64 `(*spatial)`.
        label: int64 `(*spatial)`.
        spacing: size of a pixel or voxel in mm.
    """

    volume: str
    subject: str
    prediction: Tensor
    label: Tensor
    spacing: tuple[float, ...]


def predicted_wholes(
    network: Network,
    cohort: Cohort,
    task: Task,
    device: torch.device | str = "cpu",
    *,
    batch_size: int = 8,
    window: Window | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Iterator[Whole]:
    """Yield each whole case with what a network sees in it; the arguments are those of `evaluate`.

    Raises:
        DataError: a case has no label or cannot be read, or the network does not take its image.
    """

    def run(image: Tensor) -> Tensor:
        seen = window or cohort.preparation.window
        return predict_logits(network, image.to(device), task, window=seen, kwargs=kwargs)

    return _whole(cohort, _predicted(cohort, task, run, batch_size))


def _summarise(per_case: dict[str, dict[str, Any]], cohort: Cohort) -> Scores:
    per_class = {}
    for name in cohort.classes[1:]:
        mean = _mean([values["dice"][name] for values in per_case.values()])
        if mean is None:
            raise DataError(
                f"no case has the class {name!r}, in prediction or label",
                where=str(cohort.path),
                fix="count a class that is in neither as found (empty=perfect)",
            )
        per_class[name] = mean
    return Scores(sum(per_class.values()) / len(per_class), per_class, per_case)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


@contextlib.contextmanager
def in_eval_mode(network: Network, device: torch.device | str) -> Iterator[None]:
    """Put a module on a device and in eval mode, and afterwards each part back in the mode it was in."""
    if not isinstance(network, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in network.modules()]
    network.to(device).eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass(frozen=True, slots=True)
class _Part:
    """A case with what the network saw in it, `(*spatial)` on the grid it is scored on."""

    case: Case
    prediction: Tensor
    label: Tensor
    spacing: tuple[float, ...]
    between: float | None


def _predicted(
    cohort: Cohort, task: Task, run: Callable[[Tensor], Tensor], batch_size: int
) -> Iterator[_Part]:
    """Yield each case with its prediction; samples of one shape are run together."""
    waiting: dict[tuple[int, ...], list[tuple[Case, Sample]]] = {}

    def flush(pairs: list[tuple[Case, Sample]]) -> Iterator[_Part]:
        if pairs:
            images = torch.stack([sample.image for _, sample in pairs])
            try:
                logits = run(images)
            except (SurgeonError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise refusal(error, images, cohort, pairs[0][0].id) from error
            for (case, sample), one in zip(pairs, logits, strict=True):
                yield _part(case, sample, place_in_file(one, sample, task, cohort.preparation))

    for case in cohort.cases:
        if not case.has_label:
            raise DataError(
                f"case {case.id!r} has no label", where=str(cohort.path), fix="score labelled cases"
            )
        sample = cohort.read(case)
        same = waiting.setdefault(tuple(sample.image.shape), [])
        same.append((case, sample))
        if len(same) == batch_size:
            yield from flush(same)
            same.clear()
    for same in waiting.values():
        yield from flush(same)


def _part(case: Case, sample: Sample, prediction: Tensor) -> _Part:
    source = sample.source
    if source is not None:
        assert source.label is not None
        return _Part(case, prediction, source.label, source.spacing, sample.between)
    assert sample.label is not None
    label = sample.label[tuple(slice(start, stop) for start, stop in sample.region)]
    return _Part(case, prediction, label, sample.spacing, sample.between)


def _whole(cohort: Cohort, predicted: Iterator[_Part]) -> Iterator[Whole]:
    """Put the slices of each volume together as soon as all are there."""
    counts: dict[str, int] = {}
    for case in cohort.cases:
        counts[case.volume] = counts.get(case.volume, 0) + 1
    parts: dict[str, list[_Part]] = {}
    for part in predicted:
        name = part.case.volume
        parts.setdefault(name, []).append(part)
        if len(parts[name]) == counts[name]:
            yield _assembled(parts.pop(name))


def _assembled(parts: list[_Part]) -> Whole:
    parts = sorted(parts, key=lambda part: part.case.id)
    first = parts[0]
    cut = first.case.slice
    if cut is None:
        return Whole(first.case.volume, first.case.subject, first.prediction, first.label, first.spacing)
    assert first.between is not None
    return Whole(
        first.case.volume,
        first.case.subject,
        torch.stack([part.prediction for part in parts], cut[0]),
        torch.stack([part.label for part in parts], cut[0]),
        (*first.spacing[: cut[0]], first.between, *first.spacing[cut[0] :]),
    )
