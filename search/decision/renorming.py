"""The cheapest adaptation there is: a host's BatchNorm statistics estimated again on other images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@torch.no_grad()
def estimate_norms(network: fx.GraphModule, images: Iterable[Tensor]) -> int:
    """Put the mean of the batches' own statistics into every BatchNorm of a graph.

    Every layer is normalised by its batch while the next one is estimated, as in training.

    Args:
        network: a spliced network or a trace; its running statistics change.
        images: batches `(N, C, *spatial)` on the network's device.

    Returns:
        the number of BatchNorms; 0 where there is none.
    """
    network.eval()
    count = 0
    for number, image in enumerate(images, 1):
        interpreter = _Estimating(network, 1 / number)
        interpreter.run(image)
        count = interpreter.norms
    return count


class _Estimating(fx.Interpreter):
    """Runs a graph with every BatchNorm in training mode, at one momentum."""

    def __init__(self, network: fx.GraphModule, momentum: float) -> None:
        super().__init__(network)
        self.momentum = momentum
        self.norms = 0

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        read = _FORMS.get(target)
        if read is None:
            return super().call_function(target, args, kwargs)
        return read(args, kwargs, self._normalise)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if not isinstance(module, _NORMS) or module.running_mean is None:
            return super().call_module(target, args, kwargs)
        statistics = (module.running_mean, module.running_var)
        return self._normalise(args[0], statistics, (module.weight, module.bias), module.eps)

    def _normalise(
        self, x: Tensor, statistics: tuple[Any, Any], affine: tuple[Any, Any], eps: float
    ) -> Tensor:
        self.norms += 1
        return F.batch_norm(x, *statistics, *affine, True, self.momentum, eps)


Normalise = Callable[[Tensor, tuple[Any, Any], tuple[Any, Any], float], Tensor]


def _aten(args: tuple[Any, ...], kwargs: dict[str, Any], normalise: Normalise) -> Tensor:
    x, weight, bias, mean, var, _, _, eps = args[:8]
    del kwargs
    return normalise(x, (mean, var), (weight, bias), eps)


def _decomposed(args: tuple[Any, ...], kwargs: dict[str, Any], normalise: Normalise) -> tuple[Tensor, ...]:
    x, weight, bias, mean, var, _, eps = args[:7]
    del kwargs
    return normalise(x, (mean, var), (weight, bias), eps), x.new_empty(0), x.new_empty(0)


def _functional(args: tuple[Any, ...], kwargs: dict[str, Any], normalise: Normalise) -> Tensor:
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    affine = (given.get("weight"), given.get("bias"))
    return normalise(
        given["input"], (given["running_mean"], given["running_var"]), affine, given.get("eps", 1e-5)
    )


_FORMS: Mapping[Any, Callable[[tuple[Any, ...], dict[str, Any], Normalise], Any]] = {
    torch.ops.aten.batch_norm.default: _aten,
    torch.ops.aten._native_batch_norm_legit_no_training.default: _decomposed,
    F.batch_norm: _functional,
}
