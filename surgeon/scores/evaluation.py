"""A network scored on whole cases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.data import Case, Cohort, Sample
from surgeon.errors import DataError

from .overlap import score_case
from .tasks import Task

Network = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a network on whole cases.

    Attributes:
        dice_mean: mean over the foreground classes of `dice_per_class`.
        dice_per_class: for each foreground class the mean over the cases.
        per_case: for each case `{"subject": ..., "dice": {class: value}, ...}`, with the metrics asked for.
    """

    dice_mean: float
    dice_per_class: dict[str, float]
    per_case: dict[str, dict[str, Any]]

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


def evaluate(
    network: Network,
    cohort: Cohort,
    task: Task,
    device: torch.device | str = "cpu",
    *,
    batch_size: int = 8,
    window: tuple[int, ...] | None = None,
    overlap: float = 0.5,
    metrics: Sequence[str] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Scores:
    """Score a network on every case of a cohort; slices are put together to volumes first.

    Padding is left out. Dice is counted in whole numbers and divided in double precision; a class that is
    in neither prediction nor label scores 1.

    Args:
        network: a module, which is moved to the device and run in eval mode, or any callable.
        cohort: with labels.
        task: how to read the output.
        device: to run on.
        batch_size: samples of one shape that are run at once.
        window: spatial size of a sliding window (MONAI, Gaussian weights); None runs whole samples.
        overlap: share by which windows overlap.
        metrics: of `iou`, `hd95` and `assd` (mm), beside Dice.
        kwargs: keyword inputs of the network.

    Raises:
        DataError: the cohort is empty, or a case has no label or cannot be read.
        InputError: a metric is unknown.
    """
    if not cohort.cases:
        raise DataError("no case to score", where=str(cohort.path))

    def run(image: Tensor) -> Tensor:
        return predict(network, image.to(device), task, window=window, overlap=overlap, kwargs=kwargs).cpu()

    per_case: dict[str, dict[str, Any]] = {}
    with in_eval_mode(network, device):
        for cases, prediction, label, spacing in _whole(cohort, _predicted(cohort, run, batch_size)):
            found = score_case(prediction, label, cohort.classes, metrics, spacing)
            per_case[cases[0].volume] = {"subject": cases[0].subject, **found}
    ordered = {name: per_case[name] for name in sorted(per_case)}
    per_class = {
        name: sum(values["dice"][name] for values in ordered.values()) / len(ordered)
        for name in cohort.classes[1:]
    }
    return Scores(sum(per_class.values()) / len(per_class), per_class, ordered)


@torch.no_grad()
def predict(
    network: Network,
    image: Tensor,
    task: Task,
    *,
    window: tuple[int, ...] | None = None,
    overlap: float = 0.5,
    kwargs: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the classes that a network sees in prepared images, int64 `(N, *spatial)`.

    Args:
        network: already on the image's device, in eval mode.
        image: `(N, C, *spatial)`.
        task: how to read the output.
        window: spatial size of a sliding window; None runs the images whole.
        overlap: share by which windows overlap.
        kwargs: keyword inputs of the network.
    """
    extra = dict(kwargs or {})
    size = tuple(image.shape[2:])
    if window is None:
        return task.predict(network(image, **extra), size)
    from monai.inferers import sliding_window_inference

    def logits(patch: Tensor) -> Tensor:
        return task.resized_logits(network(patch, **extra), tuple(patch.shape[2:]))

    whole = sliding_window_inference(image, window, 1, logits, overlap=overlap, mode="gaussian")
    return task.classes_of(whole)


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


def _predicted(
    cohort: Cohort, run: Callable[[Tensor], Tensor], batch_size: int
) -> Iterator[tuple[Case, Sample, Tensor]]:
    """Yield each case with its prediction `(*spatial)`; samples of one shape are run together."""
    waiting: dict[tuple[int, ...], list[tuple[Case, Sample]]] = {}
    for case in cohort.cases:
        if case.label is None:
            raise DataError(
                f"case {case.id!r} has no label", where=str(cohort.path), fix="score labelled cases"
            )
        sample = cohort.read(case)
        same = waiting.setdefault(tuple(sample.image.shape), [])
        same.append((case, sample))
        if len(same) == batch_size:
            yield from _flush(same, run)
            same.clear()
    for same in waiting.values():
        yield from _flush(same, run)


def _flush(
    pairs: list[tuple[Case, Sample]], run: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Case, Sample, Tensor]]:
    if pairs:
        predictions = run(torch.stack([sample.image for _, sample in pairs]))
        for (case, sample), prediction in zip(pairs, predictions, strict=True):
            yield case, sample, prediction


def _whole(
    cohort: Cohort, predicted: Iterator[tuple[Case, Sample, Tensor]]
) -> Iterator[tuple[list[Case], Tensor, Tensor, tuple[float, ...]]]:
    """Yield prediction and label of each whole case, padding cut off."""
    counts: dict[str, int] = {}
    for case in cohort.cases:
        counts[case.volume] = counts.get(case.volume, 0) + 1
    parts: dict[str, list[tuple[Case, Sample, Tensor]]] = {}
    for case, sample, prediction in predicted:
        parts.setdefault(case.volume, []).append((case, sample, prediction))
        if len(parts[case.volume]) == counts[case.volume]:
            yield _assembled(parts.pop(case.volume))


def _assembled(
    parts: list[tuple[Case, Sample, Tensor]],
) -> tuple[list[Case], Tensor, Tensor, tuple[float, ...]]:
    parts = sorted(parts, key=lambda part: part[0].id)
    pairs = [_without_padding(sample, prediction) for _, sample, prediction in parts]
    cases = [case for case, _, _ in parts]
    spacing = parts[0][1].spacing
    cut = cases[0].slice
    if cut is None:
        return cases, *pairs[0], spacing
    prediction = torch.stack([pair[0] for pair in pairs], cut[0])
    label = torch.stack([pair[1] for pair in pairs], cut[0])
    between = parts[0][1].between
    assert between is not None
    return cases, prediction, label, (*spacing[: cut[0]], between, *spacing[cut[0] :])


def _without_padding(sample: Sample, prediction: Tensor) -> tuple[Tensor, Tensor]:
    assert sample.label is not None
    inside = tuple(slice(start, stop) for start, stop in sample.region)
    return prediction[inside], sample.label[inside]
