"""Outputs in forms that torch.export does not know."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree


def know_dataclasses(output: Any) -> None:
    """Make the dataclasses in an output known to torch.export, with what they hold.

    torch keeps them for the life of the process, and finds their tensors from then on.
    """
    for leaf in pytree.tree_leaves(output):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            if type(leaf) not in pytree.SUPPORTED_NODES:
                torch.export.register_dataclass(type(leaf))
            know_dataclasses([getattr(leaf, field.name) for field in fields(leaf)])
