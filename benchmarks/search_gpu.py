"""The step of a search on a GPU, beside the reference's: `benchmarks.search_speed --device cuda`.

Each host in float32 (as torch computes it: convolutions in TF32, products in float32) and in bfloat16 by
autocast, everything of a host in one process. Two bounds say how near the step comes to what a GPU can do:
its floating-point operations over the measured rate of a large product, and the bytes that its passes keep
for the gradients, written once and read once, over the measured rate of a copy.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from surgeon.search.step.precision import Precision
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import Target
from benchmarks.search_steps import WAYS, Case, Place, make_step, seconds_in_turn

PRECISIONS = (Precision.FP32, Precision.BF16)
ROUNDS, WARM_UP = 10, 5  # recordings are made in the third pass of each kind
PROFILED = 5
SIDE, COPIED = 8192, 2**31


def measured_on_gpu(case: Case, place: Place) -> dict[str, Any]:
    """Measure a host in every precision."""
    found = {}
    for precision in PRECISIONS:
        at = replace(place, precision=precision)
        memory = {way: bytes_of_step(case, at, way) for way in WAYS[:2]}
        bounds = bounds_of_step(case, at)
        steps = {way: make_step(case, at, way) for way in WAYS}
        seconds, _ = seconds_in_turn(steps, ROUNDS, at.wait, WARM_UP)
        found[precision.value] = {
            "seconds": seconds,
            "memory_kib": memory,
            "busy": busy_share(steps["search"], at.wait),
            "launching": busy_share(steps["reference search"], at.wait),
            "bounds": bounds,
        }
        del steps
        release()
    return {"name": case.name, "shape": list(case.shape), "gpu": torch.cuda.get_device_name(), **found}


def bytes_of_step(case: Case, place: Place, way: str) -> int:
    """Return by how many KiB steps raise the memory of a GPU that holds the networks already."""
    step = make_step(case, place, way, cache=0.0)
    release()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    for _ in range(WARM_UP):
        step()
    found = (torch.cuda.max_memory_allocated() - held) // 1024
    del step
    release()
    return found


def release() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    torch.cuda.empty_cache()


def busy_share(step: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Return the share of the time of some steps in which the GPU computes."""
    wait()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        begin = time.perf_counter()
        for _ in range(PROFILED):
            step()
        wait()
        seconds = time.perf_counter() - begin
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy = end = 0.0
    for first, last in spans:
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    return round(busy / 1e6 / seconds, 3)


def bounds_of_step(case: Case, place: Place) -> dict[str, float]:
    """Return the operations of a step and the bytes of what it keeps, and the seconds these take at least.

    A step that nothing is recorded of, since what is replayed cannot be counted.
    """
    step = make_step(case, place, "search", recorded=False)
    step()
    with FlopCounterMode(display=False) as counter, counting_bytes() as kept:
        step()
    rate, copied = ceilings(place.precision)
    work = {"flops": float(counter.get_total_flops()), "bytes": 2.0 * kept[0]}
    least = {"arithmetic": work["flops"] / rate, "memory": work["bytes"] / copied}
    del step
    release()
    return {**work, "rate": rate, "copied": copied, **least}


@contextmanager
def counting_bytes() -> Iterator[list[int]]:
    """Count the bytes that passes inside the block keep for their gradients, each storage once."""
    total, there = [0], dict[int, StorageWeakRef]()

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        place = storage.data_ptr()
        if place not in there or there[place].expired():
            there[place] = StorageWeakRef(storage)
            total[0] += storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield total


def ceilings(precision: Precision) -> tuple[float, float]:
    """Return the operations a second of a large product, and the bytes a second of a large copy."""
    kind = torch.bfloat16 if precision is Precision.BF16 else torch.float32
    one = torch.randn(SIDE, SIDE, device="cuda", dtype=kind)
    allowed, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    rate = 2 * SIDE**3 / fastest(lambda: one @ one)
    torch.backends.cuda.matmul.allow_tf32 = allowed
    source, target = (torch.empty(COPIED, dtype=torch.uint8, device="cuda") for _ in range(2))
    return rate, 2 * COPIED / fastest(lambda: target.copy_(source))


def fastest(work: Callable[[], Any]) -> float:
    """Return the least seconds of some runs."""
    seconds = []
    for _ in range(8):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def gpu_lines(row: Mapping[str, Any]) -> str:
    """Say what came out for one host."""
    lines = [f"{row['name']} {tuple(row['shape'])} on {row['gpu']}"]
    for precision in PRECISIONS:
        found = row[precision.value]
        times = ", ".join(f"{way} {1000 * value:.2f}" for way, value in found["seconds"].items())
        sizes = ", ".join(f"{way} {value / 1024:.0f}" for way, value in found["memory_kib"].items())
        bounds = found["bounds"]
        lines.append(
            f"  {precision.value}: ms a step: {times}; MiB: {sizes}; busy {found['busy']:.2f}"
            f" (reference {found['launching']:.2f}); bounds: arithmetic {1000 * bounds['arithmetic']:.2f} ms"
            f" ({bounds['flops'] / 1e9:.0f} GFLOP at {bounds['rate'] / 1e12:.0f} TFLOP/s), bytes"
            f" {1000 * bounds['memory']:.2f} ms ({bounds['bytes'] / 2**20:.0f} MiB at"
            f" {bounds['copied'] / 1e12:.2f} TB/s)"
        )
    return "\n".join(lines)


def gpu_targets(row: Mapping[str, Any]) -> list[Target]:
    """Hold the figures of one host against their bars."""
    name = row["name"]
    wide, half = (row[precision.value] for precision in PRECISIONS)
    eager = wide["seconds"]["reference search"]
    targets = [
        Target.at_least(
            f"{name}: search step in bf16 over the reference in fp32, times faster",
            round(eager / half["seconds"]["search"], 2),
            8.0,
        )
    ]
    for precision, found in zip(PRECISIONS, (wide, half), strict=True):
        seconds, memory, words = found["seconds"], found["memory_kib"], f"{name}, {precision.value}"
        faster = seconds["reference search"] / seconds["search"]
        smaller = memory["search"] / memory["reference search"]
        training = seconds["derived cells"] / seconds["whole host"]
        targets += [
            Target.at_least(f"{words}: search step, times faster", round(faster, 2), 4.0),
            Target.at_most(f"{words}: memory over the reference's", round(smaller, 2), 0.5),
            Target.at_least(f"{words}: GPU busy", found["busy"], 0.85),
            Target.at_most(f"{words}: cells' training step over the whole host's", round(training, 2), 1.0),
        ]
    return targets
