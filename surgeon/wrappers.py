"""What torch puts around a network, taken off."""

from __future__ import annotations

from torch import nn

# torch.compile keeps the network under the first name, DataParallel and its kin under the second.
_INNER = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
}


def innermost(network: nn.Module) -> nn.Module:
    """Return the network inside `torch.compile`, `DataParallel` and the like; any other as it is."""
    while type(network).__module__.startswith("torch.") and type(network).__name__ in _INNER:
        inner = getattr(network, _INNER[type(network).__name__])
        assert isinstance(inner, nn.Module)
        network = inner
    return network
