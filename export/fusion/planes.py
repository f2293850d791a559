"""Convolutions of volumes computed plane by plane, where a CPU is faster so."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .calls import OPEN, Call, caller
from .convolutions import Convolution, read_convolution
from .draft import Draft
from .report import PassReport
from .sizes import is_known_multiple, refuse_read

aten = torch.ops.aten

# onnxruntime's fast kernels work on blocks of channels; with fewer than these, one product is as fast.
_FEWEST_IN, _FEWEST_OUT = 4, 4


def convolve_planes(source: fx.GraphModule, *, depth_step: int = 1) -> tuple[fx.GraphModule, PassReport]:
    """Write a 3-D convolution as 2-D ones over its planes.

    onnxruntime copies the neighbourhood of every voxel before it multiplies, and has direct kernels for
    images alone: `conv(x)[d] = sum_k conv2d_k(x[s d + k])` is exact, borders included, and faster.

    Three taps at stride 1 give two planes at a time with four 2-D convolutions in place of six, by the
    minimal filtering F(2, 3) of Winograd (Lavin and Gray, arXiv 1509.09308), along the depth alone:

        y[0] = m0 + m1 + m2    m0 = w0 (x[0] - x[2])    m1 = (w0 + w1 + w2) / 2 (x[1] + x[2])
        y[1] = m1 - m2 - m3    m3 = w2 (x[1] - x[3])    m2 = (w0 - w1 + w2) / 2 (x[2] - x[1])

    Args:
        source: the graph.
        depth_step: the depths that the network takes differ from the example's by multiples of this; where
            they may be odd, one plane more is computed and cut off.
    """
    draft = Draft(source, "convolve_planes")
    for node in list(draft.graph.nodes):
        convolution = read_convolution(draft, node)
        if convolution is None or not _is_dense_volume(convolution):
            continue
        reason = _refusal(convolution) or refuse_read(node)
        if reason:
            draft.reject(node, reason)
            continue
        place = _Place(draft, node, convolution)
        even = is_known_multiple(node, 2, 2, depth_step)
        told = _in_pairs(place, even) if _goes_in_pairs(convolution) else _tap_by_tap(place)
        draft.note(f"{node.name}: {told}")
    return draft.finish()


def _is_dense_volume(convolution: Convolution) -> bool:
    return len(convolution.kernel) == 3 and convolution.groups == 1 and convolution.kernel[0] > 1


def _refusal(convolution: Convolution) -> str:
    """Return why a convolution of volumes stays as it is; empty when it is to be rewritten."""
    if convolution.transposed:
        return "it is transposed"
    if convolution.padding is None:
        return "it is padded unevenly"
    if convolution.channels_in < _FEWEST_IN or convolution.channels_out < _FEWEST_OUT:
        return "too few channels for planes to be faster"
    return ""


def _goes_in_pairs(convolution: Convolution) -> bool:
    return (convolution.kernel[0], convolution.stride[0], convolution.dilation[0]) == (3, 1, 1)


@dataclass(frozen=True, slots=True)
class _Place:
    """A convolution that is being rewritten."""

    draft: Draft
    node: fx.Node
    convolution: Convolution

    @property
    def call(self) -> Call:
        """Return what inserts calls before it."""
        return caller(self.draft, self.node)

    @property
    def margin(self) -> int:
        """Return by how many planes its input is padded at each end."""
        assert self.convolution.padding is not None
        return self.convolution.padding[0]

    def turned(self) -> fx.Node:
        """Insert its input as `(N, D, C, H, W)`."""
        return self.call(aten.transpose.int, self.node.args[0], 1, 2)

    def planes(self) -> fx.Node:
        """Insert its input as `(N, D, C, H, W)`, padded along the depth."""
        turned = self.turned()
        if not self.margin:
            return turned
        return self.call(aten.constant_pad_nd.default, turned, [0] * 6 + [self.margin] * 2)

    def convolve(self, part: fx.Node, weight: Tensor, bias: Tensor | None) -> fx.Node:
        """Insert the 2-D convolution `(O, C, k, k)` of all planes of `part (N, D, C, H, W)`."""
        assert self.convolution.padding is not None
        sizes = [self.call(aten.sym_size.int, part, axis) for axis in (3, 4)]
        flat = self.call(aten.reshape.default, part, [-1, self.convolution.channels_in, *sizes])
        name, old = self.node.name, self.convolution.weight
        constants = [self.draft.add_constant(f"{name}_planes", weight.to(old), self.node)]
        constants += [
            self.draft.add_constant(f"{name}_bias", b.to(old), self.node) for b in (bias,) if b is not None
        ]
        _, *stride = self.convolution.stride
        _, *padding = self.convolution.padding
        _, *dilation = self.convolution.dilation
        operands = constants if bias is not None else [*constants, None]
        return self.call(aten.conv2d.default, flat, *operands, stride, padding, dilation, 1)

    def stack(self, flat: fx.Node, batch: fx.Node, depth: Any) -> fx.Node:
        """Insert `(N D, O, H, W)` as `(N, D, O, H, W)`."""
        sizes = [self.call(aten.sym_size.int, flat, axis) for axis in (2, 3)]
        shape = [batch, depth, self.convolution.channels_out, *sizes]
        return self.call(aten.reshape.default, flat, shape)

    def finish(self, stacked: fx.Node) -> None:
        """Put `(N, D, O, H, W)` in the place of the convolution, turned back."""
        whole = self.call(aten.transpose.int, stacked, 1, 2)
        whole.meta = dict(self.node.meta)
        self.draft.replace(self.node, whole)


def _tap_by_tap(place: _Place) -> str:
    """Sum one 2-D convolution for each tap along the depth."""
    convolution, call = place.convolution, place.call
    taps, step, stride = convolution.kernel[0], convolution.dilation[0], convolution.stride[0]
    planes = place.planes()
    total = depth = None
    for tap in range(taps):
        rest = step * (taps - 1 - tap)
        part = call(aten.slice.Tensor, planes, 1, tap * step, -rest if rest else OPEN, stride)
        depth = depth or call(aten.sym_size.int, part, 1)
        bias = convolution.bias if tap == 0 else None
        done = place.convolve(part, convolution.weight[:, :, tap], bias)
        total = done if total is None else call(aten.add.Tensor, total, done)
    assert total is not None
    place.finish(place.stack(total, call(aten.sym_size.int, place.node.args[0], 0), depth))
    return f"{taps} taps"


def _in_pairs(place: _Place, even: bool) -> str:
    """Compute two planes at a time from four products."""
    convolution, call = place.convolution, place.call
    x = _every_second(place, 0 if even else 1)
    first, middle, last = convolution.weight.double().unbind(2)
    weights = (first, (first + middle + last) / 2, (first - middle + last) / 2, last)
    inputs = (
        call(aten.sub.Tensor, x[0], x[2]),
        call(aten.add.Tensor, x[1], x[2]),
        call(aten.sub.Tensor, x[2], x[1]),
        call(aten.sub.Tensor, x[1], x[3]),
    )
    # The second product is in both planes with a plus: it carries the bias.
    biases = (None, convolution.bias, None, None)
    m = [place.convolve(*each) for each in zip(inputs, weights, biases, strict=True)]
    left = call(aten.add.Tensor, call(aten.add.Tensor, m[0], m[1]), m[2])
    right = call(aten.sub.Tensor, call(aten.sub.Tensor, m[1], m[2]), m[3])
    batch, half = call(aten.sym_size.int, x[0], 0), call(aten.sym_size.int, x[0], 1)
    pair = [call(aten.unsqueeze.default, place.stack(each, batch, half), 2) for each in (left, right)]
    stacked = call(aten.flatten.using_ints, call(aten.cat.default, pair, 2), 1, 2)
    if not even:
        depth = call(aten.sym_size.int, place.node.args[0], 2)
        lost = 2 - 2 * place.margin
        depth = call(operator.sub, depth, lost) if lost else depth
        stacked = call(aten.slice.Tensor, stacked, 1, 0, depth)
    place.finish(stacked)
    return "2 planes at a time"


def _every_second(place: _Place, behind: int) -> list[fx.Node]:
    """Insert every second plane of the padded input, from the first, the second, the third and the fourth.

    The numbers of planes are padded and sliced, and the planes taken by number: onnxruntime does that on all
    threads, while it pads and slices volumes on one. A plane beyond an end is the last one, times 0.

    Args:
        place: where they go.
        behind: further planes at the end of the padded input.
    """
    call, margin, turned = place.call, place.margin, place.turned()
    depth = call(aten.sym_size.int, turned, 1)
    inside = call(aten.arange.default, depth)
    first, last = call(aten.slice.Tensor, inside, 0, 0, 1), call(aten.slice.Tensor, inside, 0, -1, OPEN)
    numbers = call(aten.cat.default, [first] * margin + [inside] + [last] * (margin + behind))
    ones = call(aten.new_ones.default, turned, [depth])
    there = call(aten.constant_pad_nd.default, ones, [margin, margin + behind])
    found = []
    for start in range(4):
        cut = (0, start, start - 3 if start < 3 else OPEN, 2)
        part = call(aten.index_select.default, turned, 1, call(aten.slice.Tensor, numbers, *cut))
        if start < margin or start > 3 - margin - behind:
            kept = call(aten.reshape.default, call(aten.slice.Tensor, there, *cut), [-1, 1, 1, 1])
            part = call(aten.mul.Tensor, part, kept)
        found.append(part)
    return found
