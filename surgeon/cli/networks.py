"""A network to export or to score: a host, the implanted network of a RUN, or an export."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgeon.errors import InputError, RunError, WorseError

from .cohorts import DataRequest
from .hosting import Form, HostRequest, find_form, read_run
from .options import HOST_FORMS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surgeon.data import Preparation
    from surgeon.hosts import Host

_MOST_SAMPLES = 4
# int8 is calibrated on them; more do not move the ranges much.
CALIBRATING = 16


@dataclass(frozen=True, slots=True)
class Network:
    """A network with inputs that it accepts.

    Attributes:
        module: in eval mode.
        inputs: example inputs.
        host: what it was opened from, with the preparation of its data where one is known.
        run: the RUN folder it comes from, if any.
        classes: names of the classes it was trained for, if known.
        answer: the place of the segmentation among its outputs, if known.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    host: Host
    run: Path | None = None
    classes: tuple[str, ...] | None = None
    answer: int | None = None


def open_network(
    request: HostRequest, preparation: Path | None = None, *, for_images: bool = False
) -> Network:
    """Open a HOST, or a RUN by what it says of its host.

    Args:
        request: the first argument of a command with its options; for a RUN its spec is the folder.
        preparation: a file that says how the host's images are prepared, whatever its form says.
        for_images: whether a HOST of several inputs shall take one image with the channels of all.

    Raises:
        InputError: it cannot be opened.
        RunError: the run is not finished, or belongs to another host.
        DataError: the preparation cannot be read.
    """
    if find_form(request.spec) is Form.RUN:
        if preparation is not None:
            raise InputError(
                "a RUN knows how its images are prepared",
                where=request.spec,
                fix="leave out --preparation",
            )
        return _open_run(request)
    if ":" not in request.spec and not Path(request.spec).exists():
        raise InputError(
            "there is no such file, and no such folder of a RUN or an export",
            where=request.spec,
            fix=f"give a finished RUN, or a network: {HOST_FORMS}",
        )
    host = request.open_for_images() if for_images else request.open()
    if preparation is not None:
        from surgeon.data import read_preparation

        host = dataclasses.replace(host, preparation=read_preparation(preparation))
    return Network(host.module, request.inputs_for(host), host, classes=host.classes)


def _open_run(request: HostRequest) -> Network:
    from surgeon.data import LabelRegions, Preparation
    from surgeon.modes import in_eval
    from surgeon.search import load_implant

    if request.checkpoint is not None or request.arguments:
        raise InputError(
            "a RUN knows its own host",
            where=request.spec,
            fix="leave out --checkpoint and --arg",
        )
    run = Path(request.spec)
    recorded = read_run(run, trust=request.trust)
    host = recorded.open_for_images()
    if request.shapes:
        recorded = dataclasses.replace(recorded, shapes=request.shapes)
    report = read_report(run)
    data, answer = report.get("data", {}), report.get("task", {}).get("answer")
    if "preparation" in data:
        host = dataclasses.replace(
            host,
            preparation=Preparation.from_dict(data["preparation"], where=str(run)),
            regions=LabelRegions.from_dict(data["regions"]) if "regions" in data else None,
        )
    inputs = tuple(_images(run, host.preparation)[:1]) or recorded.inputs_for(host)
    module = load_implant(host.module, run / "implant.safetensors", inputs=inputs)
    classes = tuple(data["classes"]) if "classes" in data else None
    return Network(in_eval(module), inputs, host, run, classes, answer)


def read_report(run: Path) -> dict[str, Any]:
    """Return the content of a run's `report.json`.

    Raises:
        RunError: it is missing or no JSON.
    """
    path = run / "report.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            "the run has no readable report.json",
            where=str(path),
            fix="finish it with surgeon implant ... --resume",
        ) from error
    return content


def refuse_worse(network: Network, allowed: bool) -> None:
    """Keep the implanted network of a RUN from being served where it was found worse than its host.

    Raises:
        WorseError: the RUN's verdict says so, and neither it nor `allowed` accepts that.
    """
    if network.run is None or allowed:
        return
    report = read_report(network.run)
    if report.get("verdict") == "worse" and not report.get("config", {}).get("allow_worse"):
        raise WorseError(
            "the implanted network of this run is worse than its host",
            where=str(network.run / "report.json"),
            fix="export the host itself, or accept the implant with --allow-worse",
        )


def read_samples(network: Network, data: DataRequest | None, most: int = _MOST_SAMPLES) -> tuple[Any, ...]:
    """Return real inputs for the gate of an export: of the data folder, else those that the RUN kept.

    Args:
        network: what will be exported.
        data: labelled images, opened with the classes of the network.
        most: how many of them, spread over the data.

    Returns:
        images (1, C, *spatial), each in parts for a network of several inputs.

    Raises:
        DataError: the data folder cannot be used.
    """
    if data is not None:
        cohort = data.of_classes(network.classes).open(network.host.preparation, network.inputs[0].dim() - 2)
        from surgeon.filling import parts_of
        from surgeon.scores import middle_patch

        channels = [part.shape[1] for part in network.inputs if part.dim() > 2]
        window = cohort.preparation.window
        cases = cohort.cases[:: -(-len(cohort.cases) // most)]
        images = (middle_patch(cohort.read(case).image, window).unsqueeze(0) for case in cases)
        return tuple(images if len(network.inputs) == 1 else (parts_of(image, channels) for image in images))
    return () if network.run is None else tuple(_images(network.run, network.host.preparation))


def describe_network(network: Network) -> dict[str, Any]:
    """Return what an exported model shall say of itself: classes, preparation, what it is made of."""
    from surgeon.checkpoints import fingerprint

    known: dict[str, Any] = {"host": network.host.spec}
    if network.classes is not None:
        known["classes"] = list(network.classes)
    if network.host.regions is not None:
        known["regions"] = network.host.regions.to_dict()
    preparation = network.host.preparation
    if preparation is not None:
        known["preparation"] = preparation.to_dict()
        if preparation.spacing is not None:
            known["spacing"] = list(preparation.spacing)
    if network.run is None:
        return known | {"host_fingerprint": fingerprint(network.module)}
    report = read_report(network.run)
    return known | {"host_fingerprint": report["host"]["fingerprint"], "genotype": report["genotype"]}


def _images(run: Path, preparation: Preparation | None) -> list[Tensor]:
    """Return the test images that a RUN kept, each (1, C, *spatial), or the window in their middle."""
    import numpy as np
    import torch

    from surgeon.scores import middle_patch

    window = None if preparation is None else preparation.window

    path = run / "samples.npz"
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as kept:
        names = sorted(name for name in kept.files if name.startswith("image_"))
        images = [middle_patch(torch.from_numpy(kept[name]), window).unsqueeze(0) for name in names]
    # An image of one value, such as a slice outside the body, tells nothing: norms blow up its rounding.
    return [image for image in images if image.min() < image.max()]
