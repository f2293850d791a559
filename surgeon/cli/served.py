"""An exported model as a network, to score what will be served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from surgeon.errors import RunError

if TYPE_CHECKING:
    from surgeon.data import Preparation

EXPORT_FILE = "export.json"


class ExportedNetwork(nn.Module):
    """Runs a model that `surgeon export` wrote; it has no parameters and gives no gradient.

    Args:
        run: from an image (N, C, *spatial) to outputs.
        spatial_dims: of the image.
    """

    def __init__(self, run: Callable[[Tensor], list[Tensor]], spatial_dims: int) -> None:
        super().__init__()
        self._run = run
        self.spatial_dims = spatial_dims

    @classmethod
    def open(cls, folder: Path) -> ExportedNetwork:
        """Open the folder of an export.

        Raises:
            RunError: it holds no readable `export.json`.
            InputError: it holds no model.
        """
        from surgeon.export import open_session, run_session

        rank = len(_read(folder, lambda content: content["inputs"][0]["shape"]))
        session = open_session(folder / "model.onnx")
        return cls(lambda image: run_session(session, image), rank - 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the first output (N, classes, *spatial) of an image (N, C, *spatial)."""
        return self._run(x)[0]


def _read(folder: Path, pick: Callable[[Any], Any]) -> Any:
    path = folder / EXPORT_FILE
    try:
        return pick(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise RunError("the export cannot be read", where=str(path), fix="export it again") from error


def read_recorded_data(folder: Path) -> tuple[Preparation | None, tuple[str, ...] | None]:
    """Return the preparation and the classes that travel in the metadata of an exported model.

    Args:
        folder: of the export.
    """
    import onnx

    from surgeon.data import Preparation

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    recorded = {entry.key: entry.value for entry in model.metadata_props}
    preparation = recorded.get("preparation")
    classes = recorded.get("classes")
    return (
        None if preparation is None else Preparation.from_dict(json.loads(preparation), where=str(folder)),
        None if classes is None else tuple(json.loads(classes)),
    )
