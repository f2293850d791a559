"""A constant factor or addend after a convolution folded into it: gamma, edge weights, biases."""

from __future__ import annotations

from torch import fx

from .affine import read_scale
from .batchnorm import fold_after
from .convolutions import read_convolution
from .draft import Draft
from .report import PassReport


def fold_scale(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Fold a multiplication or addition of one constant for each channel into the convolution before it.

    The gamma of a cell is such a factor: it disappears into the cell's last convolution.
    """
    draft = Draft(source, "fold_scale")
    for node in list(draft.graph.nodes):
        for producer in node.all_input_nodes:
            convolution = read_convolution(draft, producer)
            if convolution is None:
                continue
            found = read_scale(draft, node, convolution.channels_out, convolution.weight.ndim)
            if found is None or found[0] is not producer:
                continue
            if len(producer.users) > 1:
                draft.reject(node, f"{producer.name} before it is read by {len(producer.users)} nodes")
                continue
            fold_after(draft, node, producer, convolution, found[1])
            draft.replace(node, producer)
            break
    return draft.finish()
