"""The model repository of an export: `triton/<name>/config.pbtxt`, `configs/cpu.pbtxt`, `1/model.onnx`."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format  # type: ignore[import-untyped]
from torch import Tensor

from surgeon.errors import ExportError
from surgeon.files import write_text

if TYPE_CHECKING:
    from surgeon.export.artifact import Artifact
    from surgeon.export.onnx import Port

_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "float64": "TYPE_FP64",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}
_LARGEST_BATCH = 8
# What a request may wait for others to share its batch.
_QUEUE_MICROSECONDS = 100


def write_repository(artifact: Artifact, folder: Path, inputs: Sequence[Tensor]) -> Path:
    """Write a model repository beside an export.

    Args:
        artifact: what was exported.
        folder: where `model.onnx` lies; the repository becomes `triton/` in it.
        inputs: the example, whose sizes the server warms up on.

    Returns:
        the folder to start Triton with.

    Raises:
        ExportError: an input has a type that Triton does not know, or its parser refuses the configuration.
    """
    model = folder / "triton" / artifact.name
    texts = {kind: model_config(artifact, inputs, kind) for kind in ("KIND_GPU", "KIND_CPU")}
    for text in texts.values():
        check_config(text)
    write_text(model / "config.pbtxt", texts["KIND_GPU"])
    write_text(model / "configs" / "cpu.pbtxt", texts["KIND_CPU"])
    (model / "1").mkdir()
    shutil.copyfile(folder / "model.onnx", model / "1" / "model.onnx")
    return folder / "triton"


def model_config(artifact: Artifact, inputs: Sequence[Tensor], kind: str) -> str:
    """Return the text of a `config.pbtxt`.

    Args:
        artifact: what was exported.
        inputs: the example.
        kind: `KIND_GPU` or `KIND_CPU`, where its instances run.
    """
    batched = all(port.shape[:1] == ("batch",) for port in (*artifact.inputs, *artifact.outputs))
    blocks = [
        f'name: "{artifact.name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {_LARGEST_BATCH if batched else 0}",
        *(_port("input", port, batched) for port in artifact.inputs),
        *(_port("output", port, batched) for port in artifact.outputs),
        f"instance_group [ {{ count: 1 kind: {kind} }} ]",
        "version_policy { latest { num_versions: 1 } }",
    ]
    if batched:
        blocks.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_QUEUE_MICROSECONDS} }}")
    if kind == "KIND_GPU":
        # Set even where it is the default: any parameter at all resets it to the exhaustive search.
        search = "1" if artifact.freedom.sizes else "0"
        blocks.append(f'parameters {{ key: "cudnn_conv_algo_search" value {{ string_value: "{search}" }} }}')
    if artifact.limits is not None:
        # Triton has no word for it: it is for people, and the file itself refuses the others.
        blocks.append(f'parameters {{ key: "spatial_sizes" value {{ string_value: "{artifact.limits}" }} }}')
    return "\n".join([*blocks, *_warmups(artifact, inputs, batched)]) + "\n"


def check_config(text: str) -> bool:
    """Parse a configuration with Triton's own schema.

    Returns:
        whether it was parsed: False where tritonclient is not installed.

    Raises:
        ExportError: the parser refuses it.
    """
    schema = _load_schema()
    if schema is None:
        return False
    try:
        text_format.Parse(text, schema.ModelConfig())
    except text_format.ParseError as error:
        raise ExportError(
            f"Triton's parser refuses the configuration: {error}",
            where="config.pbtxt",
            fix="report the network; nothing was written",
        ) from error
    return True


@functools.cache
def _load_schema() -> Any:
    """Load the schema that tritonclient carries, without its gRPC client, which is an extra of its own."""
    found = importlib.util.find_spec("tritonclient")
    folders = (found.submodule_search_locations if found else None) or []
    for path in (Path(folder) / "grpc" / "model_config_pb2.py" for folder in folders):
        spec = importlib.util.spec_from_file_location("surgeon_model_config_pb2", path)
        if path.is_file() and spec is not None and spec.loader is not None:
            schema = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(schema)
            return schema
    return None


def _port(role: str, port: Port, batched: bool) -> str:
    dims = ", ".join(str(size if isinstance(size, int) else -1) for size in port.shape[batched:])
    return f'{role} [ {{ name: "{port.name}" data_type: {_type(port)} dims: [ {dims} ] }} ]'


def _type(port: Port) -> str:
    if port.type not in _TYPES:
        raise ExportError(
            f"Triton has no type for {port.type}",
            where=port.name,
            fix="use another target, or a network with other inputs",
        )
    return _TYPES[port.type]


def _warmups(artifact: Artifact, inputs: Sequence[Tensor], batched: bool) -> list[str]:
    """Write one warm-up for each shape that requests are likely to have: batches, and sizes where free."""
    example = tuple(inputs[0].shape[2:])
    cases = [("example", example, batch) for batch in ((1, _LARGEST_BATCH) if batched else (0,))]
    if artifact.freedom.sizes:
        sizes = (("smallest", artifact.sizes.smallest), ("larger", artifact.sizes.largest))
        cases += [(what, spatial, int(batched)) for what, spatial in sizes if spatial != example]
    return [
        f'model_warmup [ {{ name: "{what} size, batch {batch}" batch_size: {batch} '
        f"{_warmup_inputs(artifact, inputs, spatial, batched)} }} ]"
        for what, spatial, batch in cases
    ]


def _warmup_inputs(
    artifact: Artifact, inputs: Sequence[Tensor], spatial: tuple[int, ...], batched: bool
) -> str:
    image = tuple(inputs[0].shape[2:])
    values = []
    for port, tensor in zip(artifact.inputs, inputs, strict=True):
        resized = spatial if tuple(tensor.shape[2:]) == image else tuple(tensor.shape[2:])
        shape = tuple(tensor.shape[:2]) + resized
        dims = ", ".join(str(size) for size in (shape[1:] if batched else shape))
        value = f"data_type: {_type(port)} dims: [ {dims} ] random_data: true"
        values.append(f'inputs {{ key: "{port.name}" value {{ {value} }} }}')
    return " ".join(values)
