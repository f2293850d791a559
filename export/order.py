"""What to export and how, every option checked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import nn

from surgeon.errors import InputError
from surgeon.tracing import Example, run

from .targets import Precision, Target


class SizePolicy(Enum):
    """Which spatial sizes an export shall take."""

    FREE = "free"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Order:
    """What to export and how, every option checked."""

    model: nn.Module
    example: Example
    samples: tuple[Any, ...]
    name: str
    target: Target
    precision: Precision
    sizes: SizePolicy
    metadata: dict[str, Any]
    second_opinion: bool
    profile: bool = False
    steady: bool = False  # whether all norms are computed in steps, not by the runtime's kernel

    def host(self, example: Example) -> Any:
        """Run the original network."""
        return run(self.model, example)


def find_policy(name: str) -> SizePolicy:
    """Return the size policy of that name.

    Raises:
        InputError: there is none.
    """
    try:
        return SizePolicy(name)
    except ValueError:
        raise InputError(
            f"no size policy is called {name!r}", where="sizes", fix="choose one of free, fixed"
        ) from None
