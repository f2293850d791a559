"""`surgeon demo`: the whole chain on a network that somebody else trained."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgeon.errors import HostError, RunError

from .answer import Answer, answering
from .hosting import HostRequest
from .options import DeviceOption, TracebackOption

if TYPE_CHECKING:
    from surgeon.data import Preparation
    from surgeon.hosts import Host

_PACKAGE = "mouse_pupil_analysis"
_FACTORY = f"{_PACKAGE}.unet:UNet"
_ARGUMENTS = {"in_channels": 1, "out_channels": 1, "use_attention": True}
_SHAPE = (1, 1, 148, 148)
# Whole frames: cropped ones show this network another context than it was trained on. The architecture
# moves fast because it has few steps, the cells slowly because the network is right already.
_SETTINGS: dict[str, Any] = {
    "epochs": 10,
    "retrain_epochs": 8,
    "batch_size": 4,
    "architecture_rate": 0.02,
    "retrain_rate": 5e-4,
    "seed": 0,
    # The search is to be seen, on a network that needs nothing: no short list that would end it at once.
    "finalists": False,
}
_MOST_RUNS = 999
_HONESTY = (
    "This network was trained on these very frames, the held-out recordings included: the demo shows that "
    "every step works. It says nothing about a gain."
)

OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="RUN", help="The folder to write [default: surgeon-demo].", show_default=False
    ),
]


def demo(
    out: OutOption = None,
    device: DeviceOption = "cpu",
    traceback: TracebackOption = False,
) -> None:
    """Operate on a pupil-segmentation U-Net that somebody else trained: inspect, implant, export, prove.

    Takes at most five minutes on two processor cores. Needs the extra: pip install 'unet-surgeon[demo]'.
    """
    with answering(traceback) as answer:
        start = time.monotonic()
        run = free_folder() if out is None else out
        request = HostRequest(_FACTORY, str(find_checkpoint()), dict(_ARGUMENTS), (_SHAPE,))
        host = dataclasses.replace(request.open(), preparation=_preparation())
        _inspect(answer, request, host)
        _implant(answer, request, host, run, device)
        _export(answer, run)
        _end(answer, run, time.monotonic() - start)


def find_checkpoint() -> Path:
    """Return the weights that ship in the installed package, without importing it.

    Raises:
        HostError: the package is not installed, or ships no weights.
    """
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise HostError(
            "the demo's network is not installed", where=_PACKAGE, fix="pip install 'unet-surgeon[demo]'"
        )
    folder = Path(package.submodule_search_locations[0]) / "checkpoints"
    weights = sorted(folder.glob("*.pth"))
    if not weights:
        raise HostError(
            "the demo's network is installed without its weights",
            where=str(folder),
            fix="pip install --force-reinstall 'mouse-pupil-analysis==0.3.0'",
        )
    return weights[0]


def find_frames() -> Path:
    """Return the folder of the labelled frames that ship with this package."""
    from surgeon import data

    return Path(data.__file__).parent / "pupil" / "labeled_frames"


def free_folder() -> Path:
    """Return the first folder of the demo that is free, or that holds a demo which was stopped."""
    for number in range(1, _MOST_RUNS + 1):
        folder = Path("surgeon-demo" if number == 1 else f"surgeon-demo-{number}")
        if not (folder / "report.json").exists():
            return folder
    raise RunError(f"there are {_MOST_RUNS} demos here", where="surgeon-demo-*", fix="remove some")


def _preparation() -> Preparation:
    """Return how the demo's network was fed when it was trained."""
    from surgeon.data import Preparation, Scale

    return Preparation(scale=Scale.UNIT, channels=1, resize_fit=_SHAPE[2:])


def _inspect(answer: Answer, request: HostRequest, host: Host) -> None:
    from surgeon.skips import inspect

    from .inspect import show_anatomy

    answer.say(f"[bold]1. A network that somebody else trained[/]  {_FACTORY}, weights from its package\n")
    show_anatomy(answer, inspect(host.module, request.inputs_for(host)))


def _implant(answer: Answer, request: HostRequest, host: Host, run: Path, device: str) -> None:
    from surgeon.files import write_json

    from .cohorts import DataRequest
    from .operation import Operation, operate
    from .outcome import score_table, verdict_line

    answer.say("[bold]2. Cells for its skips[/]  searched and trained; the network itself stays as it is\n")
    operation = Operation(
        host=request,
        data=DataRequest(find_frames()),
        out=run,
        settings={**_SETTINGS, "allow_worse": True, "device": device},
        resume=(run / "checkpoints" / "run.json").exists(),
    )
    report = operate(answer, operation, host).report
    # The page that the export draws anew says it too.
    write_json(run / "report.json", {**report, "notes": [_HONESTY]})
    held_out = ", ".join(report["splits"]["test"])
    answer.say(f"recordings held out from search and training: {held_out}")
    answer.say(score_table(report))
    answer.say(verdict_line(report))
    answer.say(f"[yellow]{_HONESTY}[/]\n")


def _export(answer: Answer, run: Path) -> None:
    from .export import Order, export_network, latency_line, parity_table
    from .networks import open_network, read_samples

    answer.say("[bold]3. Exported, and proved equal[/]\n")
    network = open_network(HostRequest(str(run)))
    order = Order(run / "export", target="triton", name="pupil")
    report = export_network(network, order, read_samples(network, None))
    answer.say(parity_table(report))
    answer.say(latency_line(report), "")


def _end(answer: Answer, run: Path, seconds: float) -> None:
    from surgeon.rendering import format_seconds

    from .outcome import path_table

    served = run / "export"
    answer.say(f"[bold]4. Done in {format_seconds(seconds)}[/]\n")
    answer.say(
        path_table(
            {
                "report": run / "report.html",
                "figures": run / "figures",
                "model": served / "model.onnx",
                "Triton repository": served / "triton",
                "next": f"surgeon evaluate {served} --data '{find_frames()}'",
            }
        )
    )
