"""`surgeon export`: a network as ONNX that is proved equal."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer, answering
from .cohorts import DataRequest
from .hosting import HostRequest
from .networks import CALIBRATING, Network, describe_network, open_network, read_samples, refuse_worse
from .options import (
    HOST_FORMS,
    AnswerOption,
    ArgumentOption,
    ChannelsOption,
    CheckpointOption,
    ForwardOption,
    InputOption,
    JsonOption,
    PreparationOption,
    TracebackOption,
    TrustOption,
)
from .values import parse_names

if TYPE_CHECKING:
    from rich.table import Table

SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|HOST",
        help=f"What to export: the folder of an implant, or a network: {HOST_FORMS}.",
        show_default=False,
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="The folder to write.", show_default=False)
]
TargetOption = Annotated[
    str,
    typer.Option("--target", metavar="ort-cpu|ort-cuda|ort-tensorrt|triton", help="Where it will run."),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="fp32|fp16|int8",
        help="Of weights and activations; int8 is calibrated on --data.",
    ),
]
NameOption = Annotated[str, typer.Option("--name", help="The name of the model on a server.")]
SizesOption = Annotated[
    str,
    typer.Option("--sizes", metavar="free|fixed", help="Leave the spatial sizes free, or fix the example's."),
]
IncludeOption = Annotated[
    str | None,
    typer.Option(
        "--include",
        metavar="normalise,flips,activation,argmax",
        help="What the file shall do besides the network: normalise intensities, average over flips, "
        "give probabilities, give uint8 labels.",
    ),
]
LicenceOption = Annotated[
    str | None, typer.Option("--licence", help="What the file shall say of its licence.")
]
OpinionOption = Annotated[
    bool,
    typer.Option(
        "--second-opinion/--no-second-opinion",
        help="Ask ONNX's reference evaluator as well, where the network is small enough for it.",
    ),
]
ProfileOption = Annotated[
    bool,
    typer.Option(
        "--profile-passes",
        help="Time the network after each fusion pass as well; each is translated anew, some seconds each.",
    ),
]
AcceptOption = Annotated[
    bool,
    typer.Option("--allow-worse", help="Export an implanted network that was found worse than its host."),
]
SamplesOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Images for the proof; by default the test images that a RUN kept.",
    ),
]


def export(
    subject: SubjectArgument,
    out: OutOption,
    target: TargetOption = "ort-cpu",
    precision: PrecisionOption = "fp32",
    name: NameOption = "model",
    sizes: SizesOption = "free",
    data: SamplesOption = None,
    channels: ChannelsOption = None,
    preparation: PreparationOption = None,
    second_opinion: OpinionOption = True,
    include: IncludeOption = None,
    licence: LicenceOption = None,
    output: AnswerOption = None,
    profile_passes: ProfileOption = False,
    allow_worse: AcceptOption = False,
    checkpoint: CheckpointOption = None,
    arg: ArgumentOption = None,
    forward: ForwardOption = None,
    shape: InputOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Write a network as ONNX with free batch and sizes, and prove that it computes the same.

    Parity is checked at several sizes, batches and seeds and on real images; when it fails, nothing is left.
    """
    with answering(traceback) as answer:
        request = HostRequest.from_options(subject, checkpoint, arg, forward, shape, trust)
        network = open_network(request, preparation)
        refuse_worse(network, allow_worse)
        if output is not None:
            network = replace(network, answer=output)
        steps = parse_names(include) or ()
        order = Order(out, target, precision, name, sizes, second_opinion, steps, licence, profile_passes)
        most = {"most": CALIBRATING} if precision == "int8" else {}
        images = None if data is None else DataRequest(data, channels=parse_names(channels))
        report = export_network(network, order, read_samples(network, images, **most))
        if precision == "int8" and images is not None:
            report = with_dice(report, order.out, network, images)
        if json:
            answer.give_json(report)
        else:
            show_export(answer, report, out)


@dataclass(frozen=True, slots=True)
class Order:
    """What an export shall be.

    Attributes:
        out: the folder to write.
        target: where it will run.
        precision: of weights and activations.
        name: on a server.
        sizes: `free`, or `fixed` to those of the example.
        second_opinion: whether ONNX's reference evaluator is asked.
        include: steps inside the file.
        licence: what the file says of it.
        profile_passes: whether every fusion pass is timed.
    """

    out: Path
    target: str = "ort-cpu"
    precision: str = "fp32"
    name: str = "model"
    sizes: str = "free"
    second_opinion: bool = True
    include: tuple[str, ...] = ()
    licence: str | None = None
    profile_passes: bool = False


def export_network(network: Network, order: Order, samples: tuple[Any, ...]) -> dict[str, Any]:
    """Export a network, and draw the report of its RUN anew with the proof in it.

    Returns:
        the content of `export.json`.

    Raises:
        ExportError: it could not be written or proved.
    """
    from surgeon.export import to_onnx

    artifact = to_onnx(
        network.module,
        network.inputs,
        order.out,
        order.target,
        order.precision,
        samples=samples,
        name=order.name,
        metadata=describe_network(network) | ({"licence": order.licence} if order.licence else {}),
        sizes=order.sizes,
        second_opinion=order.second_opinion,
        include=order.include,
        preparation=network.host.preparation,
        regions=network.host.regions,
        answer=network.answer,
        profile_passes=order.profile_passes,
    )
    if network.run is not None:
        from surgeon.search.reporting import write_report

        write_report(network.run, order.out)
    return artifact.to_dict()


def with_dice(report: dict[str, Any], folder: Path, network: Network, data: DataRequest) -> dict[str, Any]:
    """Score network and export on labelled images, and keep what the export costs beside its proof.

    Args:
        report: content of `export.json`.
        folder: of the export.
        network: what was exported.
        data: labelled images.

    Raises:
        DataError: the labels do not suit the network.
    """
    from surgeon.files import write_json
    from surgeon.hosts import join_inputs

    from .scoring import score_export, score_module

    if len(network.inputs) > 1:
        join_inputs(network.host, [tuple(part.shape) for part in network.inputs])

    images = data.of_classes(network.classes)
    cohort = images.open(network.host.preparation, network.inputs[0].dim() - 2)
    dice = {
        "network": score_module(network.module, cohort, network.answer)["dice_mean"],
        "export": score_export(folder, images)["dice_mean"],
    }
    report = {**report, "dice": {**dice, "cost": dice["network"] - dice["export"]}}
    write_json(folder / "export.json", report)
    return report


def show_export(answer: Answer, report: dict[str, Any], out: Path) -> None:
    """Print the proof, the files and the next command."""
    from .outcome import path_table
    from .passes import fusion_table

    answer.say(parity_table(report))
    for line in (*freedom_lines(report), *skipped_lines(report)):
        answer.say(line)
    answer.say(fusion_table(report["fusion"]))
    answer.say(latency_line(report), "")
    if "dice" in report:
        answer.say(
            "Dice on the data: network {network:.4f}, export {export:.4f}".format(**report["dice"]), ""
        )
    paths: dict[str, Path | str] = {"model": out / "model.onnx", "proof": out / "export.json"}
    repository = out / "triton"
    if repository.is_dir():
        paths["repository"] = repository
        paths["next"] = (
            f"tritonserver --model-repository {repository}  (without a GPU: --model-config-name=cpu)"
        )
    else:
        paths["next"] = f"surgeon evaluate {out} --data DIR"
    answer.say(path_table(paths))


def parity_table(report: dict[str, Any]) -> Table:
    """Lay out how far the export is from the network, case by case."""
    from rich import box
    from rich.table import Table

    from surgeon.rendering import format_shape

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("parity", "shape", "largest difference", "relative", "argmax agreement", "Dice"):
        table.add_column(title, justify="left" if title == "parity" else "right")
    for case in report["parity"]:
        table.add_row(
            case["what"],
            format_shape(_first_shape(case["shape"])),
            f"{case['largest']:.2e}",
            f"{case['relative']:.2e}",
            f"{100 * case['argmax_agreement']:.2f} %",
            f"{case['dice']:.4f}",
        )
    return table


_REASON = 120  # letters of a reason that are shown


def skipped_lines(report: dict[str, Any]) -> list[str]:
    """Say which cases could not be compared and why, each kind on one line."""
    from surgeon.rendering import format_shape

    shapes: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    for case in report["not_compared"]:
        shapes.setdefault(case["what"], []).append(format_shape(_first_shape(case["shape"])))
        reasons.setdefault(case["what"], str(case["reason"]))
    return [
        f"not compared: {what}, {', '.join(shapes[what])}: {textwrap.shorten(reason, _REASON)}"
        for what, reason in reasons.items()
    ]


def freedom_lines(report: dict[str, Any]) -> list[str]:
    """Say which batches and sizes the file takes, and for each thing that is not free why."""
    from surgeon.rendering import format_shape
    from surgeon.tracing import Limits

    batch, _, *spatial = _first_shape(report["parity"][0]["shape"])
    sizes, free = report["sizes"], report["free"]
    batches = "any batch" if "batch" in free else f"batches of {batch} alone"
    images = f"images of {format_shape(spatial)} alone"
    if sizes["free"]:
        ends = " to ".join(format_shape(sizes[end]) for end in ("smallest", "largest"))
        images = f"sizes in steps of {sizes['step']}"
        if sizes["refused_outside"]:
            images = str(Limits(**sizes["refused_outside"]))
        images += f", proved from {ends}"
    reasons = [
        f"not free, {one['free']}: {textwrap.shorten(one['reason'], _REASON)}" for one in report["not_free"]
    ]
    return [f"takes {batches}, {images}", *reasons]


def latency_line(report: dict[str, Any]) -> str:
    """Say how long host and export take, and so when the export is the slower one."""
    latency = report["latency"]
    line = (
        f"median latency here: host {latency['host']['p50']:.1f} ms, export {latency['export']['p50']:.1f} ms"
    )
    if "fp32" in latency:
        line += f" (in fp32 {latency['fp32']['p50']:.1f} ms)"
    return f"{line}; {latency['remark']}" if latency["remark"] else line


def _first_shape(shape: list[Any]) -> list[int]:
    """Return the shape of the first input, for a case may have one shape or one for each input."""
    return shape[0] if shape and isinstance(shape[0], list) else shape
