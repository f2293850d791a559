"""Hosts given as a TorchScript program, scripted or traced."""

from __future__ import annotations

from pathlib import Path

import torch

from surgeon.checkpoints import read_script
from surgeon.errors import HostError

# Where these operations say that they run as in training.
_TRAINS = {"aten::batch_norm": 5, "aten::dropout": 2, "aten::feature_dropout": 2}


def open_script(file: Path) -> torch.jit.ScriptModule:
    """Open a TorchScript program in eval mode.

    Args:
        file: what `torch.jit.save` wrote.

    Raises:
        CheckpointError: the file cannot be read.
        HostError: the program was traced in training mode.
    """
    network = read_script(file)
    network.eval()
    _check_mode(network, file)
    return network


def _check_mode(network: torch.jit.ScriptModule, file: Path) -> None:
    graph = network.inlined_graph  # held, since its nodes go with it
    for name, place in _TRAINS.items():
        for node in graph.findAllNodes(name):  # type: ignore[attr-defined]
            if list(node.inputs())[place].toIValue() is True:
                raise HostError(
                    "the program was traced in training mode",
                    where=f"{file}: {name.removeprefix('aten::')}",
                    fix="call network.eval() before torch.jit.trace",
                )
