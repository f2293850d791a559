"""The networks of the table of truth, identities spliced into their skips, exported with free sizes."""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from typing import Any

import torch
from torch import nn

import surgeon
from benchmarks.isolation import Failed, isolated
from benchmarks.record import Parts, Target, say
from surgeon.parity import tensors_in
from tests.zoo.builders import Built, build
from tests.zoo.table import Truth, table

LIMIT = 1800.0  # seconds for one network
SOURCES = ("export", "surgeon/parity.py", "tests/zoo/builders.py", "benchmarks/export_zoo.py")
QUICK = (
    "monai_unet2d",
    "monai_dynunet2d",
    "smp_unet_resnet18",
    "smp_pspnet_resnet18",
    "smp_upernet_resnet18",
)


def zoo_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Export network after network, in the order they are named; a finished part is not run again."""
    truths = {truth.name: truth for truth in table()}
    unknown = sorted(set(options.names) - set(truths))
    if unknown:
        raise SystemExit(f"the table of truth has no network called {unknown[0]}")
    parts = None if options.quick else Parts("export_zoo", SOURCES)
    rows = []
    for name in options.names or (QUICK if options.quick else truths):
        truth = truths[name]
        row = parts.find(name) if parts is not None else None
        if row is None:
            row = _row(truth)
            if parts is not None and row["outcome"] != "failed":
                parts.keep(truth.name, row)
        rows.append(row)
        say(f"{row['name']:34} {row['outcome']:8} {row['seconds']:6.1f} s  {row['told']}", options.json)
    return rows


def zoo_targets(rows: list[dict[str, Any]]) -> list[Target]:
    """Say how many networks were exported in full freedom, and whether any is wrong in silence."""
    wide = sum(row["outcome"] == "free" and row["sizes"] >= 3 for row in rows)
    told = sum(row["outcome"] in ("free", "fixed", "refused") for row in rows)
    return [
        Target.at_least("networks exported with free sizes and parity at three", wide, len(rows) - 3),
        Target.at_least("networks exported or refused with a reason", told, len(rows)),
    ]


def _row(truth: Truth) -> dict[str, Any]:
    """Export one network in a process of its own."""
    start = time.monotonic()
    try:
        found = isolated(spliced_export, truth, limit=LIMIT, start="spawn")
    except Failed as problem:
        found = {"outcome": "failed", "sizes": 0, "told": str(problem)[:300]}
    return {"name": truth.name, **found, "seconds": round(time.monotonic() - start, 1)}


def spliced_export(truth: Truth) -> dict[str, Any]:
    """Export with free sizes; the outcome is `free`, `fixed` (the network's own sizes), or `refused`."""
    from surgeon.export import to_onnx

    from surgeon.errors import SurgeonError

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    built = enlivened(build(truth.family, truth.name))
    network = with_identities(built)
    with tempfile.TemporaryDirectory() as folder:
        try:
            artifact = to_onnx(network, built.inputs, folder, kwargs=built.kwargs)
        except SurgeonError as refusal:
            return {"outcome": "refused", "sizes": 0, "told": " ".join(str(refusal).split())[:400]}
    sizes = len({case.shapes[0][2:] for case in artifact.parity})
    worst = max(case.difference.relative for case in artifact.parity)
    opinion = artifact.second_opinion
    second = "" if opinion is None else opinion.reason or "reference agrees"
    told = f"{len(artifact.parity)} cases, {sizes} sizes, worst {worst:.1e}, {second}"
    told += "".join(f"; {refusal.reason}" for refusal in artifact.refusals)
    return {"outcome": "free" if artifact.freedom.sizes else "fixed", "sizes": sizes, "told": told[:400]}


def with_identities(built: Built) -> nn.Module:
    """Splice an identity into every skip; a network without skips stays as it is."""
    anatomy = surgeon.inspect(built.network, built.inputs, kwargs=built.kwargs)
    cells: dict[str, nn.Module] = {skip.id: nn.Identity() for skip in anatomy.skips if skip.implantable}
    if not cells:
        return built.network
    spliced: nn.Module = surgeon.splice(built.network, built.inputs, cells, kwargs=built.kwargs)
    return spliced


def enlivened(built: Built) -> Built:
    """Give weights that begin at zero, and statistics that begin at 0 and 1, values that count.

    Parity of an output that is zero everywhere would say nothing.

    Raises:
        ValueError: the output does not vary all the same.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        for part in built.network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.1, generator=generator)
                part.running_var.uniform_(0.8, 1.25, generator=generator)
        outputs = tensors_in(built.network(*built.inputs, **built.kwargs))
    if not all(float(x.std()) > 0 for x in outputs if x.is_floating_point() and x.numel() > 1):
        raise ValueError("an output is the same everywhere, so that parity would say nothing")
    return built
