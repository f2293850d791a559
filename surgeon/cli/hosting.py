"""From the options of a command to a network with inputs it accepts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgeon.errors import InputError, RunError

from .values import parse_arguments, parse_shape

if TYPE_CHECKING:
    from torch import Tensor

    from surgeon.hosts import Host

HOST_FILE = "host.json"


class Form(Enum):
    """What a first argument can be."""

    HOST = "host"
    RUN = "run"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class HostRequest:
    """How a host is named on the command line and in a RUN.

    Attributes:
        spec: one of the forms of HOST.
        checkpoint: its weights, when they are not part of the form.
        arguments: the keyword arguments of its factory.
        forward: the inputs of its forward that are no tensors.
        shapes: shapes of the example inputs; empty to guess them.
        trust: whether a checkpoint may run code.
    """

    spec: str
    checkpoint: str | None = None
    arguments: dict[str, Any] | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    trust: bool = False
    forward: dict[str, Any] | None = None

    @classmethod
    def from_options(
        cls,
        spec: str,
        checkpoint: Path | None,
        pairs: Sequence[str] | None,
        forward: Sequence[str] | None,
        shapes: Sequence[str] | None,
        trust: bool,
    ) -> HostRequest:
        """Read the options as they were typed."""
        return cls(
            spec=spec,
            checkpoint=None if checkpoint is None else str(checkpoint),
            arguments=parse_arguments(pairs or ()),
            shapes=tuple(parse_shape(shape) for shape in shapes or ()),
            trust=trust,
            forward=parse_arguments(forward or (), option="--forward"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON that finds the host again from any folder; trust is not kept."""
        return {
            "spec": _anchored(self.spec),
            "checkpoint": None if self.checkpoint is None else _anchored(self.checkpoint),
            "arguments": self.arguments or {},
            "forward": self.forward or {},
            "inputs": [list(shape) for shape in self.shapes],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any], *, trust: bool = False) -> HostRequest:
        """Read what `to_dict` gave."""
        return cls(
            spec=value["spec"],
            checkpoint=value.get("checkpoint"),
            arguments=value.get("arguments") or {},
            shapes=tuple(tuple(shape) for shape in value.get("inputs") or ()),
            trust=trust,
            forward=value.get("forward") or {},
        )

    def open(self) -> Host:
        """Load the host.

        Raises:
            HostError: it cannot be found, imported or built.
            CheckpointError: its weights cannot be read or do not fit.
            InputError: its forward has no such inputs.
        """
        from surgeon.hosts import open_host

        return open_host(self.spec, self.checkpoint, self.arguments, trust=self.trust, forward=self.forward)

    def open_for_images(self) -> Host:
        """Load the host as a network of one image, as data give it: of several inputs it takes the channels.

        Raises:
            HostError: it cannot be found, imported or built.
            CheckpointError: its weights cannot be read or do not fit.
            InputError: its forward has no such inputs, or they cannot be parts of one image.
        """
        from surgeon.hosts import join_inputs

        host = self.open()
        shapes = self.shapes or tuple(tuple(x.shape) for x in host.example or ())
        return host if len(shapes) < 2 else join_inputs(host, shapes)

    def inputs_for(self, host: Host) -> tuple[Tensor, ...]:
        """Return example inputs: of the shapes asked for, the host's own, or guessed ones.

        Raises:
            InputError: the host does not accept them.
        """
        from surgeon.hosts import guess_inputs, try_inputs

        if self.shapes:
            inputs = _noise(self.shapes)
        elif host.example is not None:
            inputs = host.example
        else:
            inputs = guess_inputs(host.module)
        if host.channels and len(inputs) > 1:
            import torch

            inputs = (torch.cat(inputs, 1),)
        try_inputs(host.module, inputs)
        return inputs


def _noise(shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(shape, generator=generator) for shape in shapes)


def _anchored(spec: str) -> str:
    """Return a spec whose file or folder, if it is one, is named from the root."""
    from surgeon.repository import local_file

    path, colon, factory = spec.rpartition(":")
    if colon and not Path(spec).exists():
        file = Path(path) if path.endswith(".py") else local_file(path)
        return spec if file is None else f"{file.resolve()}:{factory}"
    return str(Path(spec).resolve()) if Path(spec).exists() else spec


def find_form(spec: str) -> Form:
    """Tell a RUN and the folder of an export from a HOST, by what is in it."""
    folder = Path(spec)
    if (folder / "export.json").is_file():
        return Form.EXPORT
    if (folder / HOST_FILE).is_file() or (folder / "genotype.json").is_file():
        return Form.RUN
    return Form.HOST


def read_run(run: Path, *, trust: bool = False) -> HostRequest:
    """Return the host that a RUN was made with.

    Args:
        run: the folder that `surgeon implant --out` wrote.
        trust: whether the host's checkpoint may run code.

    Raises:
        RunError: the run has no implant, or does not say which host it belongs to.
    """
    if not (run / "implant.safetensors").is_file():
        raise RunError(
            "this run has no implant yet", where=str(run), fix="finish it with surgeon implant ... --resume"
        )
    try:
        value = json.loads((run / HOST_FILE).read_text(encoding="utf-8"))
        return HostRequest.from_dict(value, trust=trust)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            "this run does not say which host it belongs to",
            where=str(run / HOST_FILE),
            fix="in Python, give the host: surgeon.search.load_implant(host, path)",
        ) from error


def pick_device(name: str) -> str:
    """Return the device to work on.

    Args:
        name: `auto`, or a device of torch.

    Raises:
        InputError: there is no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"there is no device {name!r} here", where="--device", fix="try auto or cpu"
        ) from error
    return name
