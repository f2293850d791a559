"""Following the gradient of a loss: one optimizer, the batches it learns from, its learning rate."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.data import Loader

from .forward import Forward
from .gradients import Gradients
from .recording import Recorder

Computing = Callable[[], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Descent:
    """Moves some parameters of a network along the gradient of a loss.

    Attributes:
        forward: from a batch to the network's output and the labels.
        batches: that are learnt from.
        loss: of outputs and labels.
        optimizer: of the parameters.
        gradients: from the loss to the optimizer's step.
        computing: the block in which the network computes.
        held: parameters that move at other times; their gradients are not computed.
        clip: largest norm of the gradient; None for any.
        recorder: replays passes that are alike; None runs every one as it is.
    """

    forward: Forward
    batches: Loader
    loss: Callable[[Any, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    gradients: Gradients
    computing: Computing
    held: Sequence[nn.Parameter] = ()
    clip: float | None = None
    recorder: Recorder | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that move."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def put(self, epoch: int, step: int) -> Tensor:
        """Put the gradients of a batch's loss on the parameters, and return the loss.

        It stays on its device: to read it, a GPU would have to be waited for.
        """
        with held(self.held):
            with self.computing():
                drawn = self.forward.draw(self.batches, epoch, step)
            given = (drawn.label, *drawn.features)
            work = partial(self._differentiate, drawn.shape)
            loss, *gradients = (
                work(given) if self.recorder is None else self.recorder.run(work, given, drawn.shape)
            )
        self.gradients.put(gradients, self.parameters, self.optimizer)
        assert loss is not None
        return loss if self.recorder is None else loss.clone()

    def _differentiate(self, shape: tuple[int, ...], given: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Return the loss on a batch of images of a shape, and the gradients."""
        label, *features = given
        with self.computing():
            output = self.forward.finish(features, shape)
        loss = self.loss(output, label)
        return loss.detach(), *self.gradients.of(loss, self.parameters)

    def follow(self) -> None:
        """Make the optimizer's step."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.gradients.follow(self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return what the next step depends on, beside the parameters."""
        return {"optimizer": self.optimizer.state_dict(), "scale": self.gradients.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.gradients.load_state_dict(state["scale"])


@contextlib.contextmanager
def held(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let no gradients be computed for some parameters inside the block."""
    still = list(parameters)
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def cosine(start: float, end: float, share: float) -> float:
    """Return the rate at a share 0..1 of the way from start to end, on half a cosine.

    >>> cosine(1.0, 0.0, 0.0), round(cosine(1.0, 0.0, 0.5), 3)
    (1.0, 0.5)
    """
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def set_rate(optimizer: torch.optim.Optimizer, rate: float, factors: Iterable[float] = ()) -> None:
    """Set the learning rate of every parameter group, times the group's factor where factors are given."""
    scales = tuple(factors) or (1.0,) * len(optimizer.param_groups)
    for group, factor in zip(optimizer.param_groups, scales, strict=True):
        group["lr"] = rate * factor
