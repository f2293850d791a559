"""The mode of somebody's network."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def in_eval(network: Network) -> Network:
    """Switch a network to evaluation and return it: a `train` of its own may return nothing."""
    network.eval()
    return network
