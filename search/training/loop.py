"""Epochs and steps of a phase that can be stopped between two steps and resumed as if it had not been."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from surgeon.errors import GateError, Stopped

from ..fleet import Fleet
from ..interrupts import StopRequest
from ..randomness import restore_rng, rng_state
from ..runs import RunFolder
from ..step.bill import Clock, Part

_READ_EVERY = 16
"""Steps after which a GPU's losses are read: each time it has to be waited for."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is, for a live display.

    Attributes:
        phase: `search`, `retrain` or the name of a baseline.
        epoch: epochs done.
        epochs: epochs in this phase.
        step: steps done in the epoch under way.
        steps: steps in an epoch.
        train_loss: mean of the epoch so far; of a GPU's it is read every few steps.
        validation_dice: of the last epoch done; None before.
        row: the epoch's line of the history when an epoch has just ended, else None.
        remaining: seconds that are left of the whole operation, at most; None where they were not estimated.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    train_loss: float
    validation_dice: float | None
    row: Mapping[str, Any] | None
    remaining: float | None = None


ProgressCallback = Callable[[Progress], None]


class Phase(Protocol):
    """What is stepped through: it trains, measures itself and can be saved between any two steps."""

    name: str
    epochs: int
    steps: int

    def begin_epoch(self, epoch: int) -> None:
        """Set what depends on the epoch alone, such as learning rates."""

    def step(self, epoch: int, step: int) -> Tensor | float:
        """Make one step and return its training loss."""

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Measure on the validation cases and return what goes into the history."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""


def add_up(sums: dict[str, float], more: Mapping[str, float]) -> None:
    """Add numbers to sums of the same names."""
    for name, value in more.items():
        sums[name] = sums.get(name, 0.0) + value


@dataclass(slots=True)
class Position:
    """How far a phase has come.

    Attributes:
        epoch: epochs done.
        step: steps done in the epoch under way.
        loss_sum: sum of the training losses in the epoch under way, of those that were read.
        read: number of these.
        seconds: time spent so far, earlier sittings included.
        epoch_seconds: of them in the epoch under way.
        rows: the history of the phase.
        spent: seconds by part of the work (`bill.Part`).
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    read: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    _unread: Tensor | None = None

    def take(self, loss: Tensor | float) -> None:
        """Count a step and its loss; read the losses if that keeps no device waiting, or is due."""
        self.step += 1
        if isinstance(loss, float):
            self.loss_sum, self.read = self.loss_sum + loss, self.read + 1
            return
        self._unread = loss.double() if self._unread is None else self._unread + loss
        if loss.device.type == "cpu" or self.step - self.read >= _READ_EVERY:
            self.settle()

    def settle(self) -> None:
        """Read the losses that have not been read yet."""
        if self._unread is not None:
            self.loss_sum += float(self._unread)
            self._unread, self.read = None, self.step

    def begin_epoch(self) -> None:
        """Come to the next epoch."""
        self.epoch, self.step, self.read = self.epoch + 1, 0, 0
        self.loss_sum = self.epoch_seconds = 0.0

    def spend(self, seconds: float) -> None:
        """Count time."""
        self.seconds += seconds
        self.epoch_seconds += seconds

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        self.settle()
        return {name: getattr(self, name) for name in self.__slots__ if not name.startswith("_")}


@dataclass(frozen=True, slots=True)
class Loop:
    """Runs phases one after the other.

    Attributes:
        stop: the user's request to stop.
        folder: where checkpoints go; None keeps nothing.
        progress: told of every step.
        history: rows of earlier phases.
        fleet: the processes that share the work.
        clock: of the phases.
        spent: seconds by part of the work in earlier phases.
        done: how far each phase that has ended came, by name.
        earlier: seconds of each phase in earlier sittings, by name.
    """

    stop: StopRequest
    folder: RunFolder | None = None
    progress: ProgressCallback | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    fleet: Fleet = field(default_factory=Fleet)
    clock: Clock = field(default_factory=Clock)
    spent: dict[str, float] = field(default_factory=dict)
    done: dict[str, Position] = field(default_factory=dict)
    earlier: dict[str, float] = field(default_factory=dict)

    def is_stopped(self) -> bool:
        """Tell whether the user asked any process to stop; all get the same answer."""
        return self.fleet.any(self.stop.requested)

    def check_stop(self) -> None:
        """End between two phases where the user asked for it.

        Raises:
            Stopped: they did.
        """
        if self.is_stopped():
            raise Stopped("stopped by the user", fix="the same command with --resume goes on from here")

    def run(self, phase: Phase) -> Position:
        """Run a phase to its end, from its checkpoint where there is one.

        Raises:
            Stopped: the user asked for it; the checkpoint is written.
            GateError: the training loss is not a finite number.
        """
        position = self._resume(phase)
        self.earlier[phase.name] = position.seconds
        while position.epoch < phase.epochs:
            with self._measuring(position):
                phase.begin_epoch(position.epoch)
            while position.step < phase.steps:
                self._step(phase, position)
            self._end_epoch(phase, position)
        self.history.extend(position.rows)
        add_up(self.spent, position.spent)
        self.done[phase.name] = position
        return position

    def _step(self, phase: Phase, position: Position) -> None:
        if self.is_stopped():
            add_up(position.spent, self.clock.take())
            self._save(phase, position)
            raise self._stopped(phase, position)
        start = time.perf_counter()
        loss = phase.step(position.epoch, position.step)
        position.take(loss)
        if position.step == phase.steps:
            position.settle()
        if not math.isfinite(position.loss_sum):
            raise GateError(
                f"the training loss is {float(loss)}",
                where=f"{phase.name}, epoch {position.epoch + 1}, step {position.step}",
                fix="lower the learning rate (adamw_rate, retrain_rate), or look at the images' intensities",
            )
        self.clock.rest()
        position.spend(time.perf_counter() - start)
        self._tell(phase, position, None)

    @contextlib.contextmanager
    def _measuring(self, position: Position) -> Iterator[None]:
        """Count the time of what is done between the steps."""
        add_up(position.spent, self.clock.take())
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.clock.take()  # what measuring may have trained is measuring
        position.spend(seconds)
        add_up(position.spent, {Part.MEASURING.value: seconds})

    def _end_epoch(self, phase: Phase, position: Position) -> None:
        with self._measuring(position):
            measured = phase.end_epoch(position.epoch)
        row = {
            "phase": phase.name,
            "epoch": position.epoch + 1,
            "train_loss": position.loss_sum / phase.steps,
            "seconds": round(position.epoch_seconds, 3),
            **measured,
        }
        position.rows.append(row)
        position.begin_epoch()
        self._save(phase, position)
        self._tell(phase, position, row)

    def _save(self, phase: Phase, position: Position) -> None:
        if self.folder is None:
            return
        if self.fleet.is_first:
            state = {"position": position.to_dict(), "phase": phase.state_dict(), "rng": rng_state()}
            self.folder.save(phase.name, state)
            self.folder.write_history([*self.history, *position.rows])
        self.fleet.wait()  # a process that leaves takes the others with it

    def _resume(self, phase: Phase) -> Position:
        folder = self.folder
        state = self.fleet.first(lambda: folder.load(phase.name)) if folder else None
        if state is None:
            return Position()
        phase.load_state_dict(state["phase"])
        restore_rng(state["rng"])
        position = Position(**state["position"])
        self._tell(phase, position, None)
        return position

    def _stopped(self, phase: Phase, position: Position) -> Stopped:
        epoch = f"epoch {position.epoch + 1} of {phase.epochs}"
        where = f"{phase.name}, {epoch}, step {position.step} of {phase.steps}"
        if self.folder is None:
            return Stopped(
                "stopped by the user; nothing was kept",
                where=where,
                fix="give a RUN folder to be able to resume",
            )
        return Stopped(
            "stopped by the user", where=where, fix="the same command with --resume goes on from here"
        )

    def _tell(self, phase: Phase, position: Position, row: Mapping[str, Any] | None) -> None:
        if self.progress is None:
            return
        loss = float(row["train_loss"]) if row else position.loss_sum / max(position.read, 1)
        last = position.rows[-1]["validation_dice"] if position.rows else None
        self.progress(
            Progress(phase.name, position.epoch, phase.epochs, position.step, phase.steps, loss, last, row)
        )
