"""The ways of tracing, tried in order until one replays equal wherever the host itself runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import fx, nn

from surgeon.blame import frame_of
from surgeon.errors import InputError, TraceError
from surgeon.wrappers import innermost

from .bounds import outside, refuse_others, refuse_outside
from .inputs import Variant, as_example, grown, image_shapes, other_sizes, with_batch, with_sizes
from .limits import TookTooLong, time_limit
from .outputs import know_dataclasses
from .paths import annotate_modules
from .remembering import as_attributes, has_changed, memory_of, run_elsewhere
from .replay import annotate_shapes, first_line, holds, replay, run
from .scripts import class_name, converted_graph, is_script, recorded_graph
from .trace import Attempt, Example, Limits, Replay, Trace, TraceSummary, Way
from .ways import export_graph, plain_graph_module, private_copy, symbolic_graph

# Symbolic shape reasoning can run for minutes and still fail; a slower way is then tried.
TIME_LIMIT = 40.0  # seconds of the processor, twice what SwinUNETR 3-D takes
_SHOWN = 3  # reasons why nothing could be traced; more would hide the first
_PLACE = ", at "  # between what a tracer said and the line of the host


@dataclass(frozen=True, slots=True)
class _Subject:
    """A host with everything that is known of it before it is traced."""

    host: nn.Module
    example: Example
    variants: tuple[tuple[Variant, Any], ...]  # with the host's outputs
    refused: tuple[Replay, ...]
    shunned: tuple[tuple[Variant, Any], ...] = ()  # at which it goes another way than on the example
    unused: nn.Module | None = None  # the host before all runs, where it remembers them

    def accepts(self, what: str) -> bool:
        return any(variant.what == what for variant, _ in self.variants)

    def widest(self) -> Example:
        """Return the inputs with as many dimensions other than the example's as the host accepts."""
        example = self.example
        for variant, _ in self.variants:
            if variant.what == "size":
                example = with_sizes(example, image_shapes(variant.example)[0][2:])
        return with_batch(example) if self.accepts("batch") else example

    def doubled(self) -> _Subject | None:
        """Return the same with twice the example's sizes as the others; None where these are refused."""
        sizes = tuple(2 * size for size in image_shapes(self.example)[0][2:])
        twice = Variant("size", with_sizes(self.example, sizes))
        try:
            expected = run(self.host, twice.example)
        except Exception:  # noqa: BLE001 - a host may refuse a size in any way
            return None
        shunned = tuple(one for one in self.variants if one[0].what == "size")
        kept = tuple(one for one in self.variants if one[0].what != "size")
        return replace(self, variants=(*kept, (twice, expected)), shunned=shunned)


def trace(host: nn.Module, inputs: Any, kwargs: dict[str, Any] | None = None) -> Trace:
    """Trace a host and prove the graph equal to it.

    Args:
        host: any network; it is left as it is.
        inputs: one tensor `(N, C, *spatial)` or a tuple of positional inputs.
        kwargs: keyword inputs.

    Raises:
        InputError: the host fails on the example inputs.
        TraceError: no way gives a graph that computes what the host computes.
    """
    subject = _study(innermost(host), as_example(inputs, kwargs))
    best: tuple[fx.GraphModule, Way, tuple[Replay, ...]] | None = None
    attempts: list[Attempt] = []
    for way, build in _ways(subject):
        bound = 5 * TIME_LIMIT if way is Way.EXPORT_FIXED else TIME_LIMIT
        try:
            with time_limit(bound):
                module = build()
        except TookTooLong:
            attempts.append(Attempt(way, f"took longer than {bound:.0f} seconds"))
            continue
        except Exception as problem:  # noqa: BLE001 - a tracer may raise anything on a network it does not know
            attempts.append(Attempt(way, _blame(problem)))
            continue
        replays = tuple(replay(v.what, expected, module, v.example) for v, expected in subject.variants)
        if not holds(replays[0]):
            attempts.append(Attempt(way, f"the graph differs from the host: {_describe(replays[0])}"))
            found = _free_alike(subject) if way is Way.EXPORT_FREE else None
            if found is not None:
                return _finish(*found, attempts)
            continue
        if all(_carries(way, outcome) for outcome in replays):
            return _finish(subject, module, way, replays, attempts)
        failed = next(outcome for outcome in replays if not _carries(way, outcome))
        attempts.append(
            Attempt(way, f"equal on the example, not at another {failed.what}: {_describe(failed)}")
        )
        if best is None or _score(way, replays) > _score(best[1], best[2]):
            best = (module, way, replays)
    if best is None:
        raise _no_way(subject, attempts)
    module, way, replays = best
    kept = tuple(
        outcome
        if _carries(way, outcome)
        else replace(outcome, remark=outcome.remark or "the graph is fixed to the example")
        for outcome in replays
    )
    return _finish(subject, module, way, kept, [a for a in attempts if a.way is not way])


def _free_alike(subject: _Subject) -> tuple[_Subject, fx.GraphModule, Way, tuple[Replay, ...]] | None:
    """Trace with free sizes once more, from twice the example's.

    A network that asks whether a size fits its windows may go another way at the other size than on its
    example; at twice the size it goes the same way. None where that graph does not hold either.
    """
    alike = subject.doubled()
    if alike is None:
        return None
    try:
        with time_limit(TIME_LIMIT):
            module = export_graph(alike.host, alike.widest(), batch=alike.accepts("batch"), sizes=True)
    except (Exception, TookTooLong):  # noqa: BLE001 - it failed once before, and the next way may not
        return None
    replays = tuple(replay(v.what, expected, module, v.example) for v, expected in alike.variants)
    if not all(_carries(Way.EXPORT_FREE, outcome) for outcome in replays):
        return None
    return alike, module, Way.EXPORT_FREE, replays


def _carries(way: Way, outcome: Replay) -> bool:
    """Tell whether a graph is right on a variant of the inputs.

    Where a way has fixed what varies, it is right only to the bit: a constant of the example, such as the
    width of a pooling, may weigh too little with these weights to be seen among roundings.
    """
    if outcome.what not in _FIXES.get(way, ()):
        return holds(outcome)
    return outcome.difference is None or outcome.difference.equal


_FIXES = {
    Way.EXPORT_FREE_BATCH: ("size", "step"),
    Way.EXPORT_FIXED: ("batch", "size", "step"),
    Way.EXPORT_GUIDED_FIXED: ("size", "step"),
    Way.SCRIPT_CONVERTED: ("batch", "size", "step"),
    Way.SCRIPT_RECORDED: ("batch", "size", "step"),
}


def _score(way: Way, replays: tuple[Replay, ...]) -> int:
    return sum(_carries(way, outcome) for outcome in replays)


def _study(host: nn.Module, example: Example) -> _Subject:
    """Run the host on the example, on another batch and on another size, and keep what it says."""
    twin = private_copy(host)
    before = memory_of(twin)
    try:
        expected = run(twin, example)
    except Exception as problem:
        raise InputError(
            f"the host fails on the example input: {first_line(problem)}",
            where=f"{class_name(host)} on {image_shapes(example)}",
            fix="give inputs of the rank, channels and size that the network was built for",
        ) from problem
    know_dataclasses(expected)
    variants = [(Variant("example", example), expected)]
    refused = []
    for what, candidates in _candidates(example):
        for index, candidate in enumerate(candidates):
            try:
                variants.append((Variant(what, candidate), run(twin, candidate)))
                break
            except Exception as problem:  # noqa: BLE001 - the host's own limits are a finding, not a failure
                if index == len(candidates) - 1:
                    shapes = tuple(image_shapes(candidate))
                    refused.append(
                        Replay(what, shapes, None, f"the host itself refuses: {first_line(problem)}")
                    )
    subject = _Subject(twin, example, tuple(variants), tuple(refused))
    if not has_changed(twin, before):
        return subject
    as_attributes(twin, before)
    return replace(subject, unused=host)


def _candidates(example: Example) -> list[tuple[str, list[Example]]]:
    spatial = image_shapes(example)[0][2:]
    batch = 2 if image_shapes(example)[0][0] != 2 else 3
    sizes = [with_sizes(example, sizes) for sizes in other_sizes(spatial)]
    # A network that cuts its maps to size may take few others: 3,002 samples, not twice 3,001.
    sizes += [larger for _, larger in grown(example)]
    return [("batch", [with_batch(example, batch)]), ("size", sizes)]


def _ways(subject: _Subject) -> list[tuple[Way, Callable[[], fx.GraphModule]]]:
    host, widest = subject.host, subject.widest()
    if is_script(host):
        return [
            (Way.SCRIPT_CONVERTED, lambda: converted_graph(host, widest)),
            (Way.SCRIPT_RECORDED, lambda: recorded_graph(host, subject.example)),
        ]
    batch, sizes = subject.accepts("batch"), subject.accepts("size")
    ways: list[tuple[Way, Callable[[], fx.GraphModule]]] = []
    if isinstance(host, fx.GraphModule):
        ways.append((Way.GIVEN, lambda: plain_graph_module(private_graph(host), host)))
    symbolic = (Way.SYMBOLIC, lambda: symbolic_graph(host, subject.example))
    if sizes:
        # Symbolic tracing knows no sizes at all, so it may keep free what torch.export has to fix.
        ways.append((Way.EXPORT_FREE, lambda: export_graph(host, widest, batch=batch, sizes=True)))
        if (unused := subject.unused) is not None:
            ways.append((Way.EXPORT_FREE, lambda: _export_elsewhere(unused, subject)))
        ways.append(symbolic)
    if batch:
        wide_batch = with_batch(subject.example)
        ways.append((Way.EXPORT_FREE_BATCH, lambda: export_graph(host, wide_batch, batch=True, sizes=False)))
    ways.append((Way.EXPORT_FIXED, lambda: export_graph(host, subject.example, batch=False, sizes=False)))
    if not sizes:
        ways.append(symbolic)
    guided = partial(export_graph, host, widest, batch=batch, sizes=sizes, guided=True)
    ways.append((Way.EXPORT_GUIDED, guided))
    if sizes:
        # A size that becomes a Python int on its way is a constant of the graph.
        example = with_batch(subject.example) if batch else subject.example
        fixed = partial(export_graph, host, example, batch=batch, sizes=False, guided=True)
        ways.append((Way.EXPORT_GUIDED_FIXED, fixed))
    return ways


def _export_elsewhere(host: nn.Module, subject: _Subject) -> fx.GraphModule:
    """Trace a host that remembers its last run after one on a batch and sizes that are not traced with."""
    elsewhere = run_elsewhere(host, subject.example)
    if elsewhere is None:
        raise ValueError("it remembers its sizes, and takes no others")
    return export_graph(elsewhere, subject.widest(), batch=subject.accepts("batch"), sizes=True)


def private_graph(module: fx.GraphModule) -> fx.GraphModule:
    """Copy a graph module's graph, sharing its parameters and submodules."""
    graph = fx.Graph()
    graph.set_codegen(module.graph._codegen)
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(module.graph, copies)
    if output is not None:
        graph.output(output)
    for old, new in copies.items():
        new.meta = dict(old.meta)
    return fx.GraphModule(module, graph)


def _finish(
    subject: _Subject, module: fx.GraphModule, way: Way, replays: tuple[Replay, ...], attempts: list[Attempt]
) -> Trace:
    annotate_shapes(module, subject.example)
    annotate_modules(module)
    shown = {outcome.what for outcome in replays if _carries(way, outcome)}
    steps = _find_steps(subject, module, way)
    limits: Limits = module.meta.pop("limits", Limits())
    found: tuple[Replay, ...] = ()
    free_sizes = "size" in shown and not (steps.astray and steps.graph is None)
    if free_sizes:
        if steps.astray:
            like = tuple(image_shapes(subject.example)[0][2:])
            limits = replace(limits, step=steps.graph or 1, like=like)
        found = _astray(subject, module, limits)
    is_limited = bool(found) or limits.step > 1
    if not free_sizes:
        refuse_others(module)
    elif is_limited:
        refuse_outside(module, limits)
    summary = TraceSummary(
        way=way,
        free_batch="batch" in shown,
        free_sizes=free_sizes,
        stride=steps.host,
        graph_stride=steps.graph,
        replays=(*replays, *steps.replays, *found, *subject.refused),
        attempts=tuple(attempts),
        limits=limits if is_limited else None,
    )
    return Trace(module, subject.example, class_name(subject.host), summary)


@dataclass(frozen=True, slots=True)
class _Steps:
    """By which steps the sizes of an example may grow.

    Attributes:
        host: the smallest that the host takes; None where it takes none.
        graph: the smallest at which the graph equals it; None where it does at none.
        astray: whether the graph computes, without an error, something else at a smaller one.
        replays: what was compared.
    """

    host: int | None
    graph: int | None
    astray: bool
    replays: tuple[Replay, ...]


def _find_steps(subject: _Subject, module: fx.GraphModule, way: Way) -> _Steps:
    """Find the smallest steps by which the sizes of host and graph may grow."""
    host: int | None = None
    replays = [replay("size", expected, module, shunned.example) for shunned, expected in subject.shunned]
    astray = any(not outcome.remark and not _carries(way, outcome) for outcome in replays)
    replays = [replace(outcome, remark="the host goes another way there") for outcome in replays]
    for step, example in grown(subject.example):
        try:
            expected = run(subject.host, example)
        except Exception:  # noqa: BLE001 - a size that the host refuses says only that its stride is larger
            continue
        host = host or step
        outcome = replay("step", expected, module, example)
        if _carries(way, outcome):
            return _Steps(host, step, astray, (*replays, outcome))
        astray = astray or not outcome.remark
        replays.append(replace(outcome, remark=f"the graph needs steps larger than {step}"))
    return _Steps(host, None, astray, tuple(replays))


def _astray(subject: _Subject, module: fx.GraphModule, limits: Limits) -> tuple[Replay, ...]:
    """Find sizes beyond the limits of a graph where it computes, without an error, something else.

    torch.export also takes a map of one value for a limit; there a graph is right beyond it.
    """
    found = []
    for candidates in outside(subject.example, limits):
        for example in candidates:
            try:
                expected = run(subject.host, example)
            except Exception:  # noqa: BLE001 - a size that the host refuses tells nothing of the graph
                continue
            outcome = replay("outside", expected, module, example)
            if not holds(outcome) and not outcome.remark:
                found.append(replace(outcome, remark=f"the graph holds for {limits} and refuses others"))
            break
    return tuple(found)


def _describe(outcome: Replay) -> str:
    if outcome.remark:
        return outcome.remark
    assert outcome.difference is not None
    return f"largest difference {outcome.difference.largest:.3g} on {outcome.shapes}"


def _blame(problem: BaseException) -> str:
    """Say what a tracer stumbled over, with the file and line of the host's code."""
    frame = frame_of(problem)
    place = f"{_PLACE}{frame.filename}:{frame.lineno} (`{frame.line}`)" if frame else ""
    return f"{first_line(problem)}{place}"


def _no_way(subject: _Subject, attempts: list[Attempt]) -> TraceError:
    """Name each line that a way of tracing stumbled over once; the first is the one to mend."""
    reasons: dict[str, str] = {}
    for attempt in attempts:
        what, found, place = attempt.reason.rpartition(_PLACE)
        reasons.setdefault(place if found else "", f"{what or attempt.reason} ({attempt.way.value})")
    rows = [f"{place}: {what}" if place else what for place, what in reasons.items()]
    rest = f"; and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return TraceError(
        f"{class_name(subject.host)} could not be traced to a graph that equals it",
        where="; ".join(rows[:_SHOWN]) + rest,
        fix="rewrite the named line without control flow on tensor values, or hand in a .pt2 of torch.export",
    )
