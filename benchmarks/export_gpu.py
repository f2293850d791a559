"""An export in float16 on a GPU, beside other ways to run it there: `benchmarks.export_speed --device cuda`.

Ours is held against eager torch in float32 (convolutions in TF32, torch's default) and against every other
way in float16 that runs: eager, torch.compile, the plain export of the halved network, and that through
onnxslim. Files run alike: buffers on the device, the run recorded where onnxruntime can. Two bounds say how
near it comes to what a GPU can do: the operations of all products over the measured rate of a large one, and
what each convolution reads and writes, once, over the measured rate of a copy.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from surgeon.search.step.precision import Precision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.export_hosts import HOSTS, implanted, settle
from benchmarks.export_rivals import plain, slimmed
from benchmarks.export_timing import medians, paired_ratio, timed
from benchmarks.record import Target
from benchmarks.search_gpu import ceilings
from surgeon.errors import SurgeonError
from surgeon.parity import compare

# A batch of patches as a server would meet them: what fits the host at its usual size.
SHAPES = {
    "unet": (8, 3, 256, 256),
    "dynunet": (2, 1, 96, 96, 96),
    "segresnet": (2, 1, 96, 96, 96),
    "swinunetr": (1, 1, 96, 96, 96),
}
OURS, EAGER = "ours", "eager fp32"
RUNS, SECONDS = 60, 25.0
BARS = ((EAGER, 0.33), ("best other fp16", 0.9))
_CONVOLUTION = torch.ops.aten.convolution.default


def measured_on_gpu(name: str, device: str = "cuda") -> dict[str, Any]:
    """Export an implanted host in float16 and time it beside the others, all in turn.

    Args:
        name: of the host.
        device: `cpu` runs the same on small images, to try this without a GPU.
    """
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    host, small = HOSTS[name]()
    settle(host, small)
    network = implanted(host, small)
    settle(network, small)
    x = torch.randn(SHAPES[name]) if device == "cuda" else small
    with tempfile.TemporaryDirectory() as folder:
        files, failures = _files(network, small, x, Path(folder), device)
        calls, recorded, more = _calls(files, network.to(device), x.to(device), device)
        failures |= more
        with torch.no_grad():
            expected = network(x.to(device))
            differences = {
                key: compare(expected, call()).relative for key, call in calls.items() if key != EAGER
            }
        times = timed(
            {key: partial(_waited, call, device) for key, call in calls.items()}, RUNS, SECONDS
        ).wall
    rivals = [key for key in times if key not in (OURS, EAGER)]
    best = min(rivals, key=lambda key: medians(times)[key])
    return {
        "shape": list(x.shape),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "none",
        "milliseconds": medians(times),
        "ratios": {
            EAGER: round(paired_ratio(times, OURS, EAGER), 3),
            "best other fp16": round(paired_ratio(times, OURS, best), 3),
        },
        "best other": best,
        "differences": differences,
        "not recorded": recorded,
        "failures": failures,
        "bounds": bounds_of(network, x.to(device), device),
    }


def _files(
    network: nn.Module, small: Tensor, x: Tensor, place: Path, device: str
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write every file in float16, and say of those that fail why."""
    from surgeon.export import to_onnx

    target = "ort-cuda" if device == "cuda" else "ort-cpu"
    artifact = to_onnx(network, small, place / "ours", target, "fp16", second_opinion=False)
    files, failures = {OURS: artifact.model}, {}

    def plainly() -> Path:
        halved = copy.deepcopy(network).half().to(device)
        return plain(halved, x.half().to(device), place / "plain.onnx")

    def slimly() -> Path:
        onnx.save(slimmed(onnx.load(files["plain fp16"])), place / "slim.onnx")
        return place / "slim.onnx"

    for key, make in (("plain fp16", plainly), ("onnxslim fp16", slimly)):
        try:
            files[key] = make()
        except Exception as problem:  # noqa: BLE001 - a path that fails is left out, and said
            failures[key] = _short(problem)
    return files, failures


def _calls(
    files: Mapping[str, Path], network: nn.Module, x: Tensor, device: str
) -> tuple[dict[str, Callable[[], Any]], dict[str, str], dict[str, str]]:
    """Return a call for every way that runs, why files are not recorded, and why other ways do not run."""
    from surgeon.export import Runner

    provider = "ort-cuda" if device == "cuda" else "ort-cpu"
    calls: dict[str, Callable[[], Any]] = {EAGER: partial(network, x)}
    recorded, failures = {}, {}
    for key, file in files.items():
        try:
            runner = Runner(file, provider, shapes=[tuple(x.shape)])
        except SurgeonError as problem:
            if key == OURS:
                raise
            failures[key] = _short(problem)
            continue
        calls[key], recorded[key] = partial(runner, x), runner.not_recorded
    halved, half = copy.deepcopy(network).half(), x.half()
    others = {"eager fp16": lambda: halved, "torch.compile fp16": lambda: torch.compile(halved)}
    for key, make in others.items():
        try:
            run = make()
            with torch.inference_mode():
                run(half)
            calls[key] = partial(run, half)
        except Exception as problem:  # noqa: BLE001 - no compiler, or an operation without float16
            failures[key] = _short(problem)
    return calls, recorded, failures


def _waited(call: Callable[[], Any], device: str) -> None:
    call()
    if device == "cuda":
        torch.cuda.synchronize()


def _short(problem: Exception) -> str:
    return " ".join(f"{type(problem).__name__}: {problem}".split())[:300]


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the values that convolutions read and write, each once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is _CONVOLUTION:
            self.values += args[0].numel() + args[1].numel() + made.numel()
        return made


def bounds_of(network: nn.Module, x: Tensor, device: str) -> dict[str, float]:
    """Return the operations and bytes of a run in float16, and the milliseconds these take at least."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    with torch.no_grad(), _Traffic() as traffic:
        network(x)
    work = {"flops": float(counter.get_total_flops()), "bytes": 2.0 * traffic.values}
    if device != "cuda":
        return work
    rate, copied = ceilings(Precision.BF16)  # products of both half precisions have one rate
    return {**work, "arithmetic": 1000 * work["flops"] / rate, "memory": 1000 * work["bytes"] / copied}


def gpu_line(row: Mapping[str, Any]) -> str:
    """Say what came out for one host."""
    times = ", ".join(f"{name} {value:.2f}" for name, value in row["milliseconds"].items())
    ratios = ", ".join(f"over {name} {value:.3f}" for name, value in row["ratios"].items())
    differences = ", ".join(f"{name} {value:.0e}" for name, value in row["differences"].items())
    bounds, ours = row["bounds"], row["milliseconds"][OURS]
    lines = [f"{row['name']} {tuple(row['shape'])} on {row['gpu']}, ms: {times}"]
    lines.append(f"  {ratios} (best other: {row['best other']}); off by {differences}")
    if "memory" in bounds:
        told = ", ".join(f"{name} {bounds[name]:.3f} ms" for name in ("arithmetic", "memory"))
        lines.append(
            f"  bounds: {told}; {ours / max(bounds['arithmetic'], bounds['memory']):.1f} times the larger"
        )
    lines += [f"  {name} is not recorded: {why}" for name, why in row["not recorded"].items() if why]
    lines += [f"  {name} fails: {why}" for name, why in row["failures"].items()]
    return "\n".join(lines)


def gpu_targets(row: Mapping[str, Any]) -> list[Target]:
    """Hold the figures of one host against their bars."""
    return [
        Target.at_most(f"{row['name']}, fp16 over {name}", row["ratios"][name], bar) for name, bar in BARS
    ]
