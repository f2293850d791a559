"""What a network's output means: logits or probabilities, of which classes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from surgeon.data import Cohort, LabelRegions
from surgeon.errors import DataError, InputError
from surgeon.parity import tensors_in

from .losses import Total, alone, overlap_and_entropy, without_specks

_CLOSEST_TO_0 = 1e-6


class Activation(Enum):
    """What the network does to its last layer, and what is missing to a probability."""

    LOGITS_SIGMOID = "logits, sigmoid outside"
    LOGITS_SOFTMAX = "logits, softmax outside"
    PROBABILITIES = "probabilities, sigmoid inside"
    PROBABILITIES_SOFTMAX = "probabilities, softmax inside"

    @property
    def is_sigmoid(self) -> bool:
        """Whether each channel stands alone."""
        return self in (Activation.LOGITS_SIGMOID, Activation.PROBABILITIES)

    @property
    def is_inside(self) -> bool:
        """Whether the network gives probabilities."""
        return self in (Activation.PROBABILITIES, Activation.PROBABILITIES_SOFTMAX)


@dataclass(frozen=True, slots=True)
class Task:
    """How to read, train and score a network's output.

    A network with several outputs (deep supervision, auxiliary heads) is read by one of them, the answer; the
    others of as many channels, the largest first, count in the loss with half the weight of the one before.

    Attributes:
        activation: what the output is.
        classes: names, the background first.
        channels: of the output; 1 stands for one foreground class.
        spatial_dims: number of spatial axes.
        outputs: number of outputs that count in the loss.
        regions: the label values of each channel, where classes overlap; None where a class is a value.
        ignores: whether labels hold voxels that nobody has labelled (`IGNORED`), which count in no loss.
        answer: the place of the answer among the tensors that the network gives; None for the first of the
            largest.
    """

    activation: Activation
    classes: tuple[str, ...]
    channels: int
    spatial_dims: int
    outputs: int = 1
    regions: LabelRegions | None = None
    ignores: bool = False
    answer: int | None = None

    def logits(self, output: Any) -> Tensor:
        """Return the logits `(N, C, *spatial)` of the answer."""
        return self._to_logits(_maps(output, self.spatial_dims, self.answer)[0])

    def predict(self, output: Any, size: tuple[int, ...] | None = None) -> Tensor:
        """Return the classes, int64 `(N, *spatial)`.

        Args:
            output: of the network.
            size: spatial size that smaller outputs are interpolated to.
        """
        return self.classes_of(self.resized_logits(output, size))

    def resized_logits(self, output: Any, size: tuple[int, ...] | None) -> Tensor:
        """Return the logits `(N, C, *size)`, interpolated where the network gives smaller ones."""
        return _resized(self.logits(output), size)

    def classes_of(self, logits: Tensor) -> Tensor:
        """Return the label values, int64 `(N, *spatial)`, of logits `(N, C, *spatial)`."""
        if self.regions is not None:
            return self.regions.paint(logits > 0)
        if self.channels == 1:
            return (logits[:, 0] > 0).long()
        return _argmax(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities `(N, C, *spatial)` of logits."""
        return logits.sigmoid() if self.activation.is_sigmoid else logits.softmax(1)

    def loss(self, output: Any, label: Tensor, total: Total = alone) -> Tensor:
        """Return the sum of soft Dice and cross-entropy loss, a scalar.

        Args:
            output: of the network.
            label: int64 `(N, *spatial)`.
            total: adds up over the processes that share a batch; then the loss is that of the whole batch.
        """
        loss, weights = label.new_zeros((), dtype=torch.float32), 0.0
        for rank, tensor in enumerate(_heads(output, self.spatial_dims, self.answer)):
            wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
            logits, weight = without_specks(self._to_logits(wide)), 0.5**rank
            at = label[:, None]  # (N, 1, *spatial)
            if rank == 0:
                logits = _resized(logits, tuple(label.shape[1:]))
            elif logits.shape[2:] != label.shape[1:]:
                at = F.interpolate(at.float(), size=logits.shape[2:], mode="nearest-exact").long()
            loss = loss + weight * overlap_and_entropy(
                logits,
                at[:, 0],
                sigmoid=self.activation.is_sigmoid,
                regions=self.regions,
                ignores=self.ignores,
                total=total,
            )
            weights += weight
        return loss / weights

    @property
    def sentence(self) -> str:
        """What is understood of the output, for a person, before any work starts."""
        kind = "one foreground class" if self.channels == 1 else "one class for each voxel"
        if self.regions is not None:
            kind = "classes that overlap"
        read = "the first of the largest" if self.answer is None else f"output {self.answer}"
        heads = f", {self.outputs} outputs of which {read} is the answer" if self.outputs > 1 else ""
        return (
            f"output read as {self.activation.value}: {self.channels} channel(s){heads}, {kind}"
            f" ({', '.join(self.classes[1:])})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "activation": self.activation.value,
            "classes": list(self.classes),
            "channels": self.channels,
            "spatial_dims": self.spatial_dims,
            "outputs": self.outputs,
            **({} if self.regions is None else {"regions": self.regions.to_dict()}),
            **({"ignores": True} if self.ignores else {}),
            **({} if self.answer is None else {"answer": self.answer}),
        }

    def _to_logits(self, tensor: Tensor) -> Tensor:
        if not self.activation.is_inside:
            return tensor
        if self.activation.is_sigmoid:
            return torch.logit(tensor, eps=_CLOSEST_TO_0)
        return tensor.clamp_min(_CLOSEST_TO_0).log()


def _argmax(logits: Tensor) -> Tensor:
    """Return the first of the largest channels, int64 `(N, *spatial)`; torch is slow along axis 1."""
    best, found = logits[:, 0], torch.zeros_like(logits[:, 0], dtype=torch.int64)
    for channel in range(1, logits.shape[1]):
        found = torch.where(logits[:, channel] > best, channel, found)
        best = torch.maximum(best, logits[:, channel])
    return found


BEYOND = (30.0, -30.0)  # factors on a real image


def beyond(network: Callable[[Tensor], Any], image: Tensor) -> tuple[Any, ...]:
    """Run a network on images far outside the range of a real one.

    A sigmoid or a softmax stays between 0 and 1 there; a layer of logits that happens to lie there on one
    real image hardly does. What the network refuses is left out.
    """
    outputs = []
    for factor in BEYOND:
        with contextlib.suppress(Exception), torch.no_grad():
            outputs.append(network(image * factor))
    return tuple(outputs)


def are_bounded(maps: Sequence[Tensor]) -> bool:
    """Tell whether all values lie between 0 and 1, in the first map and in all other finite ones."""
    known = [one for one in maps if one.isfinite().all()]
    return all(bool(((one >= 0) & (one <= 1)).all()) for one in known or maps[:1])


def find_task(
    output: Any,
    cohort: Cohort,
    activation: Activation | None = None,
    further: tuple[Any, ...] = (),
    answer: int | None = None,
) -> Task:
    """Tell what an output means from its values, its channels and the classes of the data.

    Args:
        output: of the network in eval mode, on a real sample.
        cohort: names the classes.
        activation: what the output is; None tells it: values that all lie between 0 and 1 are probabilities.
        further: outputs on other images, see `beyond`.
        answer: the place of the segmentation among the tensors of the output, negative from the end; None
            for the first of the largest, among those whose channels match the classes if there are any.

    Raises:
        InputError: there is no map at that place.
        DataError: the output has no map of the data's rank, or its channels do not match the classes.
    """
    answer = (
        _find_answer(output, cohort)
        if answer is None
        else place_of_answer(output, answer, cohort.spatial_dims)
    )
    maps = _maps(output, cohort.spatial_dims, answer)
    if not maps:
        shapes = [tuple(tensor.shape) for tensor in tensors_in(output)]
        raise DataError(
            f"the network's output {shapes} holds no map of {cohort.spatial_dims} spatial axes",
            where=str(cohort.path),
            fix="use data of the network's rank",
        )
    channels, classes = maps[0].shape[1], len(cohort.classes)
    bounded = are_bounded([maps[0], *(_maps(one, cohort.spatial_dims, answer)[0] for one in further)])
    heads, ignores = len(_heads(output, cohort.spatial_dims, answer)), cohort.ignore is not None
    if cohort.regions is not None:
        task = _region_task(maps[0], cohort, activation, heads, bounded)
        return dataclasses.replace(task, ignores=ignores, answer=answer)
    if not _suits(channels, cohort):
        raise DataError(
            f"the network has {channels} output channels, the data {classes} classes"
            f" ({', '.join(cohort.classes)})",
            where=str(cohort.path),
            fix="use labels with the classes the network was trained for, or name them with classes",
        )
    found = activation or _tell(maps[0], bounded)
    return Task(found, cohort.classes, channels, cohort.spatial_dims, heads, ignores=ignores, answer=answer)


def _region_task(
    tensor: Tensor, cohort: Cohort, activation: Activation | None, outputs: int, bounded: bool
) -> Task:
    """Return the task of a network with a channel for each region, or one for each label value."""
    assert cohort.regions is not None
    channels, values = tensor.shape[1], max(cohort.regions.known) + 1
    names = ", ".join(cohort.classes[1:])
    if channels == len(cohort.regions.values):
        found = activation or (Activation.PROBABILITIES if bounded else Activation.LOGITS_SIGMOID)
        if found.is_sigmoid:
            return Task(found, cohort.classes, channels, cohort.spatial_dims, outputs, cohort.regions)
    if channels == values:
        return Task(
            activation or _tell(tensor, bounded), cohort.classes, channels, cohort.spatial_dims, outputs
        )
    raise DataError(
        f"the network has {channels} output channels, the data {len(cohort.regions.values)} regions ({names})"
        f" of {values} label values",
        where=str(cohort.path),
        fix="use a network with a sigmoid channel for each region, or a softmax channel for each label value",
    )


def _tell(tensor: Tensor, bounded: bool) -> Activation:
    if tensor.shape[1] == 1:
        return Activation.PROBABILITIES if bounded else Activation.LOGITS_SIGMOID
    if not bounded:
        return Activation.LOGITS_SOFTMAX
    total = tensor.float().sum(1)
    is_softmax = torch.allclose(total, torch.ones_like(total), atol=1e-3)
    return Activation.PROBABILITIES_SOFTMAX if is_softmax else Activation.PROBABILITIES


def rivals(output: Any, task: Task) -> tuple[int, ...]:
    """Return the places of the outputs that have the size and the channels of a task's answer."""
    dims = task.spatial_dims
    shape = _maps(output, dims, task.answer)[0].shape[1:]
    tensors = tensors_in(output)
    return tuple(place for place, x in enumerate(tensors) if _is_map(x, dims) and x.shape[1:] == shape)


def _suits(channels: int, cohort: Cohort) -> bool:
    """Tell whether so many channels can be the classes of the data."""
    if cohort.regions is not None:
        return channels in (len(cohort.regions.values), max(cohort.regions.known) + 1)
    classes = len(cohort.classes)
    return channels == classes or (channels, classes) == (1, 2)


def _find_answer(output: Any, cohort: Cohort) -> int | None:
    """Return the place of the largest map that can be the answer, where features are as large."""
    maps = _maps(output, cohort.spatial_dims, None)
    suiting = [one for one in maps if _suits(one.shape[1], cohort)]
    if not suiting or suiting[0] is maps[0]:
        return None
    return next(place for place, x in enumerate(tensors_in(output)) if x is suiting[0])


def place_of_answer(output: Any, answer: int, dims: int) -> int:
    """Return the place of a map among the tensors of an output, counted from the front.

    Args:
        output: of a network.
        answer: the place, negative from the end.
        dims: spatial axes of its maps.

    Raises:
        InputError: there is no map at that place.
    """
    tensors = tensors_in(output)
    maps = [place for place, x in enumerate(tensors) if _is_map(x, dims)]
    place = answer + len(tensors) if answer < 0 else answer
    if place not in maps:
        found = ", ".join(f"{place} {tuple(tensors[place].shape)}" for place in maps)
        raise InputError(
            f"output {answer} of the network is no map of {dims} spatial axes",
            where="answer",
            fix=f"its maps are: {found or 'none'}",
        )
    return place


def _is_map(x: Tensor, dims: int) -> bool:
    return x.ndim == dims + 2 and x.is_floating_point()


def _maps(output: Any, dims: int, answer: int | None) -> list[Tensor]:
    """List the tensors `(N, C, *spatial)` of an output: the answer, and the others, the largest first."""
    tensors = tensors_in(output)
    places = [place for place, x in enumerate(tensors) if _is_map(x, dims)]
    places.sort(key=lambda place: (place != answer, -tensors[place].shape[2:].numel()))
    return [tensors[place] for place in places]


def _heads(output: Any, dims: int, answer: int | None) -> list[Tensor]:
    maps = _maps(output, dims, answer)
    return [x for x in maps if x.shape[1] == maps[0].shape[1]]


def _resized(logits: Tensor, size: tuple[int, ...] | None) -> Tensor:
    if size is None or tuple(logits.shape[2:]) == tuple(size):
        return logits
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(logits, size=tuple(size), mode=mode, align_corners=False)
