"""RUN folders as a search leaves them, written by hand."""

import json
import math

import numpy as np

OPERATIONS = ("none", "identity", "max3", "avg3", "sep3", "sep5", "dil3", "dil5", "pointwise")
EDGES = [
    f"{source}->{f'state{t}'}" for t in range(4) for source in ["input0", *(f"state{s}" for s in range(t))]
]


def weights(progress, shift=0):
    """Weights that begin equal and come apart."""
    table = {}
    for number, edge in enumerate(EDGES):
        scores = [math.exp(2.5 * progress * math.sin(1.7 * (number + shift) + 2.1 * i)) for i in range(9)]
        table[edge] = {name: score / sum(scores) for name, score in zip(OPERATIONS, scores, strict=True)}
    return table


def history(cells=("shared",), epochs=12):
    rows = []
    for epoch in range(epochs):
        rows.append(
            {
                "phase": "search",
                "epoch": epoch,
                "train_loss": 0.9 * 0.9**epoch,
                "validation_loss": 0.95 * 0.92**epoch,
                "validation_dice": 0.9 - 0.3 * 0.8**epoch,
                "seconds": 2.5,
                "alphas": {cell: weights(epoch / epochs, i) for i, cell in enumerate(cells)},
                "betas": {cell: dict.fromkeys(EDGES, 0.25) for cell in cells},
            }
        )
    for epoch in range(epochs // 2):
        row = {
            "phase": "retrain",
            "epoch": epoch,
            "train_loss": 0.4 * 0.9**epoch,
            "validation_loss": 0.5 * 0.93**epoch,
        }
        rows.append({**row, "validation_dice": 0.92 - 0.1 * 0.7**epoch, "seconds": 1.5})
    return rows


def cell():
    pairs = [
        ("input0", 0, "sep3"),
        ("input0", 1, "dil3"),
        ("state0", 1, "identity"),
        ("state0", 2, "pointwise"),
    ]
    pairs += [("state1", 2, "max3"), ("input0", 3, "sep5"), ("state1", 3, "avg3")]
    return {"width": 0.25, "edges": [{"from": a, "to": f"state{b}", "operation": op} for a, b, op in pairs]}


def genotype(cells=("shared",)):
    scope = "shared" if cells == ("shared",) else "per-skip"
    head = {"version": 1, "scope": scope, "inputs": "encoder", "merge": "residual", "states": 4}
    return {**head, "cells": {name: cell() for name in cells}}


def anatomy(skips=4):
    rows = []
    for i in range(skips):
        shape = [1, 16 << i, 256 >> i, 256 >> i]
        rows.append(
            {
                "id": f"s{i}",
                "kind": "skip",
                "merge": "cat",
                "merge_module": f"upcat_{4 - i}",
                "source_module": f"down_{i}.convs",
                "source_shape": shape,
                "merge_shape": shape,
                "implantable": True,
                "reason": "",
                "level": i,
                "stride": [1 << i, 1 << i],
                "channels": 16 << i,
                "layout": "channels_first",
                "decoder_shape": shape,
                "merge_node": f"cat_{i}",
                "source_node": f"relu_{i}",
            }
        )
    refusal = {
        "node": "add_7",
        "merge": "add",
        "module": "down_1",
        "shape": [1, 32, 128, 128],
        "reason": "a residual",
    }
    return {
        "host": "BasicUNet",
        "parameters": 467_331,
        "input_shapes": [[1, 1, 256, 256]],
        "output_shapes": [[1, 2, 256, 256]],
        "skips": rows,
        "refusals": [refusal],
        "notes": ["the bottleneck keeps its resolution"],
        "trace": {
            "way": "torch.export, free batch and sizes",
            "free_batch": True,
            "free_sizes": True,
            "stride": 16,
            "replays": [],
            "attempts": [],
        },
    }


def scores(shift, cases=24):
    per_case = {
        f"mouse{i % 6}_frame{i:04d}": {"subject": f"mouse{i % 6}", "dice": {"pupil": value}}
        for i in range(cases)
        for value in [min(0.99, 0.72 + 0.2 * math.sin(i * 2.3) ** 2 + shift * (1.2 - math.sin(i)))]
    }
    mean = sum(case["dice"]["pupil"] for case in per_case.values()) / cases
    return {"dice_mean": mean, "dice_per_class": {"pupil": mean}, "per_case": per_case}


def report(**changes):
    host, implanted = scores(0.0), scores(0.03)
    value = {
        "host": {
            "name": "BasicUNet",
            "spec": "monai.networks.nets:BasicUNet",
            "checkpoint": "weights.pt",
            "fingerprint": "5f" * 32,
            "parameters": 467_331,
        },
        "data": {
            "path": "frames",
            "format": "folders",
            "cases": 120,
            "subjects": 30,
            "classes": ["background", "pupil"],
        },
        "splits": {
            "train": [f"mouse{i}" for i in range(6, 24)],
            "validation": [f"mouse{i}" for i in range(24, 30)],
            "test": [f"mouse{i}" for i in range(6)],
        },
        "search": {
            "seconds": 84.2,
            "epochs": 12,
            "stopped_because": "all epochs were done",
            "retrain_epochs": 6,
            "retrain_seconds": 41.0,
        },
        "scores": {"host": host, "implanted": implanted, "adapter": scores(0.02)},
        "gain": {"dice_mean": 0.036, "low": 0.021, "high": 0.052, "p_value": 0.0013},
        "cost": {
            "parameters": {"host": 467_331, "implanted": 489_120},
            "flops": {"host": 6.2e9, "implanted": 7.1e9},
            "latency": {"host": {"p50": 41.2, "p99": 47.9}, "implanted": {"p50": 55.0, "p99": 61.3}},
            "input_shape": [1, 1, 256, 256],
            "device": "cpu",
        },
        "verdict": "improved",
        "seed": 0,
        "versions": {"surgeon": "0.1.0", "torch": "2.14.0"},
        "anatomy": anatomy(),
        "genotype": genotype(),
        "config": {"skips": "all", "epochs": 12, "crop": [64, 64], "device": "cpu"},
        "task": {"activation": "logits_softmax"},
    }
    return {**value, **changes}


def samples(dimensions=2, channels=1, names=("mouse0_frame0000", "mouse1_frame0001")):
    size = {1: (256,), 2: (96, 128), 3: (8, 48, 64)}[dimensions]
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij"))
    arrays = {
        "version": np.array(1),
        "case_ids": np.array(names),
        "classes": np.array(["background", "pupil"]),
    }
    for i, _ in enumerate(names):
        distance = np.sqrt((grid**2).sum(0))
        noise = np.random.default_rng(i).normal(0, 0.05, (channels, *size))
        arrays[f"image_{i}"] = (0.8 - 0.5 * (distance < 0.5) + noise).astype(np.float32)
        arrays[f"label_{i}"] = (distance < 0.5).astype(np.int16)
        arrays[f"host_{i}"] = (np.sqrt(((grid - 0.08) ** 2).sum(0)) < 0.44).astype(np.int16)
        arrays[f"implanted_{i}"] = (distance < 0.48).astype(np.int16)
    return arrays


def export():
    parity = [
        {"what": what, "shape": shape, "largest": 3.1e-6, "relative": 4.4e-7, "argmax_agreement": agreement}
        for what, shape, agreement in (
            ("example", [1, 1, 256, 256], 1.0),
            ("batch", [3, 1, 256, 256], 1.0),
            ("size", [1, 1, 192, 320], 0.99999997),
            ("mouse0_frame0000", [1, 1, 256, 256], 1.0),
        )
    ]
    return {
        "target": "ort-cpu",
        "opset": 20,
        "precision": "fp32",
        "inputs": [{"name": "input", "shape": ["batch", 1, "height", "width"], "type": "float32"}],
        "outputs": [{"name": "output", "shape": ["batch", 2, "height", "width"], "type": "float32"}],
        "parity": parity,
        "fusion": [
            {
                "name": "fold_batchnorm",
                "changed": 9,
                "nodes_before": 210,
                "nodes_after": 180,
                "flops_before": 5_120_000,
                "flops_after": 4_980_000,
                "details": ["bn_1"],
            },
            {
                "name": "drop_zero",
                "changed": 0,
                "nodes_before": 180,
                "nodes_after": 180,
                "rejected": [{"node": "mul_3", "reason": "the factor is not a constant"}],
            },
        ],
        "provider": "CPUExecutionProvider",
        "free": "batch and sizes",
        "not_free": [],
        "not_compared": [{"what": "odd size", "shape": [1, 1, 255, 255], "reason": "the host refuses it"}],
        "latency": {
            "host": {"p50": 41.2, "p99": 47.9},
            "export": {"p50": 19.4, "p99": 22.0},
            "unit": "ms",
            "remark": "",
        },
        "sha256": "ab" * 32,
    }


def write_run(folder, *, leave_out=(), pictures=None, rows=None, **changes):
    """Write a RUN folder; `leave_out` names files that are not written."""
    folder.mkdir(parents=True, exist_ok=True)
    value = report(**changes)
    texts = {
        "report.json": json.dumps(value),
        "genotype.json": json.dumps(value["genotype"]),
        "history.jsonl": "".join(json.dumps(row) + "\n" for row in (history() if rows is None else rows)),
    }
    for name, text in texts.items():
        if name not in leave_out:
            (folder / name).write_text(text, encoding="utf-8")
    if "samples.npz" not in leave_out:
        np.savez_compressed(folder / "samples.npz", **(samples() if pictures is None else pictures))
    return folder


def write_export(folder, value=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "export.json").write_text(json.dumps(export() if value is None else value), encoding="utf-8")
    return folder
