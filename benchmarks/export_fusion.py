"""What the fusion passes spare on the implanted hosts, in nodes and FLOPs; nothing is timed."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import torch

from benchmarks.export_hosts import HOSTS, implanted, settle


def fused(name: str) -> dict[str, Any]:
    """Fuse an implanted host as for a CPU, and count."""
    from surgeon.export import Freedom, flatten, fuse
    from surgeon.export.cases import step_of_depth, step_of_sizes
    from surgeon.export.fusion import cpu_passes

    from surgeon.tracing import Example, run

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    host, x = HOSTS[name]()
    settle(host, x)
    network = implanted(host, x)
    settle(network, x)
    example = Example((x,), {})
    with torch.no_grad():
        step = step_of_sizes(lambda each: run(network, each), example)
        depth_step = step_of_depth(lambda each: run(network, each), example) if step > 1 else 1
    ladder = tuple(Freedom) if step else (Freedom.BATCH, Freedom.NOTHING)
    flat = flatten(network, example, ladder)
    passes = fuse(flat.graph_module, example.args, passes=cpu_passes(max(step, 1), depth_step)).passes
    return {
        "free": flat.freedom.value,
        "passes": [one.to_dict() for one in passes],
        "left": {one.name: Counter(left.reason for left in one.rejected) for one in passes},
    }


def fusion_lines(row: dict[str, Any]) -> str:
    """Render a host's row: each pass that changed something, and what composing left and why."""
    active = [one for one in row["passes"] if one["changed"]]
    told = [f"{row['name']:12} free: {row['free']}; {row['seconds']} s"]
    for one in active:
        flops = one["flops_after"] - one["flops_before"]
        nodes = one["nodes_after"] - one["nodes_before"]
        told.append(f"  {one['name']:28} {one['changed']:4} places, {nodes:+5} nodes, {flops:+14,} FLOPs")
    told.append(f"  all: {_change(active, 'nodes')} nodes, {_change(active, 'flops')} FLOPs")
    told += [
        f"  {count} left by compose_convolutions: {reason}"
        for reason, count in row["left"]["compose_convolutions"].items()
    ]
    return "\n".join(told)


def _change(active: list[dict[str, Any]], name: str) -> str:
    before = active[0][f"{name}_before"] if active else 0
    after = before + sum(one[f"{name}_after"] - one[f"{name}_before"] for one in active)
    return f"{before:,} to {after:,}"
