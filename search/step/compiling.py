"""The frozen parts of a host, compiled by torch: each once in a run, and for batches of one shape.

Every training builds a network of its own, but what is frozen in them is the same to the bit: equal parts
share what was compiled for the first of them. What is trained, and the implants, are never compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from surgeon.checkpoints import fingerprint

from .recomputing import Stretch, cut, run_stretches

Run = Callable[..., Any]


class Compiler:
    """Compiles modules whose parameters are frozen; one that was compiled before is given again."""

    def __init__(self) -> None:
        self._kept: dict[str, Run] = {}

    def compiled(self, module: fx.GraphModule) -> Run:
        """Return what runs a module; the module itself where it holds something that is trained."""
        if any(parameter.requires_grad for parameter in module.parameters()):
            return module
        text = f"{fingerprint(module)} {module.code}"
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self._kept:
            run: Run = torch.compile(module, dynamic=False)
            self._kept[key] = run
        return self._kept[key]


class CompiledHalves:
    """The two halves of a network with what the host computes in them compiled.

    Args:
        compiler: that compiles, and keeps.
        first: half of the network; None where there is none.
        second: the rest, with the implants.
        shape: of the images `(N, C, *spatial)` that it is for; others are to be computed as they were.
    """

    def __init__(
        self,
        compiler: Compiler,
        first: fx.GraphModule | None,
        second: fx.GraphModule,
        shape: tuple[int, ...],
    ) -> None:
        self.shape = shape
        self.first = None if first is None else compiler.compiled(first)
        self._inputs = tuple(node.name for node in second.graph.nodes if node.op == "placeholder")
        self._output = next(node for node in second.graph.nodes if node.op == "output")
        self._stretches = cut(second, None)
        self._runs = {
            stretch: compiler.compiled(stretch.module) if stretch.again else stretch.module
            for stretch in self._stretches
        }

    def takes(self, image: Tensor) -> bool:
        """Tell whether images are of the shape that this is for."""
        return tuple(image.shape) == self.shape

    def second(self, features: Sequence[Tensor]) -> Any:
        """Return the output of the second half."""
        given = dict(zip(self._inputs, features, strict=True))
        return run_stretches(self._stretches, given, self._output, self._run)

    def _run(self, stretch: Stretch, given: Sequence[Any]) -> Any:
        return self._runs[stretch](*given)
