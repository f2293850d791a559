"""A network of 2-D images in a file of free sizes, held against it at another batch and size."""

from pathlib import Path

import torch
from surgeon.export import Freedom, open_session, run_session, to_onnx
from torch import nn

from .networks import stir


def assert_exported_freely(network: nn.Module, out: Path) -> None:
    """Export a network of one channel with weights that count, and compare the file on other images."""
    network = stir(network)
    artifact = to_onnx(network, torch.rand(1, 1, 8, 8), out)
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    x = torch.rand(2, 1, 12, 10)
    (found,) = run_session(open_session(artifact.model), x)
    with torch.no_grad():
        torch.testing.assert_close(found, network(x), atol=1e-5, rtol=0)
