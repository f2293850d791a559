"""Running statistics of norms that train in any mode, kept as they are while a network is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@contextlib.contextmanager
def kept_statistics(network: Any) -> Iterator[None]:
    """Give norms back the running statistics that they had.

    `F.batch_norm(..., training=True)` moves them whenever it runs, in evaluation as well; what it computes
    does not depend on them.

    Args:
        network: a module; of anything else nothing is kept.
    """
    buffers = network.named_buffers() if isinstance(network, nn.Module) else ()
    held = [(one, one.clone()) for name, one in buffers if name.rpartition(".")[2] in _STATISTICS]
    try:
        yield
    finally:
        with torch.no_grad():
            for one, value in held:
                if not torch.equal(one, value):
                    one.copy_(value)
