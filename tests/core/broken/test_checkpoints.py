"""Checkpoints broken in every way: one clear error, and the network as it was."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from surgeon.checkpoints import fingerprint, read_checkpoint
from surgeon.errors import CheckpointError
from surgeon.fitting import load_weights
from tests.core.broken.files import DAMAGES, folder_instead, gone, link_to_itself, link_to_nowhere

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def weights(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    held = network().state_dict() | {name.replace("_", ".", 1): value for name, value in changes.items()}
    return {name: value for name, value in held.items() if value is not None}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_spoilt_checkpoint_is_named_in_one_clear_error(
    damage: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"weights of größe{suffix}"
    save_file(weights(), file) if suffix == ".safetensors" else torch.save(weights(), file)
    damage(file)
    missing = damage in (folder_instead, gone, link_to_nowhere, link_to_itself)
    with pytest.raises(CheckpointError, match="no such" if missing else "cannot be read") as caught:
        read_checkpoint(file)
    assert file.name in caught.value.where
    assert len(str(caught.value).splitlines()) <= 3


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def archive(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return stream.getvalue()


def without_storage() -> bytes:
    """Return a checkpoint whose last tensor is missing in the archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(weights()))) as whole, zipfile.ZipFile(out, "w") as part:
        for name in whole.namelist():
            if not name.endswith("/data/0"):
                part.writestr(name, whole.read(name))
    return out.getvalue()


def script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(network().eval(), torch.rand(1, 1, 8, 8)), stream)
    return stream.getvalue()


def without_data(content: bytes) -> bytes:
    """Keep the code and the constants of an archive alone."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(stream, "w") as cut:
        for name in whole.namelist():
            if "constants" in name or name.endswith(".py"):
                cut.writestr(name, whole.read(name))
    return stream.getvalue()


def exported() -> bytes:
    stream = io.BytesIO()
    torch.export.save(torch.export.export(network().eval(), (torch.rand(1, 1, 8, 8),)), stream)
    return stream.getvalue()


def tensors_header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def looped() -> dict:
    content: dict = {"epoch": 1}
    content["self"] = content
    return content


HUGE = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
CONTENTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a list": (".pt", lambda: saved([torch.ones(1)]), "holds no weights, but a list"),
    "a tensor": (".pt", lambda: saved(torch.ones(1)), "holds no weights, but a Tensor"),
    "nothing": (".pt", lambda: saved(None), "holds no weights, but a NoneType"),
    "an empty dictionary": (".pt", lambda: saved({}), "holds no weights"),
    "only numbers": (".pt", lambda: saved({"epoch": 3}), "holds no weights, but the keys epoch"),
    "only an optimizer": (".pt", lambda: saved({"optimizer": {"state": {0: torch.ones(1)}}}), "no weights"),
    "a dictionary in itself": (".pt", lambda: saved(looped()), "holds no weights"),
    "a whole network": (".pt", lambda: saved(network()), "would run code"),
    "a path in it": (".pt", lambda: saved({"state_dict": weights(), "p": Path("a")}), "would run code"),
    "an array in it": (".pt", lambda: saved({"state_dict": weights(), "a": np.ones(2)}), "would run code"),
    "a plain pickle": (".pkl", lambda: pickle.dumps({"a": 1}), "cannot be read|holds no weights"),
    "numpy's archive": (".npz", lambda: archive(**{"a.npy": b"x"}), "cannot be read"),
    "TorchScript cut short": (".pt", lambda: without_data(script()), "TorchScript program cannot be read"),
    "an exported program": (".pt", exported, "exported program"),
    "a missing tensor": (".pt", without_storage, "cannot be read"),
    "an archive of nothing": (".pt", archive, "cannot be read"),
    "safetensors in a .pt": (".pt", lambda: tensors_header(b"{}"), "cannot be read"),
    "a .pt in safetensors": (".safetensors", lambda: saved(weights()), "cannot be read"),
    "safetensors of nothing": (".safetensors", lambda: tensors_header(b"{}"), "holds no weights"),
    "safetensors with a long header": (
        ".safetensors",
        lambda: tensors_header(b"{}", 2**60),
        "cannot be read",
    ),
    "safetensors beyond the file": (".safetensors", lambda: tensors_header(HUGE), "cannot be read"),
    "safetensors of no JSON": (".safetensors", lambda: tensors_header(b"{{{{"), "cannot be read"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_holds_something_else_says_what(name: str, tmp_path: Path) -> None:
    suffix, content, text = CONTENTS[name]
    (tmp_path / f"w{suffix}").write_bytes(content())
    with pytest.raises(CheckpointError, match=text) as caught:
        read_checkpoint(tmp_path / f"w{suffix}")
    assert len(str(caught.value).splitlines()) <= 3


FITS: dict[str, tuple[dict[str, torch.Tensor], str | None]] = {
    "one missing": (weights(**{"0_weight": None}), "missing 0.weight"),
    "one too many": (weights(**{"9_weight": torch.ones(1)}), "unexpected 9.weight"),
    "another shape": (weights(**{"2_bias": torch.ones(3)}), r"2.bias has shape \(3,\)"),
    "transposed": (weights(**{"2_weight": torch.ones(4, 1, 1, 1)}), "2.weight has shape"),
    "another network": ({"a": torch.ones(1)}, "of another network"),
    "not a number": (weights(**{"2_bias": torch.tensor([torch.nan])}), "not finite: 2.bias"),
    "infinite": (weights(**{"0_weight": torch.full((4, 1, 3, 3), torch.inf)}), "not finite: 0.weight"),
    "complex": (weights(**{"2_bias": torch.ones(1, dtype=torch.complex64)}), "2.bias is complex64"),
    "sparse": (weights(**{"2_bias": torch.ones(1).to_sparse()}), "2.bias is sparse"),
    "half precision": (weights(**{"2_bias": torch.ones(1).half()}), None),
    "double precision": (weights(**{"2_bias": torch.ones(1).double()}), None),
    "two prefixes": ({f"model.module.{k}": v for k, v in weights().items()}, None),
}


@pytest.mark.parametrize("name", FITS)
def test_weights_that_do_not_fit_leave_the_network_as_it_was(name: str) -> None:
    held, text = FITS[name]
    target = network()
    before = fingerprint(target)
    if text is None:
        load_weights(target, held)
        return
    with pytest.raises(CheckpointError, match=text):
        load_weights(target, held, where="w.pt")
    assert fingerprint(target) == before
