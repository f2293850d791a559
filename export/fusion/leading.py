"""Batch normalisation folded into the convolutions after it."""

from __future__ import annotations

from torch import fx

from .affine import Affine, read_batchnorm
from .convolutions import Convolution, read_convolution, write_convolution
from .draft import Draft
from .report import PassReport


def fold_leading_batchnorm(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Fold a batch normalisation into every convolution that reads it, if those are all that do.

    `W (s x + t) + b = (W s) x + (W t + b)` holds where the kernel sees the input alone. A padded
    convolution pads with zeros AFTER the normalisation, so its border would come out wrong: such a place
    is folded only when every shift is zero, and otherwise left with the reason.
    """
    draft = Draft(source, "fold_leading_batchnorm")
    for node in list(draft.graph.nodes):
        found = read_batchnorm(draft, node)
        if found is None or not node.users:
            continue
        producer, affine = found
        readers = list(node.users)
        convolutions = [_reading_as_input(draft, reader, node) for reader in readers]
        reason = _refusal(readers, convolutions, affine)
        if reason:
            draft.reject(node, reason)
            continue
        for reader, convolution in zip(readers, convolutions, strict=True):
            assert convolution is not None
            write_convolution(draft, reader, *convolution.with_input_affine(affine.scale, affine.shift))
        draft.note(f"{node.name} into {', '.join(reader.name for reader in readers)}")
        draft.replace(node, producer)
    return draft.finish()


def _reading_as_input(draft: Draft, reader: fx.Node, node: fx.Node) -> Convolution | None:
    return read_convolution(draft, reader) if reader.args and reader.args[0] is node else None


def _refusal(readers: list[fx.Node], convolutions: list[Convolution | None], affine: Affine) -> str:
    """Return why the normalisation cannot go into its readers; empty when it can."""
    for reader, convolution in zip(readers, convolutions, strict=True):
        if convolution is None:
            return f"{reader.name} after it is not a convolution with constant weights"
        if bool((affine.shift == 0).all()):
            continue
        if convolution.transposed:
            return f"{reader.name} after it is transposed: the number of taps differs from pixel to pixel"
        if not convolution.is_unpadded:
            return f"{reader.name} after it pads with zeros: its border would change"
    return ""
