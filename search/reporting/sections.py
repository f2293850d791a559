"""The sections of a report, each from the record to HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from surgeon.figures import Link
from surgeon.rendering import format_count, format_seconds, format_shape

from .figures import Drawn, case_scores, weight_names
from .html import Html, absent, details, facts, figure, join, number, paragraph, sentence, table, tag
from .images import HOST, IMPLANTED, TRUTH
from .reading import Record
from .verdict import scores_section

Figures = Mapping[str, Drawn]
Section = Callable[[Record, Figures], Html]


def _scores(record: Record, drawn: Figures) -> Html:
    parts: list[object] = [scores_section(record)]
    if "dice_by_case" not in drawn:
        return join((*parts, absent("Scores of single cases were not recorded.")))
    host, implanted = case_scores(record, "host"), case_scores(record, "implanted")
    changes = [implanted[name] - host[name] for name in host if name in implanted]
    better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    caption = f"Each line is a test case, worst for the host first. {better} of {len(changes)} gained"
    caption += f", {worse} lost."
    caption += f" Largest gain {number(max(changes))}." if better else ""
    caption += f" Largest loss {number(-min(changes))}." if worse else ""
    return join((*parts, tag("h3", "Dice by case"), figure(drawn["dice_by_case"].html, caption)))


def _pictures(record: Record, drawn: Figures) -> Html:
    if not record.pictures:
        return absent("No test images were kept with this run.")
    host, implanted = case_scores(record, "host"), case_scores(record, "implanted")
    legend = (("truth", TRUTH), ("host", HOST), ("implanted", IMPLANTED))
    keys = [
        tag("span", Html(f'<i style="background:{colour}"></i>'), name, class_="key")
        for name, colour in legend
    ]
    parts: list[object] = [tag("div", *keys)]
    for index, picture in enumerate(record.pictures):
        name = picture.case_id
        dice = f"Dice {number(host.get(name))} → {number(implanted.get(name))}" if name in host else ""
        flat = "slice with most foreground" if picture.label.ndim == 3 else ""
        image = drawn[f"case_{index}"].html
        parts.append(tag("figure", image, tag("figcaption", sentence((name, dice, flat))), class_="picture"))
    return join(parts)


def _anatomy(record: Record, drawn: Figures) -> Html:
    plan = record.plan
    if plan is None:
        return absent("The anatomy of the host was not recorded.")
    head = ["id", "merge", "kind", "from", "into", "level", "stride", "channels", "size", "cell"]
    body = table(head, [_skip_row(link, record.genotype) for link in plan.links], text_columns=5)
    refusals = table(
        ("merge", "node", "module", "why it is no skip", "shape"),
        [
            (r["merge"], r["node"], r["module"] or "(root)", r["reason"], format_shape(r["shape"]))
            for r in plan.refusals
        ],
        text_columns=4,
    )
    title = f"{len(plan.refusals)} merge{'s' if len(plan.refusals) != 1 else ''} considered and refused"
    return join(
        (
            facts((("parameters", format_count(plan.parameters)), *plan.facts)),
            *(paragraph(note, class_="note") for note in plan.notes),
            figure(drawn["anatomy"].html),
            body if plan.links else "",
            details(title, refusals) if plan.refusals else "",
        )
    )


def _skip_row(link: Link, genotype: Mapping[str, Any] | None) -> list[object]:
    size = f"{link.source_size} → {link.size}" if link.source_size else link.size
    cells = (genotype or {}).get("cells") or {}
    name = "shared" if (genotype or {}).get("scope") == "shared" else link.id
    state = link.reason or ("yes" if cells.get(name) else "none chosen" if name in cells else "–")
    words = [link.id, link.merge, link.kind, link.source or "(root)", link.target or "(root)"]
    return [*words, link.level, link.stride, link.channels, size, state]


def _genotype(record: Record, drawn: Figures) -> Html:
    genotype = record.genotype
    if not genotype or not genotype.get("cells"):
        return absent("No genotype was recorded.")
    scope = (
        "one cell design for all skips"
        if genotype.get("scope") == "shared"
        else "a design of its own for each skip"
    )
    given = "the skip and the decoder tensor it meets" if genotype.get("inputs") == "both" else "the skip"
    merge = (
        "skip + gamma × cell"
        if genotype.get("merge") == "residual"
        else "the cell's output replaces the skip"
    )
    parts: list[object] = [facts((("scope", scope), ("a cell is given", given), ("it returns", merge)))]
    for name, cell in genotype["cells"].items():
        title = "Cell of all skips" if name == "shared" else f"Cell on {name}"
        form = (cell or {}).get("form", "cell")
        if form != "cell":
            parts.append(join((tag("h3", title), paragraph(_FORMS.get(form, form)))))
            continue
        if not cell:
            parts.append(join((tag("h3", title), absent("No cell: this skip stays as it is."))))
            continue
        caption = "Numbered circles are states; the output joins them."
        caption += f" Inside, it has {cell['width']:g} of the skip's channels." if "width" in cell else ""
        graph = tag("figure", drawn[f"cell_{name}"].html, tag("figcaption", caption), class_="cell")
        parts += [tag("h3", title), graph]
    return join(parts)


_FORMS = {
    "adapter": "A 1x1 convolution of the skip, added to it.",
    "affine": "A scale and a shift for each channel of the skip.",
    "gate": "An attention gate on the skip.",
}


def _search(record: Record, drawn: Figures) -> Html:
    search = record.part("search")
    rows = [
        ("search", _span(search, "epochs", "seconds")),
        ("ended", search.get("stopped_because", "")),
        ("retraining", _span(search, "retrain_epochs", "retrain_seconds")),
    ]
    parts: list[object] = [facts(rows)]
    if "training" not in drawn:
        return join((*parts, absent("No history of the epochs was recorded.")))
    parts.append(figure(drawn["training"].html))
    names = weight_names(record)
    if not names:
        parts.append(absent("Architecture weights were not recorded."))
    for index, name in enumerate(names):
        title = "Operation weights over the epochs" + ("" if name == "shared" else f", cell {name}")
        caption = "One panel an edge; the bold line is the strongest at the end, β the weight of the edge."
        parts.append(details(title, figure(drawn[f"weights_{name}"].html, caption), is_open=index == 0))
    return join(parts)


def _span(search: Mapping[str, Any], epochs: str, seconds: str) -> str:
    count, time = search.get(epochs), search.get(seconds)
    words = [
        f"{count} epochs" if count else "",
        format_seconds(time) if isinstance(time, int | float) else "",
    ]
    return sentence(words)


def _cost(record: Record, _: Figures) -> Html:
    cost = record.part("cost")
    if not cost:
        return absent("Cost was not measured.")
    rows = [
        (name, *_cost_cells(cost, key, write)) for name, key, write in _COSTS if _pair(cost, key) is not None
    ]
    shape, device = cost.get("input_shape"), cost.get("device")
    where = sentence((f"input {format_shape(shape)}" if shape else "", f"on {device}" if device else ""))
    body = table(("", "host", "implanted", "change"), rows)
    return join((body, paragraph(where, class_="small") if where else ""))


def _milliseconds(value: float) -> str:
    return format_seconds(value / 1000)


_COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("parameters", "parameters", format_count),
    ("FLOPs", "flops", format_count),
    ("latency, median", "p50", _milliseconds),
    ("latency, 99th percentile", "p99", _milliseconds),
)


def _pair(cost: Mapping[str, Any], key: str) -> tuple[float, float] | None:
    """Find host's and implanted's value of a cost in either nesting."""
    found = []
    for network in ("host", "implanted"):
        latency = key in ("p50", "p99")
        name = "latency" if latency else key
        value = (cost.get(name) or {}).get(network) if name in cost else (cost.get(network) or {}).get(name)
        if latency and isinstance(value, Mapping):
            value = value.get(key)
        elif latency and key == "p99":
            return None
        found.append(value)
    host, implanted = found
    if isinstance(host, int | float) and isinstance(implanted, int | float):
        return host, implanted
    return None


def _cost_cells(cost: Mapping[str, Any], key: str, write: Callable[[float], str]) -> tuple[str, str, str]:
    host, implanted = _pair(cost, key) or (0, 0)
    change = f"{100 * (implanted / host - 1):+.1f} %".replace("-", "−") if host else "–"
    return write(host), write(implanted), change


def _origin(record: Record, _: Figures) -> Html:
    host, data, splits = record.part("host"), record.part("data"), record.part("splits")
    counts = [f"{len(ids)} {name}" for name, ids in splits.items()]
    rows = [
        ("host", sentence((host.get("name", ""), host.get("spec", "")))),
        ("checkpoint", host.get("checkpoint") or ""),
        ("fingerprint", host.get("fingerprint", "")),
        ("data", sentence((data.get("path", ""), data.get("format", "")))),
        ("size", sentence(f"{data[key]} {key}" for key in ("cases", "subjects") if key in data)),
        ("classes", ", ".join(map(str, data.get("classes") or ()))),
        ("subjects", ", ".join(counts)),
        ("seed", record.report.get("seed", "")),
        ("versions", sentence(f"{name} {version}" for name, version in record.part("versions").items())),
    ]
    listed = facts((name, ", ".join(map(str, ids))) for name, ids in splits.items())
    return join((facts(rows), details("Subjects of each split", listed) if splits else "", _again(record)))


def _again(record: Record) -> Html:
    command = record.report.get("command")
    host, data = record.part("host"), record.part("data")
    if not command and host.get("spec") and data.get("path"):
        parts = ["surgeon implant", host["spec"], "--data", data["path"], "--out RUN"]
        parts += ["--checkpoint", host["checkpoint"]] if host.get("checkpoint") else []
        command = " ".join(map(str, parts))
    settings = record.part("config")
    python = 'network = surgeon.search.load_implant(host, "RUN/implant.safetensors")'
    return join(
        (
            tag("h3", "How to reproduce"),
            tag("pre", command) if command else "",
            paragraph("With the same seed, settings and versions; the settings are these:")
            if settings
            else "",
            details("Settings", facts((name, _plain(value)) for name, value in settings.items()))
            if settings
            else "",
            paragraph("To get the implanted network back in plain PyTorch:"),
            tag("pre", python),
        )
    )


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def sections() -> Iterable[tuple[str, str, str, Section]]:
    """List the sections in order: anchor, title, one line, and the function that writes it."""
    from .contest import comparison_section, finalists_section
    from .exported import export_section

    return (
        ("scores", "Scores", "Dice on subjects that neither training nor selection has seen.", _scores),
        ("images", "Images", "What both networks draw on test images.", _pictures),
        ("anatomy", "Anatomy", "Where skips were found in the host, and what each one is.", _anatomy),
        ("cells", "Cells", "The operations that the search chose.", _genotype),
        ("finalists", "Short list", "What was tried briefly, and what is recommended.", finalists_section),
        ("comparison", "Comparison", "What a sceptic would have tried.", comparison_section),
        ("search", "Search", "How it got there.", _search),
        ("cost", "Cost", "What the cells add.", _cost),
        ("export", "Export", "Whether the exported network answers like the one in PyTorch.", export_section),
        ("origin", "Origin", "What this was made from, and how to make it again.", _origin),
    )
