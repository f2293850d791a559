from __future__ import annotations

import pytest
import torch
from surgeon.search.step.precision import Precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("precision", "device", "able", "sentence"),
    [
        ("auto", CPU, False, "precision fp32: half types pay on GPUs alone"),
        ("auto", GPU, True, "precision bf16-mixed: this GPU computes in bfloat16"),
        ("auto", GPU, False, "precision fp32: this GPU does not compute in bfloat16"),
        ("fp16-mixed", GPU, True, "precision fp16-mixed: as asked for"),
        ("bf16-mixed", CPU, False, "precision bf16-mixed: as asked for"),
    ],
)
def test_the_precision_is_said_with_its_reason(monkeypatch, precision, device, able, sentence):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    assert Precision(precision).reason(device) == sentence
