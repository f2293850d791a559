"""An exported model as a network, to score what will be served."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.functional import one_hot

from surgeon.errors import RunError
from surgeon.filling import parts_of

if TYPE_CHECKING:
    from surgeon.data import Preparation

EXPORT_FILE = "export.json"


class ExportedNetwork(nn.Module):
    """Runs a model that `surgeon export` wrote; it has no parameters and gives no gradient.

    Args:
        run: from an image (N, C, *spatial) to outputs.
        spatial_dims: of the image.
        classes: channels that labels are spread over.
    """

    def __init__(self, run: Callable[[Tensor], list[Tensor]], spatial_dims: int, classes: int = 1) -> None:
        super().__init__()
        self._run = run
        self.classes = classes
        self.spatial_dims = spatial_dims

    @classmethod
    def open(cls, folder: Path) -> ExportedNetwork:
        """Open the folder of an export; a model of several images takes them of the channels of one.

        Raises:
            RunError: it holds no readable `export.json`.
            InputError: it holds no model.
        """
        from surgeon.export import open_session, run_session

        rank = len(_read(folder, lambda content: content["inputs"][0]["shape"]))
        shapes = _read(folder, lambda content: [entry["shape"] for entry in content["inputs"]])
        parts = [shape[1] for shape in shapes if len(shape) == rank]
        session = open_session(folder / "model.onnx")
        channels = session.get_modelmeta().custom_metadata_map.get("channels", "1")

        def run(image: Tensor) -> list[Tensor]:
            return run_session(session, image if len(parts) == 1 else parts_of(image, parts))

        return cls(run, rank - 2, int(channels))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the outputs (N, classes, *spatial) of an image (N, C, *spatial), or the only one.

        Labels (N, *spatial) come back as one channel for each class, or as one where the class is 0 or 1.
        """
        outputs = self._run(x)
        output = outputs[0]
        if output.is_floating_point():
            return output if len(outputs) == 1 else outputs
        if self.classes == 1:
            return output.unsqueeze(1).float()
        return one_hot(output.long(), self.classes).movedim(-1, 1).float()


def _read(folder: Path, pick: Callable[[Any], Any]) -> Any:
    path = folder / EXPORT_FILE
    try:
        return pick(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise RunError("the export cannot be read", where=str(path), fix="export it again") from error


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an exported model says of itself.

    Attributes:
        preparation: of its images.
        classes: names, the background first.
        answer: the place of the segmentation among its outputs.
    """

    preparation: Preparation | None = None
    classes: tuple[str, ...] | None = None
    answer: int | None = None


def read_recorded_data(folder: Path) -> Recorded:
    """Return what travels in the metadata of an exported model.

    Args:
        folder: of the export.
    """
    import onnx

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    recorded = {entry.key: entry.value for entry in model.metadata_props}
    classes, answer = recorded.get("classes"), recorded.get("answer")
    return Recorded(
        _read_preparation(recorded, str(folder)),
        None if classes is None else tuple(json.loads(classes)),
        None if answer is None else int(answer),
    )


def _read_preparation(recorded: Mapping[str, str], where: str) -> Preparation | None:
    """Return what is to be done to an image before the file sees it."""
    from surgeon.data import Preparation

    if "preparation" not in recorded:
        return None
    values = json.loads(recorded["preparation"])
    if "normalise" in json.loads(recorded.get("included", "[]")):
        steps = ("clip", "mean", "std")
        values = {name: value for name, value in values.items() if name not in steps} | {"scale": "none"}
    return Preparation.from_dict(values, where=where)
