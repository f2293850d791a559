"""Where an export will run, and what that decides: opset, providers and their options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from surgeon.errors import InputError


class Precision(Enum):
    """The type of weights and activations inside the graph; inputs and outputs are float32 in all."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Target:
    """A place to run an export.

    Attributes:
        name: as on the command line.
        opset: version of the ONNX operator set, unless a graph pays for a newer one.
        providers: onnxruntime's execution providers, the wanted one first, then those it may hand nodes to.
        why: what the choices rest on.
    """

    name: str
    opset: int
    providers: tuple[str, ...]
    why: str

    @property
    def provider(self) -> str:
        """Return the execution provider that has to run."""
        return self.providers[0]

    @property
    def session_settings(self) -> dict[str, str]:
        """Return onnxruntime's settings of a whole session, by the names of its session options.

        Its threads spin for some time after a run, in case another run follows at once. Two sessions in one
        process, or a session and torch, then take the cores from each other: measured with two sessions in
        turn on two cores, runs took twice as long. Here they stop with the run.
        """
        return {"session.force_spinning_stop": "1"}

    def provider_options(self, *, free_sizes: bool) -> list[dict[str, Any]]:
        """Return the options of every provider, in the order of `providers`.

        Args:
            free_sizes: whether requests come in many spatial sizes. cuDNN's exhaustive search costs up to
                a second for each new shape, so it is left to exports of one fixed shape.
        """
        return [dict(_options(provider, free_sizes)) for provider in self.providers]


_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

TARGETS: tuple[Target, ...] = (
    Target(
        "ort-cpu",
        18,
        (_CPU,),
        "opset 18: from 19 on, onnxruntime averages pools of volumes by a kernel 30 times slower; from 21, "
        "group normalisation is one node instead of nine, but not faster on a CPU; 23 where attention that "
        "gets a bias pays for averages plane by plane",
    ),
    Target(
        "ort-cuda",
        20,
        (_CUDA, _CPU),
        "opset 20: onnxruntime's CUDA kernel of GroupNormalization-21 has open bugs",
    ),
    Target(
        "ort-tensorrt",
        20,
        (_TENSORRT, _CUDA, _CPU),
        "opset 20: TensorRT 10 mistakes GroupNormalization-21; an engine cache, since building takes minutes",
    ),
    Target(
        "triton",
        20,
        (_CUDA, _CPU),
        "as ort-cuda: Triton runs CUDA where there is a GPU, and configs/cpu.pbtxt elsewhere",
    ),
)


def find_target(name: str) -> Target:
    """Return the target of that name.

    Raises:
        InputError: there is none.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise InputError(
        f"no export target is called {name!r}",
        where="target",
        fix=f"choose one of {', '.join(target.name for target in TARGETS)}",
    )


def find_precision(name: str) -> Precision:
    """Return the precision of that name.

    Raises:
        InputError: there is none.
    """
    try:
        return Precision(name)
    except ValueError:
        raise InputError(
            f"no precision is called {name!r}",
            where="precision",
            fix=f"choose one of {', '.join(precision.value for precision in Precision)}",
        ) from None


def _options(provider: str, free_sizes: bool) -> dict[str, Any]:
    if provider == _CUDA:
        return {"cudnn_conv_algo_search": "HEURISTIC" if free_sizes else "EXHAUSTIVE"}
    if provider == _TENSORRT:
        return {"trt_engine_cache_enable": "1", "trt_layer_norm_fp32_fallback": "1"}
    return {}
