"""Names for the inputs, outputs and free axes of an export."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from surgeon.tracing import Example

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def input_names(example: Example, placeholders: Sequence[str]) -> tuple[str, ...]:
    """Name the tensors of an example: `input` for a single one, else as the network's forward names them.

    Args:
        example: the inputs.
        placeholders: what the traced graph calls its inputs, tensors or not.
    """
    leaves = pytree.tree_leaves((example.args, example.kwargs))
    tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    if len(tensors) == 1:
        return ("input",)
    if len(placeholders) != len(leaves):
        return tuple(f"input_{index}" for index in range(len(tensors)))
    return tuple(placeholders[index] for index in tensors)


def output_names(output: Any) -> tuple[str, ...]:
    """Name the tensors of an output: `output`, the keys of a mapping, or `output_0`, `output_1`, ..."""
    paths = [(path, leaf) for path, leaf in pytree.tree_leaves_with_path(output) if isinstance(leaf, Tensor)]
    if len(paths) == 1 and not paths[0][0]:
        return ("output",)
    names = [_plain(pytree.keystr(path)) for path, _ in paths]
    return tuple(name if name[:1].isalpha() else f"output_{name}" for name in names)


def axis_names(rank: int) -> tuple[str, ...]:
    """Name the axes of a tensor `(N, C, *spatial)`."""
    spatial = _AXES.get(rank - 2, tuple(f"size{axis}" for axis in range(max(rank - 2, 0))))
    return ("batch", "channels", *spatial)[:rank]


def rename_symbols(text: str, names: dict[str, str]) -> str:
    """Replace the symbols of a size expression by their names."""
    return re.sub(r"[A-Za-z_]\w*", lambda match: names.get(match.group(), match.group()), text)


def simplify_size(text: str) -> str:
    """Write a size expression that is the axis itself on every multiple of 64 as the axis.

    `4*((height - 1)//4) + 4` is `height` wherever the network takes that height.
    """
    symbols = set(re.findall(r"[A-Za-z_]\w*", text))
    if len(symbols) != 1 or not re.fullmatch(r"[\w\s+\-*/()]+", text):
        return text
    symbol = symbols.pop()
    # The text is arithmetic of one symbol, as matched above.
    same = all(eval(text, {"__builtins__": {}}, {symbol: size}) == size for size in (64, 192, 448))
    return symbol if same else text


def _plain(path: str) -> str:
    return re.sub(r"\W+", "_", path).strip("_")
