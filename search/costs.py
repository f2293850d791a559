"""What a network costs: parameters, floating-point operations and time."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_WARM_UP, _ROUNDS = 2, 11


def count_parameters(network: nn.Module) -> int:
    """Count the parameters of a network, each once."""
    return sum(parameter.numel() for parameter in network.parameters())


def peak_memory(device: torch.device) -> float | None:
    """Return the largest memory so far in MiB: allocated on a GPU, or resident for the whole process.

    None where the system does not say (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def device_memory(device: torch.device) -> float:
    """Return the memory of a device in bytes; infinite where the system does not say (Windows)."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError):
        return math.inf


@torch.no_grad()
def count_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Count the floating-point operations of a forward pass as torch does: convolutions, products."""
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return int(counter.get_total_flops())


@torch.no_grad()
def measure_latency(
    networks: Mapping[str, nn.Module], inputs: tuple[Tensor, ...], rounds: int = _ROUNDS
) -> dict[str, dict[str, float]]:
    """Time forward passes, the networks taking turns so that a busy machine slows all alike.

    Args:
        networks: in eval mode, by name.
        inputs: tensors `(N, C, *spatial)` on the networks' device.
        rounds: passes of each.

    Returns:
        milliseconds by name: `p50` and `p99`.
    """
    spent: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(_WARM_UP + rounds):
        for name, network in networks.items():
            start = time.perf_counter()
            network(*inputs)
            _wait(inputs[0].device)
            if turn >= _WARM_UP:
                spent[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {"p50": round(statistics.median(times), 4), "p99": round(_quantile(times, 0.99), 4)}
        for name, times in spent.items()
    }


def compare_costs(networks: Mapping[str, nn.Module], inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Return parameters, FLOPs and latency of networks on an input, as plain JSON."""
    return {
        "parameters": {name: count_parameters(network) for name, network in networks.items()},
        "flops": {name: count_flops(network, inputs) for name, network in networks.items()},
        "latency": measure_latency(networks, inputs),
        "input_shape": list(inputs[0].shape),
        "device": str(inputs[0].device),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _quantile(values: list[float], share: float) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(share))
