"""Which module of the host a node runs in, and which line of its code made it."""

from __future__ import annotations

import re
from typing import Any

from torch import fx

# torch.export marks the second call of the same module: "decoder.up@1".
_REPEATED = re.compile(r"@\d+")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)(?:, in [^\n]*\n\s*([^\n]*))?')


def annotate_modules(module: fx.GraphModule) -> None:
    """Write `meta["module"]`, `["modules"]`, `["module_type"]`, `["site"]` and `["line"]` of every node.

    `modules` are the qualified names of the modules in whose forward the node runs, outermost first,
    `module` the last of them, `module_type` the name of its class, `site` the file and line number of the
    call and `line` its text (`""` where they are not known).
    """
    for node in module.graph.nodes:
        stack = _stack(node.meta.get("nn_module_stack"))
        node.meta["modules"] = tuple(path for path, _ in stack)
        node.meta["module"], node.meta["module_type"] = stack[-1] if stack else ("", "")
        node.meta["site"], node.meta["line"] = site_of(node)


def _stack(stack: Any) -> list[tuple[str, str]]:
    """List name and class of the modules in a tracer's module stack, outermost first."""
    entries = []
    for path, kind in (stack or {}).values():
        # Serialized programs and non-strict traces may keep the tracer's name of the root.
        name = (
            _REPEATED.sub("", str(path)).removeprefix("L['self']").removeprefix("L__self__").removeprefix(".")
        )
        entries.append((name, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"))
    return entries


def site_of(node: fx.Node) -> tuple[str, str]:
    """Return file and line number of the call that made a node, and the line's text; empty where unknown."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    if not frames:
        return "", ""
    file, number, text = frames[-1]
    return f"{file}:{number}", text.split("#")[0].strip()
