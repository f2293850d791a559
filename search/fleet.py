"""The processes that share an operation, one for each device: what they tell each other, and how they end.

Every process runs the whole operation and takes the same decisions. It computes on its share of each batch
and of the cases that are measured; sums over the batch (losses, statistics of norms, gradients) are summed
over all shares, so that the number of processes changes results by rounding alone.

`torchrun` starts the processes and Lightning Fabric joins them. The network is not wrapped in
`DistributedDataParallel`: a step asks for the gradients of a few parameters (`torch.autograd.grad`), which
are summed in one message, and the cells' norms need sums of their own anyway.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from surgeon.errors import GateError, InputError, SurgeonError
from surgeon.ranks import Ranks, connect

Value = TypeVar("Value")
_GRACE = 20.0  # seconds in which a process may leave by itself after another one has failed


@dataclass(frozen=True, slots=True)
class Fleet:
    """One process among those that share an operation; by default the only one.

    Every method that speaks to the others must be called by all of them, in the same order.

    Attributes:
        ranks: which one this is, of how many.
        device: that it computes on.
    """

    ranks: Ranks = field(default_factory=Ranks)
    device: torch.device = field(default=torch.device("cpu"))

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.ranks.size

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.ranks.is_first

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes; gradients flow back to every one of them."""
        if self.size == 1:
            return x
        summed: Tensor = _Total.apply(x)
        return summed

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums of tensors of one type over all processes, without gradients, in one message."""
        if self.size == 1 or not tensors:
            return list(tensors)
        bucket = torch.cat([x.detach().flatten() for x in tensors])
        dist.all_reduce(bucket)
        parts = torch.split(bucket, [x.numel() for x in tensors])
        return [part.view(x.shape) for part, x in zip(parts, tensors, strict=True)]

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is up in any process."""
        if self.size == 1:
            return flag
        raised = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(raised)
        return bool(raised.item())

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def first(self, make: Callable[[], Value]) -> Value:
        """Let the first process make a value, and return it in all; its error is everybody's error."""
        if self.size == 1:
            return make()
        answer: list[Any] = [None]
        if self.is_first:
            answer = [_attempt(make)]
        dist.broadcast_object_list(answer, src=0)
        if isinstance(answer[0], SurgeonError):
            raise answer[0]
        value: Value = answer[0]
        return value

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def check_same(self, what: str, value: Any, fix: str) -> None:
        """Refuse to go on where the processes do not hold the same.

        Raises:
            GateError: they differ.
        """
        held = self.gather(value)
        odd = [rank for rank, one in enumerate(held) if one != held[0]]
        if odd:
            raise GateError(
                f"{what} is not the same in all {self.size} processes",
                where=f"process {odd[0]} differs from process 0",
                fix=fix,
            )


class _Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs, and can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        summed = x.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        summed: Tensor = _Total.apply(gradient.contiguous())
        return summed


def _attempt(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except SurgeonError as error:
        return error


def open_fleet(device: torch.device) -> Fleet:
    """Join the processes that `torchrun` started for this command; without it, be alone.

    Args:
        device: what the user asked for; each process of a machine gets one of that kind.

    Raises:
        InputError: the machines have different numbers of processes, there are fewer devices than
            processes, or one device was named for several.
    """
    ranks = Ranks.of_environment()
    if ranks.size == 1:
        return Fleet(ranks, device)
    _check_devices(ranks, device)
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator=device.type,
        devices=ranks.local_size,
        num_nodes=ranks.size // ranks.local_size,
        strategy="ddp",
    )
    fabric.launch()
    return Fleet(ranks, fabric.device)


def _check_devices(ranks: Ranks, device: torch.device) -> None:
    if ranks.size % ranks.local_size:
        raise InputError(
            f"{ranks.local_size} processes on this machine do not divide {ranks.size} in all",
            where="torchrun",
            fix="start the same number of processes on every machine (--nproc-per-node)",
        )
    if device.index is not None:
        raise InputError(
            f"{ranks.size} processes cannot share {device}",
            where="device",
            fix=f"name the kind alone ({device.type}): every process gets a device of its own",
        )
    there = torch.cuda.device_count() if device.type == "cuda" else ranks.local_size
    if there < ranks.local_size:
        raise InputError(
            f"{ranks.local_size} processes for {there} CUDA devices",
            where="torchrun",
            fix=f"start at most {there} (--nproc-per-node {there}), or use --device cpu",
        )


@contextlib.contextmanager
def together(fleet: Fleet) -> Iterator[None]:
    """End this process when another one has failed inside the block and this one waits for it in vain."""
    store = connect() if fleet.size > 1 else None
    if store is None:
        yield
        return
    left = threading.Event()

    def look() -> None:
        watched = connect()
        while watched is not None and not left.wait(1.0):
            try:
                failed = watched.add("failed", 0)
            except RuntimeError:  # the launcher is gone
                failed = 1
            if failed and not left.wait(_GRACE):
                os._exit(1)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    except BaseException:
        with contextlib.suppress(RuntimeError):
            store.add("failed", 1)
        raise
    finally:
        left.set()
        looking.join(_GRACE)  # Python's end would abort the process while the thread is in torch's C++
