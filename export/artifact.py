"""What an export wrote and proved, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgeon.tracing import Limits

from .cases import Sizes
from .flattening import Freedom, Refusal
from .fusion import PassReport
from .gate import Compared, NotCompared, Threshold
from .onnx import Port
from .reference import Opinion
from .runtime import Latency
from .targets import Precision, Target


@dataclass(frozen=True, slots=True)
class Artifact:
    """An export that passed its gate.

    Attributes:
        folder: where it lies.
        name: of the model, on a server and in the file.
        target: where it is meant to run.
        opset: version of the ONNX operator set.
        precision: of its weights and activations.
        inputs: name, shape and type of each input, in order.
        outputs: the same of each output.
        freedom: which sizes are free.
        refusals: the freedoms that the network did not allow, and why.
        sizes: the spatial sizes it was proved on.
        parity: every comparison with the original network; all hold.
        not_compared: inputs without a comparison, and why: host or export refuses them, or the host's own
            rounding is all there is.
        threshold: how much a comparison may differ.
        second_opinion: what ONNX's reference evaluator says; None where it was not asked.
        provider: the execution provider that the comparisons and the latency ran on.
        fusion: what each pass did.
        nodes: how many nodes the ONNX graph has.
        kept_in_fp32: nodes that stayed in float32 in a float16 export, with the reason.
        latency: of host and export, in int8 also of the export in float32, on the example, in milliseconds.
        sha256: of the file.
        versions: of torch, onnx and onnxruntime.
        file: name of the ONNX file.
        limits: the spatial sizes beyond which the file refuses; None where it takes all.
    """

    folder: Path
    name: str
    target: Target
    opset: int
    precision: Precision
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    freedom: Freedom
    refusals: tuple[Refusal, ...]
    sizes: Sizes
    parity: tuple[Compared, ...]
    not_compared: tuple[NotCompared, ...]
    threshold: Threshold
    second_opinion: Opinion | None
    provider: str
    fusion: tuple[PassReport, ...]
    nodes: int
    kept_in_fp32: dict[str, str]
    latency: dict[str, Latency]
    sha256: str
    versions: dict[str, str]
    file: str = "model.onnx"
    limits: Limits | None = None

    @property
    def model(self) -> Path:
        """Return the path of the ONNX file."""
        return self.folder / self.file

    @property
    def is_slower(self) -> bool:
        """Say whether the export took longer than the host at the median."""
        return self.latency["export"].p50 > self.latency["host"].p50

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `export.json`."""
        limits = self.limits
        return {
            "name": self.name,
            "target": self.target.name,
            "opset": self.opset,
            "precision": self.precision.value,
            "inputs": [port.to_dict() for port in self.inputs],
            "outputs": [port.to_dict() for port in self.outputs],
            "free": self.freedom.value,
            "not_free": [{"free": r.freedom.value, "reason": r.reason} for r in self.refusals],
            "sizes": {
                **self.sizes.to_dict(),
                "refused_outside": None if limits is None else limits.to_dict(),
            },
            "parity": [case.to_dict() for case in self.parity],
            "not_compared": [case.to_dict() for case in self.not_compared],
            "threshold": self.threshold.to_dict(),
            "second_opinion": None if self.second_opinion is None else self.second_opinion.to_dict(),
            "provider": self.provider,
            "fusion": [report.to_dict() for report in self.fusion],
            "nodes": self.nodes,
            "kept_in_fp32": self.kept_in_fp32,
            "latency": {
                **{name: latency.to_dict() for name, latency in self.latency.items()},
                "unit": "ms",
                "remark": "the export is slower than the host here" if self.is_slower else "",
            },
            "sha256": self.sha256,
            "versions": self.versions,
        }
