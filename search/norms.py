"""The norm of the cells, which several processes can share, and how they come to do so."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgeon.errors import InputError

from .fleet import Fleet


class BatchNorm(nn.Module):
    """BatchNorm for any number of spatial dimensions that survives a batch of one value per channel.

    In training it normalises by the batch, and falls back on the running statistics when the batch has a
    single value per channel (batch size 1 at the bottom of a U), where torch's own modules raise.

    The running statistics begin as the plain mean over the first batches: a search has few steps, and the
    zeros and ones of birth would stay in them for tens of steps.

    Statistics are of the batches of all processes (`synchronise`), and in float32 at least.

    Args:
        channels: number of channels C.
        affine: whether scale and shift are learnt.
        momentum: weight of a batch in the running statistics.

    Attributes:
        fleet: the processes that share a batch.
        follows: whether batches move the running statistics; not while activations are computed again.
    """

    epsilon = 1e-5
    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, channels: int, *, affine: bool = True, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.fleet = Fleet()
        self.follows = True

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x (N, C, *spatial)`."""
        by_batch = self.by_batch(x.shape[0] * math.prod(x.shape[2:]))
        if by_batch and self.fleet.size > 1:
            return self._across_processes(x)
        mean = variance = None
        if not by_batch:
            mean, variance = self.running_mean, self.running_var
        elif self.follows:
            mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        out = F.batch_norm(x, mean, variance, self.weight, self.bias, by_batch, 1.0, self.epsilon)
        if by_batch and mean is not None and variance is not None:
            self._move(mean, variance)
        return out

    def by_batch(self, positions: int) -> bool:
        """Tell whether a batch of that many values for each channel is normalised by itself.

        Args:
            positions: of this process; every process has at least one.
        """
        return self.training and positions * self.fleet.size > 1

    def _across_processes(self, x: Tensor) -> Tensor:
        """Normalise by the batch of all processes."""
        axes, across = (0, *range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
        wide = x if x.dtype == torch.float64 else x.float()
        here = wide.new_full((1,), x.shape[0] * math.prod(x.shape[2:]))
        sums = self.fleet.total(torch.cat([wide.sum(axes), here]))
        positions = sums[-1].detach()
        mean = sums[:-1] / positions
        centred = wide - mean.view(across)
        variance = self.fleet.total(centred.square().sum(axes)) / positions
        self.follow(mean, variance, positions)
        normed = centred * torch.rsqrt(variance + self.epsilon).view(across)
        if self.weight is not None and self.bias is not None:
            normed = torch.addcmul(self.bias.view(across), normed, self.weight.view(across))
        return normed.to(x.dtype)

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, positions: int | Tensor) -> None:
        """Move the running statistics towards a batch's mean and variance `(C,)` (divided by `positions`)."""
        if self.follows:
            self._move(mean, variance * (positions / (positions - 1)))

    def restart(self) -> None:
        """Let the running statistics begin anew with the next batch."""
        self.batches.zero_()

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, whose weight is 1, 1/2, 1/3, ..., `momentum`.

        The device counts, so that nobody waits for it, and a recorded pass goes on counting.
        """
        self.batches += 1
        weight = self.batches.to(self.running_mean.dtype).reciprocal().clamp_min(self.momentum)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def synchronise(implants: nn.Module, fleet: Fleet) -> None:
    """Let the norms of implants take their statistics from the batches of all processes.

    Raises:
        InputError: an operation holds a BatchNorm of torch's, which sees its own process alone.
    """
    for name, module in implants.named_modules():
        if isinstance(module, BatchNorm):
            module.fleet = fleet
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and fleet.size > 1:
            raise InputError(
                f"{type(module).__name__} would see the images of its own process alone",
                where=f"implant {name}, {fleet.size} processes",
                fix="build the operation with surgeon.search.operations.BatchNorm, or use one device",
            )
