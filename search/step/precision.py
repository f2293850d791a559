"""In which type an operation computes: float32, or a half type where that loses nothing (autocast)."""

from __future__ import annotations

import contextlib
from enum import StrEnum

import torch

from surgeon.errors import InputError

_HALVES = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


class Precision(StrEnum):
    """The type of convolutions and products; statistics, losses, weights and optimizers stay in float32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16-mixed"
    FP16 = "fp16-mixed"

    def settled(self, device: torch.device) -> Precision:
        """Return the precision that `auto` stands for: bfloat16 on a GPU that computes with it, else float32.

        Raises:
            InputError: the device does not compute in this type.
        """
        halves = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        if self is Precision.AUTO:
            return Precision.BF16 if halves else Precision.FP32
        if self is Precision.BF16 and device.type == "cuda" and not halves:
            raise InputError(
                "this GPU does not compute in bfloat16", where="precision", fix="use fp16-mixed or fp32"
            )
        return self

    def reason(self, device: torch.device) -> str:
        """Say what this stands for on a device, and why."""
        settled = self.settled(device)
        if self is not Precision.AUTO:
            return f"precision {settled}: as asked for"
        if settled is Precision.BF16:
            return f"precision {settled}: this GPU computes in bfloat16"
        why = (
            "this GPU does not compute in bfloat16"
            if device.type == "cuda"
            else "half types pay on GPUs alone"
        )
        return f"precision {settled}: {why}"

    def computing(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """Return the block in which a network computes in this type."""
        half = _HALVES.get(self.value)
        if half is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=half)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Return what keeps float16's small gradients from vanishing; it does nothing in other types."""
        return torch.amp.GradScaler(device.type, enabled=self is Precision.FP16)
