"""The section on an export: parity, latency, fusion passes, from the plain JSON beside the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from surgeon.rendering import format_count, format_seconds, format_shape

from .html import Html, absent, details, facts, join, paragraph, sentence, table, tag
from .reading import Record


def export_section(record: Record, _: object) -> Html:
    """Write what `export.json` says."""
    export = record.export
    if export is None:
        return absent("This run was not exported yet; `surgeon export RUN --out DIR` adds this section.")
    model = [
        ("target", sentence((export.get("target", ""), export.get("precision", "")))),
        ("opset", export.get("opset", "")),
        ("runs on", export.get("provider", "")),
        ("free sizes", export.get("free", "")),
        ("inputs", _tensors(export.get("inputs"))),
        ("outputs", _tensors(export.get("outputs"))),
        ("sha256", _hashes(export.get("sha256"))),
    ]
    return join(
        (
            facts(model),
            _parity(export.get("parity")),
            _left_out(export),
            _latency(export.get("latency")),
            _fusion(export),
        )
    )


def _tensors(tensors: Any) -> str:
    if not isinstance(tensors, Sequence) or isinstance(tensors, str):
        return ""
    return sentence(
        f"{t.get('name', '')} {format_shape(t.get('shape') or t.get('dims') or ())}".strip()
        if isinstance(t, Mapping)
        else t
        for t in tensors
    )


def _hashes(value: Any) -> str:
    if isinstance(value, Mapping):
        return sentence(f"{name} {digest}" for name, digest in value.items())
    return str(value or "")


def _parity(parity: Any) -> Html:
    cases = parity.get("cases") if isinstance(parity, Mapping) else parity
    if not cases:
        return absent("Parity was not recorded.")
    rows = [
        (
            sentence((case.get("what") or case.get("case") or case.get("name") or "",)) or "case",
            _shape(case.get("shape") or case.get("shapes")),
            _small(case.get("largest")),
            _small(case.get("relative")),
            _share(case.get("argmax_agreement")),
        )
        for case in cases
    ]
    head = ("input", "shape", "largest difference", "relative", "same class")
    return join((tag("h3", "Parity with PyTorch"), table(head, rows)))


def _left_out(export: Mapping[str, Any]) -> Html:
    """List the inputs that could not be compared, and the sizes that the network does not leave free."""
    rows = [
        (one["what"], one["reason"], _shape(one.get("shape"))) for one in export.get("not_compared") or ()
    ]
    rows += [(f"not free: {one['free']}", one["reason"], "–") for one in export.get("not_free") or ()]
    if not rows:
        return join(())
    return details(
        "What was not compared, and why", table(("input", "reason", "shape"), rows, text_columns=2)
    )


def _shape(value: Any) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return str(value or "–")
    if value and isinstance(value[0], Sequence):
        return ", ".join(_shape(one) for one in value)
    return format_shape(value)


def _small(value: Any) -> str:
    if not isinstance(value, int | float):
        return "–"
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-").replace("-", "−")


def _share(value: Any) -> str:
    # Rounding up to 100 % would hide a flipped pixel.
    if not isinstance(value, int | float):
        return "–"
    return "100 %" if value == 1 else f"{min(100 * value, 99.9999):.4f} %"


def _latency(latency: Any) -> Html:
    if not isinstance(latency, Mapping) or not latency:
        return absent("Latency was not measured.")
    rows = [
        (name, *(_milliseconds(values.get(key)) for key in ("p50", "p99")))
        for name, values in latency.items()
        if isinstance(values, Mapping)
    ]
    names = [name for name in ("host", "export") if isinstance(latency.get(name), Mapping)]
    medians = [latency[name].get("p50") for name in names]
    verdict: object = ""
    if len(medians) == 2 and all(isinstance(value, int | float) and value > 0 for value in medians):
        ratio = medians[0] / medians[1]
        words = f"At the median the export is {ratio:.2f} times as fast as the network in PyTorch."
        if ratio < 1:
            words = (
                f"At the median the export is slower than PyTorch: it takes {1 / ratio:.2f} times as long."
            )
        verdict = paragraph(words, class_="small")
    return join((tag("h3", "Latency"), table(("", "median", "99th percentile"), rows), verdict))


def _milliseconds(value: Any) -> str:
    return format_seconds(value / 1000) if isinstance(value, int | float) else "–"


def _fusion(export: Mapping[str, Any]) -> Html:
    fusion = export.get("fusion")
    passes = fusion.get("passes") if isinstance(fusion, Mapping) else fusion
    if not passes:
        return absent("No fusion pass was run.")
    rows = [
        (
            str(one["name"]).replace("_", " "),
            one["changed"],
            _change(one, "nodes", str),
            _change(one, "flops", format_count),
            _change(one, "milliseconds", "{:.2f}".format),
            len(one.get("rejected") or ()),
        )
        for one in passes
    ]
    head = ("pass", "places rewritten", "nodes", "FLOPs", "milliseconds", "places left alone")
    reasons = [
        (str(one["name"]).replace("_", " "), left["node"], left["reason"])
        for one in passes
        for left in one.get("rejected") or ()
    ]
    why = details("Why places were left alone", table(("pass", "node", "reason"), reasons, text_columns=3))
    return join((tag("h3", "Fusion passes"), table(head, rows), why if reasons else ""))


def _change(one: Mapping[str, Any], name: str, show: Callable[[Any], str]) -> str:
    """Say how a count was before and after a pass; a dash where it is not known."""
    before, after = one.get(f"{name}_before"), one.get(f"{name}_after")
    return "–" if before is None or after is None else f"{show(before)} → {show(after)}"
