"""Which module of the host a node runs in, and which line of its code made it."""

from __future__ import annotations

import re
from typing import Any

from torch import fx

# torch.export marks the second call of the same module: "decoder.up@1".
_REPEATED = re.compile(r"@\d+")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def annotate_modules(module: fx.GraphModule) -> None:
    """Write `meta["module"]`, `meta["module_type"]` and `meta["site"]` of every node.

    `module` is the qualified name of the innermost module in whose forward the node runs, `module_type`
    the name of its class, `site` the file and line of the call (`""` where it is not known).
    """
    for node in module.graph.nodes:
        path, kind = _innermost(node.meta.get("nn_module_stack"))
        node.meta["module"] = path
        node.meta["module_type"] = kind
        node.meta["site"] = _site(node.meta.get("stack_trace"))


def _innermost(stack: Any) -> tuple[str, str]:
    if not stack:
        return "", ""
    path, kind = list(stack.values())[-1]
    path = _REPEATED.sub("", str(path))
    # Serialized programs and non-strict traces may keep the tracer's name of the root.
    path = path.removeprefix("L['self']").removeprefix("L__self__").removeprefix(".")
    return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def _site(trace: Any) -> str:
    frames = _FRAME.findall(trace or "")
    return ":".join(frames[-1]) if frames else ""
