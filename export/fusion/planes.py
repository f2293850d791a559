"""Convolutions of volumes computed plane by plane, where a CPU is faster so."""

from __future__ import annotations

from torch import fx

from .calls import caller
from .convolutions import Convolution, read_convolution
from .draft import Draft
from .planewise import PAIRS, TAPS, weights_of_pairs
from .report import PassReport
from .sizes import is_known_multiple

# onnxruntime's fast kernels work on blocks of channels; with fewer than these, one product is as fast.
_FEWEST_IN, _FEWEST_OUT = 4, 4


def convolve_planes(source: fx.GraphModule, *, depth_step: int = 1) -> tuple[fx.GraphModule, PassReport]:
    """Write a 3-D convolution as 2-D ones over its planes.

    onnxruntime copies the neighbourhood of every voxel before it multiplies, and has direct kernels for
    images alone: a sum over taps is exact, borders included, and faster. Three taps at stride 1 go two
    planes at a time.

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
        reason = _refusal(convolution)
        if reason:
            draft.reject(node, reason)
            continue
        draft.note(f"{node.name}: {_rewrite(draft, node, convolution, depth_step)}")
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


def _rewrite(draft: Draft, node: fx.Node, convolution: Convolution, depth_step: int) -> str:
    """Put the operation on planes in the place of a convolution, and say which."""
    in_pairs = (convolution.kernel[0], convolution.stride[0], convolution.dilation[0]) == (3, 1, 1)
    weights = weights_of_pairs(convolution.weight) if in_pairs else convolution.weight.unbind(2)
    constants = [draft.add_constant(f"{node.name}_planes", weight, node) for weight in weights]
    bias = convolution.bias
    assert convolution.padding is not None
    geometry = [*convolution.stride, *convolution.padding, *convolution.dilation]
    even = [is_known_multiple(node, 2, 2, depth_step)] if in_pairs else []
    made = caller(draft, node)(
        (PAIRS if in_pairs else TAPS).target,
        node.args[0],
        constants,
        None if bias is None else draft.add_constant(f"{node.name}_bias", bias, node),
        geometry,
        *even,
    )
    made.meta = dict(node.meta)
    draft.replace(node, made)
    return "2 planes at a time" if in_pairs else f"{len(weights)} taps"
