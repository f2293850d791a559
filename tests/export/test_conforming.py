from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from surgeon.export import Freedom, open_session, run_session, to_onnx
from torch import Tensor, nn
from torch.nn import functional as F

from surgeon.errors import ExportError, InputError
from surgeon.tracing import Limits

from .networks import image, small_unet


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_type_is_exported_in_float32_with_its_very_weights(dtype, tmp_path):
    network = small_unet().to(dtype)
    artifact = to_onnx(
        network, image().to(dtype), tmp_path / "out", samples=[image().to(dtype)[0]], second_opinion=False
    )
    assert {port.type for port in (*artifact.inputs, *artifact.outputs)} == {"float32"}
    assert next(network.parameters()).dtype is dtype
    x = image(size=20)
    with torch.no_grad():
        expected = network.double()(x.double()).float()
    found = run_session(open_session(artifact.model), x)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_type_that_the_code_names_is_left_alone_and_refused_with_a_reason(tmp_path):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 1, 1, 1, dtype=torch.float64))

        def forward(self, x):
            return F.conv2d(x.double(), self.weight)

    with pytest.raises(ExportError, match="onnxruntime cannot open it"):
        to_onnx(Named(), image(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@dataclass
class Output:
    logits: Tensor
    name: str = "mask"
    hidden: list[Tensor] | None = None
    loss: Tensor | None = None


class Head(nn.Module):
    """A convolution whose answer is packed in some way."""

    def __init__(self, pack):
        super().__init__()
        self.head, self.pack = nn.Conv2d(1, 2, 3, padding=1), pack

    def forward(self, x):
        return self.pack(self.head(x))


Pair = namedtuple("Pair", "logits vector")
PACKS = {
    "dataclass": (lambda y: Output(y, hidden=[y * 2]), ["logits", "hidden_0"]),
    "dataclasses": (
        lambda y: {"cells": Output(y, hidden=[y * 2]), "tissue": [Output(y + 1)]},
        ["cells_logits", "cells_hidden_0", "tissue_0_logits"],
    ),
    "mapping": (lambda y: {"b": y, "a": y * 2}, ["b", "a"]),
    "named tuple": (lambda y: Pair(y, y.mean((2, 3))), ["logits", "vector"]),
    "nest": (lambda y: (y, [y + 1, (y * 3,)], None), ["output_0", "output_1_0", "output_1_1_0"]),
    "a number": (lambda y: (0, y), ["output_1"]),
    "sizes and texts": (lambda y: {"size": y.shape[2], "a": y, "of": "cells"}, ["a"]),
    "twice the same": (lambda y: (y, y), ["output_0", "output_1"]),
    "labels": (lambda y: y.argmax(1), ["output"]),
    "a mask": (lambda y: y > 0, ["output"]),
}


@pytest.mark.parametrize("kind", PACKS)
def test_outputs_of_every_packing_have_their_names_and_are_proved(kind, tmp_path):
    pack, names = PACKS[kind]
    artifact = to_onnx(Head(pack), image(), tmp_path / "out", second_opinion=False)
    assert [port.name for port in artifact.outputs] == names
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    assert len(artifact.parity) >= 10


def test_inputs_of_every_kind_are_fed_and_proved(tmp_path):
    class Fed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, images, step, context=None, scale=1.0):
            shift = context.mean((1, 2)) + step.float()
            return self.head(images["image"]) * scale + shift[:, None, None, None]

    kwargs = {"context": torch.randn(2, 5, 3), "scale": 2.0}
    artifact = to_onnx(
        Fed(),
        ({"image": image(batch=2)}, torch.tensor([3, 1])),
        tmp_path / "out",
        kwargs=kwargs,
        second_opinion=False,
    )
    assert [port.type for port in artifact.inputs] == ["float32", "int64", "float32"]


def test_a_network_that_draws_or_counts_is_refused_for_that(tmp_path):
    class Draws(nn.Conv2d):
        def forward(self, x):
            return F.dropout(super().forward(x), 0.5, training=True)

    class Counts(nn.Conv2d):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    for network in (Draws(1, 2, 1), Counts(1, 2, 1)):
        with pytest.raises(ExportError, match="gives another answer each time it is run"):
            to_onnx(network, image(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_network_that_gives_no_numbers_is_bad_input(tmp_path):
    class Divides(nn.Module):
        def forward(self, x):
            return x / 0 * 0

    with pytest.raises(InputError, match=r"no numbers \(NaN\)"):
        to_onnx(Divides(), image(), tmp_path / "out")


def test_a_network_that_branches_on_values_is_refused(tmp_path):
    class Branches(nn.Conv2d):
        def forward(self, x):
            y = super().forward(x)
            return y * 2 if x.max() > 100 else y

    with pytest.raises(ExportError, match="reads a value of its input back into Python"):
        to_onnx(Branches(1, 2, 1), image(), tmp_path / "out")


@pytest.mark.parametrize(("size", "limits"), [(16, Limits(2, 20)), (32, Limits(21))])
def test_a_network_that_branches_on_its_size_is_exported_for_the_sizes_of_its_way(size, limits, tmp_path):
    class Branches(nn.Conv2d):
        def forward(self, x):
            y = super().forward(x)
            return y * 2 if x.shape[-1] > 20 else y

    network = Branches(1, 2, 1)
    artifact = to_onnx(network, image(size=size), tmp_path / "free", second_opinion=False)
    assert artifact.freedom is Freedom.BATCH_AND_SIZES
    assert artifact.limits == limits
    fixed = to_onnx(network, image(size=size), tmp_path / "fixed", sizes="fixed", second_opinion=False)
    assert fixed.freedom is Freedom.BATCH
    assert fixed.limits is None


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
def test_a_torchscript_program_is_exported_as_its_network_is(tmp_path):
    network = small_unet()
    artifact = to_onnx(torch.jit.script(network), image(), tmp_path / "out")
    assert artifact.sizes.free
    x = image(size=24)
    with torch.no_grad():
        torch.testing.assert_close(
            run_session(open_session(artifact.model), x)[0], network(x), atol=1e-5, rtol=0
        )


def test_a_compiled_network_keeps_its_sizes_free(tmp_path):
    assert to_onnx(torch.compile(small_unet()), image(), tmp_path / "out").sizes.free


def test_deformable_convolution_gets_the_operator_set_that_has_it(tmp_path):
    ops = pytest.importorskip("torchvision.ops")

    class Deforming(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Conv2d(1, 18, 3, padding=1)
            self.conv = ops.DeformConv2d(1, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(x, self.offset(x))

    assert to_onnx(Deforming(), image(), tmp_path / "out").opset == 19
