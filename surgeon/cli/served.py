"""An exported model as a network, to score what will be served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from surgeon.errors import RunError

Run = Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]


class ExportedNetwork(nn.Module):
    """Runs a model that `surgeon export` wrote; has no parameters and needs no gradient.

    Args:
        run: from inputs by name to outputs.
        input_name: of the first input.
        spatial_dims: of that input.
    """

    def __init__(self, run: Run, input_name: str, spatial_dims: int) -> None:
        super().__init__()
        self._run = run
        self._input_name = input_name
        self.spatial_dims = spatial_dims

    @classmethod
    def open(cls, folder: Path) -> ExportedNetwork:
        """Open the folder of an export.

        Raises:
            RunError: it holds no readable `export.json` or no model.
        """
        from surgeon.export.runtime import open_session

        model = folder / "model.onnx"
        try:
            first = json.loads((folder / "export.json").read_text(encoding="utf-8"))["inputs"][0]
            name, rank = first["name"], len(first["shape"])
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise RunError(
                "the export cannot be read", where=str(folder / "export.json"), fix="export it again"
            ) from error
        if not model.is_file():
            raise RunError("the export has no model", where=str(model), fix="export it again")
        session = open_session(model)
        return cls(lambda inputs: session.run(None, inputs), name, rank - 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the first output (N, classes, *spatial) of an image (N, C, *spatial)."""
        outputs = self._run({self._input_name: np.ascontiguousarray(x.detach().cpu().numpy())})
        return torch.from_numpy(outputs[0]).to(x.device)
