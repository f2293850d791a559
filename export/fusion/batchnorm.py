"""Batch normalisation folded into the convolution before it."""

from __future__ import annotations

from torch import fx

from .affine import Affine, read_batchnorm
from .convolutions import Convolution, read_convolution, write_convolution
from .draft import Draft
from .report import PassReport


def fold_batchnorm(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Fold every batch normalisation whose input is a convolution that nobody else reads.

    `s (W x + b) + t = (s W) x + (s b + t)`: exact for plain and transposed convolutions, any padding.
    """
    draft = Draft(source, "fold_batchnorm")
    for node in list(draft.graph.nodes):
        found = read_batchnorm(draft, node)
        if found is None:
            continue
        producer, affine = found
        convolution = read_convolution(draft, producer)
        if convolution is None:
            draft.reject(node, f"{producer.name} before it is not a convolution with constant weights")
            continue
        if len(producer.users) > 1:
            draft.reject(node, f"{producer.name} before it is read by {len(producer.users)} nodes")
            continue
        fold_after(draft, node, producer, convolution, affine)
        # A native batch normalisation is a tuple and a getitem; the tuple is left to the dead-code sweep.
        draft.replace(node, producer)
    return draft.finish()


def fold_after(
    draft: Draft, node: fx.Node, producer: fx.Node, convolution: Convolution, affine: Affine
) -> None:
    """Write `scale * conv + shift`, which `node` computes, into the convolution `producer`."""
    write_convolution(draft, producer, *convolution.with_output_affine(affine.scale, affine.shift))
    draft.note(f"{node.name} into {producer.name}")
