"""implant.safetensors: the cells' weights, bound to their host by its fingerprint."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from surgeon.checkpoints import fingerprint
from surgeon.errors import RunError
from surgeon.files import whole_file
from surgeon.skips import Skip
from surgeon.splicing import SplicedNetwork, splice

from .assembly import Table, build_derived_cells
from .cells import CellSpec
from .genotype import Genotype
from .operations import OPERATIONS
from .randomness import generator_for

VERSION = "1"
_HOST = "host."


@dataclass(frozen=True, slots=True)
class Binding:
    """What ties cells to a host.

    Attributes:
        fingerprint: of the host.
        genotype: of the cells.
        specs: what the cell on each skip is built from, by skip id.
        places: where each skip is in the host, in words, by skip id.
        inputs: shape and dtype of each example input of the host.
    """

    fingerprint: str
    genotype: Genotype
    specs: Mapping[str, CellSpec]
    places: Mapping[str, str]
    inputs: tuple[tuple[tuple[int, ...], str], ...]

    def to_metadata(self) -> dict[str, str]:
        """Return text by key, as safetensors keeps it."""
        return {
            "format": "unet-surgeon implant",
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "genotype": json.dumps(self.genotype.to_dict()),
            "specs": json.dumps({skip_id: spec.to_dict() for skip_id, spec in self.specs.items()}),
            "places": json.dumps(dict(self.places)),
            "inputs": json.dumps(self.inputs),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Binding:
        """Read what `to_metadata` returned.

        Raises:
            RunError: it is not of an implant, or of another version.
        """
        if metadata.get("version") != VERSION or "fingerprint" not in metadata:
            raise RunError(
                f"not an implant of version {VERSION}",
                where=where,
                fix="give the implant.safetensors of a RUN folder written by this version of surgeon",
            )
        specs: dict[str, Any] = json.loads(metadata["specs"])
        return cls(
            fingerprint=metadata["fingerprint"],
            genotype=Genotype.from_json(metadata["genotype"], where=where),
            specs={skip_id: CellSpec.from_dict(spec) for skip_id, spec in specs.items()},
            places=json.loads(metadata["places"]),
            inputs=tuple((tuple(shape), dtype) for shape, dtype in json.loads(metadata["inputs"])),
        )

    def example(self) -> tuple[Tensor, ...]:
        """Return random inputs of the shapes and dtypes that the host was implanted on."""
        generator = generator_for(0, "example")
        return tuple(
            torch.rand(shape, generator=generator).to(getattr(torch, dtype)) for shape, dtype in self.inputs
        )


def describe_inputs(inputs: tuple[Tensor, ...]) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Return shape and dtype of each input."""
    return tuple((tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in inputs)


def save_implant(path: Path, network: SplicedNetwork, binding: Binding, moved: Collection[str] = ()) -> None:
    """Write the implants' weights and what binds them to their host.

    Args:
        path: of the file.
        network: the host with its implants.
        binding: what they are bound to.
        moved: names of parameters of the host that were trained too; they are kept as `host.<name>`.
    """
    state = network.state_dict()
    implants = {n.removeprefix("implants."): x for n, x in state.items() if n.startswith("implants.")}
    kept = implants | {f"{_HOST}{name}": state[name] for name in moved}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in kept.items()}
    with whole_file(path) as part:
        save_file(tensors, part, metadata=binding.to_metadata())
        _sort_header(part)


def _sort_header(path: Path) -> None:
    """Bring the keys of the header into order: the library writes them in another order every time."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def load_implant(
    host: nn.Module,
    path: str | Path,
    inputs: Tensor | tuple[Tensor, ...] | None = None,
    *,
    operations: Table = OPERATIONS,
) -> SplicedNetwork:
    """Splice an implant into its host again, in plain PyTorch.

    Args:
        host: the network it was made for.
        path: an `implant.safetensors`, or the RUN folder that holds it.
        inputs: example inputs of the host `(N, C, *spatial)`; None takes random ones of the shapes that the
            implant was made on.
        operations: the table of operations, where the search had a user's own.

    Raises:
        RunError: there is no implant, the file cannot be read, or it was made for another host.
    """
    file = Path(path) / "implant.safetensors" if Path(path).is_dir() else Path(path)
    tensors, binding = _read(file)
    found = fingerprint(host)
    if found != binding.fingerprint:
        raise RunError(
            f"the implant was made for another host: fingerprint {binding.fingerprint[:12]},"
            f" this one has {found[:12]}",
            where=str(file),
            fix="load the host with the checkpoint that was implanted; one whose weights are drawn at random"
            " is another network each time",
        )
    example = binding.example() if inputs is None else inputs
    cells = build_derived_cells(binding.specs, binding.genotype, 0, operations)
    network = splice(host, example, cells)
    _check_places(network, binding, str(file))
    moved = {n.removeprefix(_HOST): x for n, x in tensors.items() if n.startswith(_HOST)}
    network.load_state_dict(moved, strict=False)
    implants = {name: value for name, value in tensors.items() if not name.startswith(_HOST)}
    network.get_submodule("implants").load_state_dict(implants)
    return network.eval()


def place_of(skip: Skip) -> str:
    """Say where a skip is in its host, in words that do not depend on how the host was traced."""
    return f"{skip.merge.value} in {skip.merge_module or 'the root'}, {skip.channels} channels"


def _check_places(network: SplicedNetwork, binding: Binding, where: str) -> None:
    for skip_id, place in binding.places.items():
        found = place_of(network.anatomy[skip_id])
        if found != place:
            raise RunError(
                f"skip {skip_id} is {found!r} here, and was {place!r} when the cell was trained",
                where=where,
                fix="give example inputs like those of the search, and the same version of the host's code",
            )


def _read(path: Path) -> tuple[dict[str, Tensor], Binding]:
    if not path.exists():
        raise RunError(
            "there is no implant", where=str(path), fix="give the implant.safetensors of a finished run"
        )
    try:
        with safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RunError(f"the implant cannot be read: {error}", where=str(path)) from error
    return tensors, Binding.from_metadata(metadata, str(path))
