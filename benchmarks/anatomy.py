"""Is every network of the table of truth traced, located right, and operable?

For each network: its links against the truth, the time and the memory of `surgeon.inspect`, identities
spliced into all links and compared to the bit, and (everywhere, or with --quick on a few) convolution cells
that are trained for some steps and exported to ONNX. `python -m benchmarks.anatomy [--quick] [--json]`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.isolation import Failed, isolated, peak_memory
from benchmarks.record import Parts, Target, commit, conclude, machine, say, versions
from surgeon.parity import compare, tensors_in
from surgeon.skips import Anatomy, Kind, Skip, locate
from surgeon.splicing import splice_trace
from surgeon.tracing import Example, Trace, as_example, run, trace
from surgeon.tracing.inputs import image_shapes, other_sizes, with_batch, with_sizes
from tests.zoo.builders import Built, build
from tests.zoo.table import Truth, score, table

LIMIT = 900.0  # seconds for one network
# What the figures depend on: finished parts count as long as these are the same.
SOURCES = (
    "surgeon/tracing",
    "surgeon/skips",
    "surgeon/splicing.py",
    "tests/zoo/builders.py",
    "tests/zoo/table.py",
)
# One of each sort: what --quick runs, and where it trains and exports cells.
QUICK_CELLS = (
    "monai_basicunet2d",
    "monai_unet3d_plain",
    "monai_segresnet2d",
    "monai_basicunetpp2d",
    "smp_fpn_resnet18",
    "dna_plainunet2d_ds",
)
QUICK = (
    *QUICK_CELLS,
    "monai_unet2d_res",
    "monai_attentionunet2d",
    "monai_dynunet2d",
    "monai_vnet2d",
    "monai_unetr2d",
    "monai_regunet",
    "monai_localnet",
    "monai_highresnet",
    "monai_mednext",
    "monai_autoencoder",
    "smp_unet_resnet18",
    "smp_unetpp_resnet18",
    "smp_manet_resnet18",
    "smp_linknet_resnet18",
    "smp_deeplabv3_resnet18",
    "smp_pspnet_resnet18",
    "smp_upernet_resnet18",
    "dna_resenc2d",
    "diffusers_unet2dcond",
    "tv_fcn_resnet50",
    "tv_fpn_resnet18",
    "timm_resnet18",
    "timm_vit_tiny",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0 when all targets hold."""
    options = _parser().parse_args(arguments)
    rows = _rows(options)
    report = summary(rows, options.quick)
    say(totals(rows), options.json)
    return conclude(report, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anatomy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a subset, within ten minutes on two cores")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--no-cells", action="store_true", help="neither train nor export cells")
    parser.add_argument("names", nargs="*", help="networks of the table; all when none is given")
    return parser


def _rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure network after network; the whole run takes up the parts that it has finished before."""
    chosen = options.names or (QUICK if options.quick else [truth.name for truth in table()])
    whole = not options.quick and not options.names
    places = Parts("anatomy", SOURCES) if whole else None
    cells = Parts("anatomy_cells", (*SOURCES, "export")) if whole else None
    _warm_up()
    rows = []
    for truth in table():
        if truth.name not in chosen:
            continue
        row = _once(places, located, truth)
        wanted = bool(truth.counted) and (not options.quick or truth.name in QUICK_CELLS)
        if wanted and not options.no_cells and "failure" not in row:
            row = {**row, "cells": _once(cells, operated, truth)}
        rows.append(row)
        say(line(row), options.json)
    return rows


def _once(parts: Parts | None, measure: Callable[[Truth], dict[str, Any]], truth: Truth) -> dict[str, Any]:
    """Measure a network, unless that is a finished part."""
    if parts is None:
        return _guarded(measure, truth)
    if truth.name not in parts.parts:
        parts.keep(truth.name, _guarded(measure, truth))
    found: dict[str, Any] = parts.parts[truth.name]
    return found


def _guarded(measure: Callable[[Truth], dict[str, Any]], truth: Truth) -> dict[str, Any]:
    known = {"name": truth.name, "links": len(truth.counted), "control": truth.is_control}
    start = "spawn" if measure is operated else "fork"
    try:
        return {**known, **isolated(measure, truth, limit=LIMIT, start=start)}
    except Failed as problem:
        return {**known, "failure": str(problem)}


def _warm_up() -> None:
    """Import what every network needs, so that the first one does not pay for it.

    One thread alone: a pool of threads does not survive the fork.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    trace(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()), torch.rand(1, 1, 8, 8))
    for family in {truth.family: truth for truth in table()}.values():
        build(family.family, family.name)


# --- located


def located(truth: Truth) -> dict[str, Any]:
    """Inspect a network, and hold what was found against the truth."""
    built = build(truth.family, truth.name)
    example = as_example(built.inputs, built.kwargs)
    run(built.network, example)
    forward = peak_memory()
    begin, busy = time.perf_counter(), time.process_time()
    traced = trace(built.network, built.inputs, built.kwargs)
    anatomy = locate(traced)
    seconds, processor = time.perf_counter() - begin, time.process_time() - busy
    peak = peak_memory()
    outcome = score(truth, anatomy.skips)
    return {
        "right": outcome.right,
        "sources": outcome.sources,
        "extra": list(outcome.extra),
        "missing": list(outcome.missing),
        "ambiguous": outcome.ambiguous,
        "exact": outcome.exact,
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "memory_ratio": round(peak / forward, 2),
        "way": anatomy.trace.way.value,
        "identity": identities(built, traced, anatomy),
    }


def identities(built: Built, traced: Trace, anatomy: Anatomy) -> dict[str, bool | str] | None:
    """Splice identities into all links and compare with the host to the bit, at other sizes as well.

    The host is frozen as the spliced one is: torch multiplies some batches by another route, with another
    rounding, when a weight needs a gradient.

    Returns:
        for the example, another batch and another size: whether it is equal, or why there is no answer;
        None for a network without links.
    """
    if not anatomy.skips:
        return None
    refused = [f"{skip.id}: {skip.reason}" for skip in anatomy.skips if not skip.implantable]
    if refused:
        return {"example": False, "refused": "; ".join(refused)}
    spliced = splice_trace(traced, {skip.id: nn.Identity() for skip in anatomy.skips})
    built.network.requires_grad_(False)
    found: dict[str, bool | str] = {}
    for what, variants in _variants(traced.example).items():
        free = {"batch": traced.summary.free_batch, "size": traced.summary.free_sizes}.get(what, True)
        found[what] = _equal(built.network, spliced, variants) if free else "fixed to the example"
    return found


def _variants(example: Example) -> dict[str, list[Example]]:
    sizes = [with_sizes(example, sizes) for sizes in other_sizes(image_shapes(example)[0][2:])]
    return {"example": [example], "batch": [with_batch(example)], "size": sizes}


def _equal(host: nn.Module, spliced: nn.Module, variants: list[Example]) -> bool | str:
    for variant in variants:
        try:
            expected = run(host, variant)
        except Exception:  # noqa: BLE001 - sizes that the host itself refuses say nothing
            continue
        return compare(expected, run(spliced, variant)).equal
    return "refused by the host"


# --- operated


class ConvCell(nn.Module):
    """A residual convolution: the smallest cell worth training."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](channels, channels, 3, padding=1)

    def forward(self, skip: Tensor) -> Tensor:
        """Refine a skip `(N, C, *spatial)`."""
        return skip + torch.relu(self.conv(skip))


def operated(truth: Truth) -> dict[str, Any]:
    """Splice a convolution cell into every link, train all of them, and export the network."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    built = build(truth.family, truth.name)
    fill_zeros(built.network)
    traced = trace(built.network, built.inputs, built.kwargs)
    dims = len(image_shapes(traced.example)[0]) - 2
    skips = [skip for skip in locate(traced).skips if skip.kind is not Kind.FUSION]
    spliced = splice_trace(traced, {skip.id: ConvCell(skip.channels, dims) for skip in skips})
    return {"trained": trained(spliced, traced.example, skips), **exported(spliced, built)}


@torch.no_grad()
def fill_zeros(network: nn.Module) -> None:
    """Give small weights to layers that are born zero, such as a diffusion model's last convolution.

    Nothing before such a layer gets a gradient until training has moved it; a trained host has.
    """
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            parameter.normal_(std=0.02)


def trained(spliced: nn.Module, example: Example, skips: list[Skip]) -> bool:
    """Take a few steps; tells whether every cell moved and nothing else did."""
    before = {name: tensor.clone() for name, tensor in spliced.state_dict().items()}
    spliced.train()
    optimizer = torch.optim.Adam([p for p in spliced.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        outputs = [t for t in tensors_in(spliced(*example.args, **example.kwargs)) if t.requires_grad]
        loss = sum((F.mse_loss(output, torch.ones_like(output)) for output in outputs), torch.zeros(()))
        loss.backward()
        optimizer.step()
    spliced.eval()
    after = spliced.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    moved = {name.split(".")[1] for name in changed if name.startswith("implants.")}
    return bool(
        all(name.startswith("implants.") for name in changed)
        and moved == {skip.id for skip in skips}
        and torch.isfinite(loss)
    )


def exported(spliced: nn.Module, built: Built) -> dict[str, Any]:
    """Export to ONNX behind the parity gate, with free sizes or, where the gate refuses those, fixed ones.

    `exported` is false with the reason where both are refused.
    """
    free = _export(spliced, built, "free")
    if free["exported"]:
        return free
    fixed = _export(spliced, built, "fixed")
    return {**fixed, "refused_free": free["reason"]}


def _export(spliced: nn.Module, built: Built, sizes: str) -> dict[str, Any]:
    from surgeon.export import to_onnx

    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact = to_onnx(spliced, built.inputs, folder, kwargs=built.kwargs, sizes=sizes)
        except Exception as problem:  # noqa: BLE001 - why it fails is the finding
            text = " ".join(f"{type(problem).__name__}: {problem}".split())
            return {"exported": False, "reason": text[:600]}
    return {"exported": True, "sizes": sizes, "cases": len(artifact.parity)}


# --- said


def line(row: Mapping[str, Any]) -> str:
    """Render a network's row."""
    if "failure" in row:
        return f"{row['name']:32} FAILED {row['failure']}"
    cells = row.get("cells")
    worked = (
        "-" if cells is None else "ok" if cells.get("trained") and cells.get("exported") else f"NO {cells}"
    )
    identity = row["identity"]
    told = (
        "-" if identity is None else ",".join(f"{k}:{'=' if v is True else v}" for k, v in identity.items())
    )
    text = (
        f"{row['name']:32} {'exact' if row['exact'] else 'WRONG':6} {row['right']:2}/{row['links']:<2} "
        f"{row['seconds']:5.1f} s (processor {row['processor_seconds']:.1f}) "
        f"memory x{row['memory_ratio']:.2f} {row['way']}; identity {told}; cells {worked}"
    )
    wrong = [f"\n    extra: {what}" for what in row["extra"]] + [
        f"\n    missing: {what}" for what in row["missing"]
    ]
    return text + "".join(wrong)


def totals(rows: list[dict[str, Any]]) -> str:
    """Render the totals in one line."""
    t = _count(rows)
    return (
        f"{t['traced']} of {t['networks']} traced; "
        f"{t['right']} links right, {t['extra']} extra, {t['missing']} missing "
        f"(precision {t['precision']:.3f}, recall {t['recall']:.3f}); {t['exact']} of {t['networks']} exact; "
        f"{t['on_controls']} on {t['controls']} controls; {t['ambiguous']} ambiguous; "
        f"sources right {t['sources']}; "
        f"inspect median {t['median']:.2f} s, slowest {t['slowest']:.1f} s "
        f"(processor {t['processor_median']:.2f} and {t['processor_slowest']:.1f})"
    )


def _count(rows: list[dict[str, Any]]) -> dict[str, Any]:
    good = [row for row in rows if "failure" not in row]
    right = sum(row["right"] for row in good)
    extra = sum(len(row["extra"]) for row in good)
    links = sum(row["links"] for row in rows)
    return {
        "networks": len(rows),
        "traced": len(good),
        "right": right,
        "extra": extra,
        "missing": links - right,
        "precision": right / max(right + extra, 1),
        "recall": right / max(links, 1),
        "exact": sum(row["exact"] for row in good),
        "controls": sum(row["control"] for row in rows),
        "on_controls": sum(len(row["extra"]) for row in good if row["control"]),
        "ambiguous": sum(row["ambiguous"] for row in good),
        "sources": sum(row["sources"] for row in good),
        "median": statistics.median([row["seconds"] for row in good] or [0.0]),
        "slowest": max([row["seconds"] for row in good], default=0.0),
        "processor_median": statistics.median([row["processor_seconds"] for row in good] or [0.0]),
        "processor_slowest": max([row["processor_seconds"] for row in good], default=0.0),
        "memory": max([row["memory_ratio"] for row in good], default=0.0),
    }


def summary(rows: list[dict[str, Any]], quick: bool) -> dict[str, Any]:
    """Return what was measured as plain JSON, with the targets."""
    t = _count(rows)
    spliced = [row["identity"] for row in rows if row.get("identity") and row["links"]]
    equal = sum(all(value is not False for value in identity.values()) for identity in spliced)
    with_links = sum(bool(row["links"]) for row in rows)
    targets = [
        Target.at_least("networks traced", t["traced"], t["networks"]),
        Target.at_least("precision", round(t["precision"], 4), 1.0),
        Target.at_least("recall", round(t["recall"], 4), 0.99),
        Target.at_least("networks exactly right", t["exact"], t["networks"] - 2),
        Target.at_most("links reported on controls", t["on_controls"], 0),
        Target.at_most("ambiguous merges hit", t["ambiguous"], 10),
        Target.at_most("median seconds to inspect", round(t["median"], 2), 3.0),
        Target.at_most("slowest seconds to inspect", round(t["slowest"], 2), 40.0),
        Target.at_most("largest memory of inspect over the forward pass", t["memory"], 2.5),
        Target.at_least("networks bit-equal under identities", equal, len(spliced)),
    ]
    operated_on = [row["cells"] for row in rows if "cells" in row]
    not_measured = []
    if operated_on:
        works = sum(bool(cells.get("trained") and cells.get("exported")) for cells in operated_on)
        targets.append(Target.at_least("networks with cells trained and exported", works, len(operated_on)))
    if len(operated_on) < with_links:
        not_measured.append(
            f"cells trained and exported on {with_links - len(operated_on)} networks with links"
        )
    if quick:
        not_measured.append(f"{len(table()) - len(rows)} networks of the table")
    return {
        "benchmark": "anatomy",
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "totals": {key: round(value, 4) if isinstance(value, float) else value for key, value in t.items()},
        "targets": [target.to_dict() for target in targets],
        "not_measured": not_measured,
        "rows": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
