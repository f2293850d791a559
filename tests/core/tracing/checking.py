"""Code that checks values; in a module of its own, since pytest writes the assertions of tests anew."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from surgeon.tracing.raising import quiet_answer
from tests.core.networks import conv


class Probe:
    """Keeps what is the quiet answer where its truth is asked for, and gives it."""

    def __init__(self) -> None:
        self.answers: list[bool | None] = []

    def __bool__(self) -> bool:
        answer = quiet_answer(sys._getframe(1))
        self.answers.append(answer)
        return bool(answer)


def asserted(x: Probe) -> None:
    assert x, f"{x} is out of range"


def asserted_not(x: Probe) -> None:
    assert not x


def asserted_both(x: Probe) -> None:
    assert x and x, "one of them is not"  # noqa: PT018 - two jumps


def complained(x: Probe) -> None:
    if x:
        message = "it is"
        raise ValueError(message)


def complained_otherwise(x: Probe) -> int:
    if x:
        return 1
    raise ValueError


def branched(x: Probe) -> int:
    return 1 if x else 2


def caught(x: Probe) -> int:
    try:
        if x:
            raise ValueError
    except ValueError:
        return 1
    return 2


def complained_after_all(x: Probe) -> None:
    if x:
        for _ in range(3):
            pass
        raise ValueError


class Careful(nn.Module):
    """Takes images between 0 and 1 alone."""

    def __init__(self, *, branches: bool = False) -> None:
        super().__init__()
        self.first, self.last, self.branches = conv(1, 4), conv(4, 2), branches

    def forward(self, x: Tensor) -> Tensor:
        assert torch.all(x >= 0) and torch.all(x <= 1), f"an image of {x.shape} is not between 0 and 1"  # noqa: PT018
        if x.isnan().any():
            raise ValueError("not a number")
        x = self.first(x)
        if self.branches and x.sum() > 0:
            x = -x
        return self.last(x.relu())
