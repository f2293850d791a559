"""One value for a traced host, whatever the way it was traced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import fx

from surgeon.parity import Difference


class Way(Enum):
    """How a graph was made."""

    GIVEN = "given"  # the host already was a graph
    EXPORT_FREE = "torch.export, free batch and sizes"
    EXPORT_FREE_BATCH = "torch.export, free batch"
    EXPORT_FIXED = "torch.export, fixed sizes"
    SYMBOLIC = "torch.fx symbolic tracing"
    EXPORT_GUIDED = "torch.export, sizes read from tensors"
    EXPORT_GUIDED_FIXED = "torch.export, sizes read from tensors and fixed"
    SCRIPT_CONVERTED = "TorchScript, translated"
    SCRIPT_RECORDED = "TorchScript, recorded on the example"


@dataclass(frozen=True, slots=True)
class Limits:
    """The spatial sizes that torch.export found a graph to hold for.

    Attributes:
        smallest: of any axis.
        largest: of any axis; None where there is no limit.
        step: sizes differ from `like` by multiples of this.
        like: sizes of the axes that the graph holds for; empty where the step is 1.
    """

    smallest: int = 1
    largest: int | None = None
    step: int = 1
    like: tuple[int, ...] = ()

    def __str__(self) -> str:
        ends = f"sizes from {self.smallest} " + ("on" if self.largest is None else f"to {self.largest}")
        if self.step == 1:
            return ends
        return f"{ends} in steps of {self.step} from {' x '.join(map(str, self.like))}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; the step only where there is one."""
        steps = {} if self.step == 1 else {"step": self.step, "like": list(self.like)}
        return {"smallest": self.smallest, "largest": self.largest, **steps}

    def hold(self, sizes: Sequence[int]) -> bool:
        """Tell whether a graph holds for an image of these spatial sizes."""
        # One by one, so that sizes which are free while a graph is traced are limited one by one.
        for size in sizes:
            if size < self.smallest or (self.largest is not None and size > self.largest):
                return False
        return all((size - one) % self.step == 0 for size, one in zip(sizes, self.like, strict=False))


@dataclass(frozen=True, slots=True)
class Example:
    """Example inputs of a host: positional and keyword."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Replay:
    """The graph compared with the host on one set of inputs.

    Attributes:
        what: `example`, `batch` or `size`.
        shapes: the input shapes it ran on.
        difference: between host and graph; None when the host itself refuses these inputs.
        remark: why there is no difference.
    """

    what: str
    shapes: tuple[tuple[int, ...], ...]
    difference: Difference | None
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "what": self.what,
            "shapes": [list(shape) for shape in self.shapes],
            "difference": self.difference.to_dict() if self.difference else None,
            "remark": self.remark,
        }


@dataclass(frozen=True, slots=True)
class Attempt:
    """A way of tracing that was tried and not used, and why."""

    way: Way
    reason: str


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a reader needs to know of a trace.

    Attributes:
        way: how the graph was made.
        free_batch: whether another batch size replays equal.
        free_sizes: whether another spatial size replays equal.
        stride: the smallest step, in powers of two, by which the host lets its spatial sizes grow; None
            when it lets them grow by none that was tried.
        graph_stride: the same of the graph, replayed equal to the host at that size.
        replays: what was compared.
        attempts: ways that were tried before.
        limits: the spatial sizes that the graph holds for, where the host goes another way for others and
            the graph refuses; None where it has no such limits.
    """

    way: Way
    free_batch: bool
    free_sizes: bool
    stride: int | None
    graph_stride: int | None
    replays: tuple[Replay, ...]
    attempts: tuple[Attempt, ...]
    limits: Limits | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "way": self.way.value,
            "free_batch": self.free_batch,
            "free_sizes": self.free_sizes,
            "stride": self.stride,
            "graph_stride": self.graph_stride,
            "replays": [replay.to_dict() for replay in self.replays],
            "attempts": [{"way": a.way.value, "reason": a.reason} for a in self.attempts],
            "limits": None if self.limits is None else self.limits.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """A host as a graph that was replayed against it.

    Attributes:
        graph_module: computes what the host computes in eval mode, on the host's own parameters; every
            node that makes a tensor carries `meta["shape"]` (a tuple of int, at the example's size) and
            `meta["module"]` (the qualified name of the host's module it runs in).
        example: the inputs it was traced on.
        host_name: class name of the host.
        summary: how it was made and what was compared.
    """

    graph_module: fx.GraphModule
    example: Example
    host_name: str
    summary: TraceSummary
