"""Is the export right, small, and the fastest?

Four hosts, each with a cell of one fixed genotype that uses every operation on all its skips, exported and
run against eager torch, torch.compile, a plain `torch.onnx.export`, and that through onnxslim and onnxsim;
a plain export of the host that is right at one size alone is compared with our export of that size. Then in
int8, for its time and what it costs in Dice. Every host is a part, and its int8 another: what is
finished is kept. On a machine that does other work as well, look at the processor's clock, with one thread
(`--threads 1`): waiting for another one counts.
`python -m benchmarks.export_speed [--quick] [--json] [--parts N] [--device cuda] [HOST ...]`; `--zoo` exports
every network of the table of truth, and with `--device cuda` the hosts run in float16 on a GPU.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import Tensor, nn

from benchmarks.export_fusion import fused, fusion_lines
from benchmarks.export_gpu import gpu_line, gpu_targets, measured_on_gpu
from benchmarks.export_hosts import HOSTS, implanted, settle
from benchmarks.export_int8 import int8_line, quantised
from benchmarks.export_rivals import others, plain, sizes_held
from benchmarks.export_timing import ADDED, medians, ratios, timed
from benchmarks.export_zoo import zoo_rows, zoo_targets
from benchmarks.isolation import Failed, isolated
from benchmarks.record import Parts, Target, commit, conclude, machine, say, versions
from surgeon.parity import compare
from surgeon.rendering import format_count

if TYPE_CHECKING:
    from surgeon.export.fusion import PassReport

LIMIT = 3600.0  # seconds for one part
OTHER_SIZES = 3  # at which exports are tried
RUNS, SECONDS = 40, 30.0
TORCH_RUNS, TORCH_SECONDS = 10, 20.0
SOURCES = (
    "export",
    "search/cells",
    "search/operations.py",
    *(
        f"benchmarks/export_{name}.py"
        for name in ("fusion", "gpu", "hosts", "int8", "rivals", "speed", "timing")
    ),
)
Render = Callable[[dict[str, Any]], str]
MeasuredPart = tuple[str, Callable[[], dict[str, Any]], Render]
QUICK = ("unet", "segresnet")
FIXED = "ours at fixed sizes"  # held against a host's plain export that is right at one size alone
NOT_MEASURED = ("GPU: fp16 p50 over eager fp32 and over the best other fp16 path, roofline bounds (no GPU)",)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0 when all targets hold."""
    options = _parser().parse_args(arguments)
    rows = [] if options.zoo else measured(options)
    zoo = zoo_rows(options) if options.zoo else []
    report = summary(rows, zoo, options.quick)
    return conclude(report, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a subset, within ten minutes on two cores")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--zoo", action="store_true", help="export the table of truth instead")
    parser.add_argument("--parts", type=int, default=sys.maxsize, help="run at most so many new parts")
    parser.add_argument("--threads", type=int, help="of each way; as many as there are processors")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: in float16, beside other ways there"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--fusion", action="store_true", help="count what each pass spares, and time nothing")
    parser.add_argument(
        "--int8", choices=("on", "off", "only"), default="on", help="beside float32, or alone"
    )
    parser.add_argument("names", nargs="*", help="hosts, or networks of the table; all when none is given")
    return parser


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure host after host, in float32 and in int8, each a part; a finished one is not run again."""
    chosen = options.names or (QUICK if options.quick else tuple(HOSTS))
    parts = Parts("export_speed", SOURCES) if not options.quick else None
    wanted = [part for name in chosen for part in _parts_of(name, options)]
    left = options.parts
    rows = []
    for name, measure, render in wanted:
        row = parts.find(name) if parts is not None else None
        if row is None and left <= 0:
            continue
        if row is None:
            left -= 1
            row = measure()
            if parts is not None and "failure" not in row:
                parts.keep(name, row)
        rows.append(row)
        say(f"{name:12} FAILED {row['failure']}" if "failure" in row else render(row), options.json)
    return rows


def _parts_of(name: str, options: argparse.Namespace) -> list[MeasuredPart]:
    """List what is measured of a host: the name of each part, how, and how it reads."""
    threads = options.threads or threads_here()
    part = name if threads == threads_here() else f"{name} x{threads}"

    def made(part: str, render: Render, measure: Callable[..., dict[str, Any]], *more: Any) -> MeasuredPart:
        return part, partial(_isolated, part, measure, name, *more), render

    if options.fusion:
        return [made(f"{name} fusion", fusion_lines, fused)]
    if options.device == "cuda":
        return [made(f"{name} cuda", gpu_line, measured_on_gpu)]
    in_int8 = made(f"{part} int8", int8_line, quantised, threads)
    if options.int8 == "only":
        return [in_int8]
    plain = made(part, line, operated, not options.no_compile, threads)
    return [plain] if options.int8 == "off" else [plain, in_int8]


def _isolated(name: str, measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Measure in a process of its own."""
    start = time.monotonic()
    try:
        row = isolated(measure, *arguments, limit=LIMIT, start="spawn")
    except Failed as problem:
        row = {"failure": str(problem)}
    return {"name": name, **row, "seconds": round(time.monotonic() - start)}


# --- measured


def operated(name: str, compiled: bool, threads: int) -> dict[str, Any]:
    """Export a host and its implanted network in every way, and time them all in turn."""
    from surgeon.export import open_session, run_session, to_onnx

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    host, x = HOSTS[name]()
    settle(host, x)
    network = implanted(host, x)
    settle(network, x)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # What ONNX's reference evaluator says is part of `--zoo`.
        artifact = to_onnx(network, x, place / "ours", second_opinion=False)
        files = {"ours": artifact.model, **others(network, x, place, "implanted")}
        files |= {"host plain": plain(host, x, place / "host.onnx")}
        runs = {key: partial(run_session, open_session(file, threads=threads)) for key, file in files.items()}
        shapes = _other_shapes([case.shapes[0] for case in artifact.parity], x)
        held = {key: sizes_held(run, _network_of(key, host, network), shapes) for key, run in runs.items()}
        beside_host = "ours" if held["host plain"] or not shapes else FIXED
        if beside_host == FIXED:
            files[FIXED] = to_onnx(network, x, place / "fixed", sizes="fixed", second_opinion=False).model
            runs[FIXED] = partial(run_session, open_session(files[FIXED], threads=threads))
        calls: dict[str, Callable[[], Any]] = {key: partial(run, x) for key, run in runs.items()}
        with torch.no_grad():
            expected = network(x)
        differences = {key: compare(expected, calls[key]()).relative for key in calls if key != "host plain"}
        by_torch = {"ours": calls["ours"], "eager": lambda: network(x), "host eager": lambda: host(x)}
        by_torch |= _compiled(network, x) if compiled else {}
        exports, torch_times = timed(calls, RUNS, SECONDS), timed(by_torch, TORCH_RUNS, TORCH_SECONDS)
        counts = {key: counted(file) for key, file in files.items()}
    return {
        "threads": threads,
        "milliseconds": {**medians(torch_times.wall), **medians(exports.wall)},
        "processor": {**medians(torch_times.processor), **medians(exports.processor)},
        "beside the host": beside_host,
        "other sizes": len(shapes),
        "held": held,
        "ratios": ratios(exports.wall, torch_times.wall, beside_host),
        "ratios by processor": ratios(exports.processor, torch_times.processor, beside_host),
        "counts": counts,
        "differences": differences,
        "parity": len(artifact.parity),
        "worst": max(case.difference.relative for case in artifact.parity),
        "flops": _flops(artifact.fusion),
        "fusion": {report.name: report.changed for report in artifact.fusion},
    }


def _other_shapes(proved: Sequence[tuple[int, ...]], x: Tensor) -> list[tuple[int, ...]]:
    """Return the smallest of the proved shapes whose spatial sizes are not the example's."""
    return sorted({shape for shape in proved if shape[2:] != x.shape[2:]}, key=math.prod)[:OTHER_SIZES]


def _network_of(name: str, host: nn.Module, network: nn.Module) -> nn.Module:
    return host if name == "host plain" else network


def _flops(passes: Sequence[PassReport]) -> dict[str, int]:
    """Return the operations of the implanted network before and after all passes."""
    pairs = [(one.flops_before or 0, one.flops_after or 0) for one in passes]
    before = pairs[0][0]
    return {"before": before, "after": before + sum(after - given for given, after in pairs)}


def threads_here() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compiled(network: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    try:
        compiled = torch.compile(copy.deepcopy(network))
        with torch.inference_mode():
            compiled(x)
    except Exception as problem:  # noqa: BLE001 - a machine without a compiler
        print(f"torch.compile fails: {problem}"[:200], file=sys.stderr)
        return {}
    return {"torch.compile": lambda: compiled(x)}


def counted(file: Path) -> dict[str, int]:
    """Count nodes and initialisers of a file."""
    graph = onnx.load(file, load_external_data=False).graph
    return {"nodes": len(graph.node), "initialisers": len(graph.initializer)}


# --- said


def line(row: dict[str, Any]) -> str:
    """Render a host's row."""
    counts = ", ".join(f"{name} {c['nodes']}/{c['initialisers']}" for name, c in row["counts"].items())
    flops = " to ".join(format_count(row["flops"][key]) for key in ("before", "after"))
    return (
        f"{row['name']:12} {row['threads']} threads, ms: {_listed(row['milliseconds'], '.1f')}\n"
        f"  by the processor's clock: {_listed(row['processor'], '.1f')}\n"
        f"  nodes/initialisers: {counts}; FLOPs {flops}\n"
        f"  right at other sizes, of {row['other sizes']}: {_listed(row['held'], 'd')}\n"
        f"  held against the host's plain export: {row['beside the host']}\n"
        f"  {_listed(row['ratios'], '.3f')}\n"
        f"  by the processor's clock: {_listed(row['ratios by processor'], '.3f')}\n"
        f"  parity on {row['parity']} cases, worst {row['worst']:.1e}; {row['seconds']} s"
    )


def _listed(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


BARS = (
    (ADDED, 0.5),
    ("over host's plain export", 1.10),
    ("over best other", 1.02),
    ("over eager", 1.0),
)


def summary(rows: list[dict[str, Any]], zoo: list[dict[str, Any]], quick: bool) -> dict[str, Any]:
    """Return the whole result as plain JSON."""
    targets = []
    in_float = [row for row in rows if not row["name"].endswith(("int8", "fusion", "cuda"))]
    on_gpu = [row for row in rows if row["name"].endswith("cuda") and "failure" not in row]
    good = [row for row in in_float if "failure" not in row]
    if in_float:
        targets.append(Target.at_least("hosts exported with parity", len(good), len(in_float)))
    hidden = [row["name"] for row in good if ADDED not in row["ratios"]]
    unknown = [f"{name}: {ADDED} (nothing that stands out of the noise)" for name in hidden]
    for name, bar in BARS if good else ():
        values = [row["ratios"][name] for row in good if name in row["ratios"]]
        targets += [Target.at_most(f"worst host: {name}", max(values), bar)] if values else []
    targets += [target for row in on_gpu for target in gpu_targets(row)]
    targets += zoo_targets(zoo) if zoo else []
    return {
        "benchmark": "export_speed",
        "quick": quick,
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "rows": [*rows, *zoo],
        "targets": [target.to_dict() for target in targets],
        "not_measured": [*(() if on_gpu else NOT_MEASURED), *unknown],
    }


if __name__ == "__main__":
    sys.exit(main())
