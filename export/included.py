"""What a file can do besides the network: normalise, average over flips, activate, and name the class."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.data import LabelRegions, Preparation
from surgeon.errors import InputError
from surgeon.parity import tensors_in
from surgeon.scores import BEYOND, are_bounded, place_of_answer
from surgeon.tracing import Example, image_shapes, map_tensors, run

_BYTE = 255.0
_MOST_LABELS = 256


class Include(Enum):
    """A step inside the file; they run in this order."""

    NORMALISE = "normalise"
    FLIPS = "flips"
    ACTIVATION = "activation"
    ARGMAX = "argmax"


class Activation(Enum):
    """What makes probabilities of a network's output."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows the network.

    Attributes:
        index: of the output that is kept, the largest map.
        channels: of that output.
        is_probability: whether the network itself gives probabilities.
        activation: what is applied to it.
        flips: the axes to flip, of each pass after the first.
        argmax: whether labels, uint8 `(N, *spatial)`, are given.
        order: for each channel the label value that it paints over those before it, where classes overlap;
            empty where the largest channel is the label.
    """

    index: int
    channels: int
    is_probability: bool
    activation: Activation
    flips: tuple[tuple[int, ...], ...]
    argmax: bool
    order: tuple[int, ...] = ()

    @property
    def output(self) -> str:
        """Return the name of what it gives."""
        if self.argmax:
            return "labels"
        return "output" if self.activation is Activation.NONE else "probabilities"


def parse_includes(names: Iterable[str]) -> tuple[Include, ...]:
    """Return the steps of those names, in the order they run.

    Raises:
        InputError: one is unknown.
    """
    known = [step.value for step in Include]
    wanted = set(names)
    if wanted - set(known):
        raise InputError(
            f"nothing to include is called {sorted(wanted - set(known))[0]!r}",
            where="include",
            fix=f"choose among {', '.join(known)}",
        )
    return tuple(step for step in Include if step.value in wanted)


class Included(nn.Module):
    """A network with steps before and after it.

    Args:
        network: gives maps `(N, C, *spatial)`.
        normalise: from raw intensities to what the network reads; None leaves that outside.
        tail: what follows; None leaves the outputs as they are.
    """

    def __init__(self, network: nn.Module, normalise: Normalise | None, tail: Tail | None) -> None:
        super().__init__()
        self.network = network
        self.normalise = normalise
        self.tail = tail

    def forward(self, *images: Tensor, **kwargs: Any) -> Any:
        """Map images `(N, C, *spatial)` to what the tail gives."""
        if self.normalise is not None:
            images = tuple(self.normalise(image) for image in images)
        if self.tail is None:
            return self.network(*images, **kwargs)
        return {self.tail.output: _finish(self._scores(self.tail, images, kwargs), self.tail)}

    def to_raw(self, value: Any) -> Any:
        """Return an input of the file for one of the network."""
        if self.normalise is None or not isinstance(value, Tensor):
            return value
        return self.normalise.invert(value)

    def _scores(self, tail: Tail, images: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Tensor:
        """Run the network, the flips side by side in the batch, and average over them."""
        passes = ((), *tail.flips)
        flipped = tuple(
            torch.cat([image.flip(axes) if axes else image for axes in passes]) if tail.flips else image
            for image in images
        )
        scores = _activate(tensors_in(self.network(*flipped, **kwargs))[tail.index], tail.activation)
        if not tail.flips:
            return scores
        parts = scores.reshape(len(passes), -1, *scores.shape[1:])  # (passes, N, C, *spatial)
        turned = [parts[index].flip(axes) if axes else parts[index] for index, axes in enumerate(passes)]
        return torch.stack(turned).mean(0)


def include(
    network: nn.Module,
    example: Example,
    steps: Sequence[Include],
    preparation: Preparation | None,
    *,
    regions: LabelRegions | None = None,
    answer: int | None = None,
) -> tuple[Included, Example]:
    """Put steps around a network.

    Args:
        network: in evaluation mode.
        example: inputs it takes.
        steps: what to put around it.
        preparation: how its inputs are normalised.
        regions: what label values its channels are made of, where its classes overlap.
        answer: the place of the segmentation among its outputs; None for the first of the largest.

    Returns:
        the network with the steps and inputs for it: raw intensities where it normalises itself.

    Raises:
        InputError: a step does not suit the network, or there is nothing to normalise by.
    """
    normalise = Normalise(preparation, example) if Include.NORMALISE in steps else None
    wants_tail = bool({Include.FLIPS, Include.ACTIVATION, Include.ARGMAX} & set(steps))
    tail = _plan_tail(network, example, steps, regions, answer) if wants_tail else None
    made = Included(network, normalise, tail).eval()
    return made, Example(tuple(made.to_raw(value) for value in example.args), example.kwargs)


class Normalise(nn.Module):
    """The intensity steps of a preparation: clip, scale, mean and deviation; images are not resized.

    Args:
        preparation: the steps. `unit` divides by 255: it takes the values of bytes.
        example: inputs of the network, all of them images.

    Raises:
        InputError: there is no step, or an input is no image.
    """

    def __init__(self, preparation: Preparation | None, example: Example) -> None:
        super().__init__()
        if preparation is None:
            raise InputError(
                "nothing says how images are normalised",
                where="include: normalise",
                fix="give a preparation, or leave normalise out",
            )
        of_whole = preparation.scale.value in ("minmax", "zscore") and preparation.window is not None
        if not preparation.scales_plainly or of_whole:
            raise InputError(
                "the intensities are scaled by statistics that the network's input does not show: of the "
                "whole image, or of what is not zero",
                where="include: normalise",
                fix="leave normalise out",
            )
        if example.kwargs or not all(isinstance(x, Tensor) and x.is_floating_point() for x in example.args):
            raise InputError(
                "not every input is an image", where="include: normalise", fix="leave normalise out"
            )
        self.preparation = preparation
        ones = [1] * (len(image_shapes(example)[0]) - 2)
        for name, values, neutral in (("mean", preparation.mean, 0.0), ("std", preparation.std, 1.0)):
            self.register_buffer(name, torch.tensor(values or (neutral,)).reshape(1, -1, *ones))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise raw images `(N, C, *spatial)`, each by itself."""
        if self.preparation.clip is not None:
            x = x.clamp(*self.preparation.clip)
        return (self._scaled(x) - self.mean) / self.std

    def invert(self, x: Tensor) -> Tensor:
        """Return raw images that are normalised to `x`, up to clipping and an image's own statistics."""
        raw = x * self.std + self.mean
        return raw * _BYTE if self.preparation.scale.value == "unit" else raw

    def _scaled(self, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        scale = self.preparation.scale.value
        if scale == "unit":
            return x / _BYTE
        if scale == "minmax":
            low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
            return (x - low) / (high - low).clamp_min(1e-8)
        if scale == "zscore":
            centred = x - x.mean(axes, keepdim=True)
            deviation = centred.square().mean(axes, keepdim=True).sqrt()
            return centred / deviation.clamp_min(1e-8)
        return x


def find_answer(network: nn.Module, example: Example, answer: int) -> int:
    """Return the place of a map among the outputs of a network, counted from the front.

    Raises:
        InputError: there is none at that place.
    """
    with torch.no_grad():
        return place_of_answer(run(network, example), answer, len(image_shapes(example)[0]) - 2)


def _plan_tail(
    network: nn.Module,
    example: Example,
    steps: Sequence[Include],
    regions: LabelRegions | None,
    answer: int | None,
) -> Tail:
    rank = len(image_shapes(example)[0])
    with torch.no_grad():
        outputs = tensors_in(run(network, example))
    maps = [index for index, x in enumerate(outputs) if x.ndim == rank and x.is_floating_point()]
    if not maps:
        raise InputError(
            "the network gives no map of classes", where="include", fix="include normalise alone, or nothing"
        )
    largest = max(maps, key=lambda place: outputs[place].shape[2:].numel())
    index = largest if answer is None else answer
    scores = outputs[index]
    bounded = _is_bounded(network, example, index)
    # With a channel for each label value, the classes do not overlap in the network.
    order = regions.order if regions is not None and scores.shape[1] == len(regions.values) else ()
    activation = Activation.NONE
    if Include.ACTIVATION in steps:
        if bounded:
            raise InputError(
                "the network gives probabilities already",
                where="include: activation",
                fix="leave activation out",
            )
        activation = Activation.SIGMOID if order or scores.shape[1] == 1 else Activation.SOFTMAX
    values = max(order) + 1 if order else scores.shape[1]
    if Include.ARGMAX in steps and values > _MOST_LABELS:
        raise InputError(
            f"{values} classes do not fit into a byte",
            where="include: argmax",
            fix="leave argmax out",
        )
    axes = tuple(range(2, rank))
    flips = tuple(some for count in range(len(axes)) for some in itertools.combinations(axes, count + 1))
    return Tail(
        index,
        scores.shape[1],
        bounded,
        activation,
        flips if Include.FLIPS in steps else (),
        Include.ARGMAX in steps,
        order,
    )


def _is_bounded(network: nn.Module, example: Example, index: int) -> bool:
    """Tell whether an output stays between 0 and 1, also on images far beyond real ones."""
    answers = [tensors_in(run(network, example))[index]]
    for factor in BEYOND:
        with contextlib.suppress(Exception):
            far = map_tensors(example, functools.partial(torch.mul, factor))
            answers.append(tensors_in(run(network, far))[index])
    return are_bounded(answers)


def _activate(scores: Tensor, activation: Activation) -> Tensor:
    if activation is Activation.SIGMOID:
        return scores.sigmoid()
    return scores.softmax(1) if activation is Activation.SOFTMAX else scores


def _finish(scores: Tensor, tail: Tail) -> Tensor:
    if not tail.argmax:
        return scores
    if tail.channels > 1 and not tail.order:
        return scores.argmax(1).to(torch.uint8)
    border = 0.5 if tail.is_probability or tail.activation is not Activation.NONE else 0.0
    label = torch.zeros_like(scores[:, 0], dtype=torch.uint8)
    for channel, value in enumerate(tail.order or (1,)):
        label = torch.where(scores[:, channel] > border, value, label)
    return label.to(torch.uint8)
