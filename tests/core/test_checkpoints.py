"""Weights read without running what is in the file."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from surgeon.checkpoints import fingerprint, read_checkpoint, read_weights
from surgeon.errors import CheckpointError
from surgeon.fitting import load_weights

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(first=nn.Conv2d(1, 4, 3), norm=nn.BatchNorm2d(4), last=nn.Conv2d(4, 1, 1))
    )


def wrapped(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in network().state_dict().items()}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".tar"])
def test_plain_weights_are_read_whatever_the_suffix(suffix: str, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / f"w{suffix}")
    assert read_weights(tmp_path / f"w{suffix}").keys() == network().state_dict().keys()


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors").keys() == network().state_dict().keys()


@pytest.mark.parametrize(
    "nest", ["state_dict", "model", "model_state", "network_weights", "ema", "something_else", "a.state_dict"]
)
def test_weights_are_found_where_training_code_puts_them(nest: str, tmp_path: Path) -> None:
    content: dict = dict(wrapped(""))
    for key in reversed(nest.split(".")):
        content = {"epoch": 3, key: content, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}
    torch.save(content, tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt")
    assert found.weights.keys() == network().state_dict().keys()
    assert found.report == (f"weights found under {nest!r}",)


def test_numbers_that_nnunet_logs_do_not_stop_a_safe_load(tmp_path: Path) -> None:
    torch.save({"network_weights": wrapped(""), "logging": {"dice": [np.float64(0.5)]}}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").keys() == network().state_dict().keys()


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "net.", "model._orig_mod.module."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    target = network()
    nn.init.zeros_(target.first.weight)
    notes = load_weights(target, wrapped(prefix))
    assert notes == (f"prefix {prefix!r} taken off every name",)
    assert fingerprint(target) == fingerprint(network())


def test_a_prefix_that_is_the_networks_own_stays() -> None:
    target = nn.ModuleDict({"model": network()})
    assert load_weights(target, wrapped("model.")) == ()


def test_a_counter_of_batches_may_be_missing() -> None:
    weights = {name: value for name, value in wrapped("").items() if "num_batches" not in name}
    assert load_weights(network(), weights) == ()


def test_weights_of_another_network_are_refused_and_shortly_listed() -> None:
    weights = {f"other.{index}": torch.ones(1) for index in range(9)}
    text = r"missing first.weight, first.bias, .* and 4 more; unexpected other.0, .* and 5 more"
    with pytest.raises(CheckpointError, match=f"of another network: {text}"):
        load_weights(network(), weights, where="w.pt")


def test_weights_of_another_network_are_refused_even_when_not_strict() -> None:
    with pytest.raises(CheckpointError, match="of another network"):
        load_weights(network(), {"other": torch.ones(1)}, strict=False)


def test_a_shape_that_differs_is_named_and_nothing_is_loaded() -> None:
    target = network()
    before = fingerprint(target)
    weights = {name: value + 1 for name, value in wrapped("").items()} | {
        "last.weight": torch.ones(3, 4, 1, 1)
    }
    with pytest.raises(
        CheckpointError, match=r"last.weight has shape \(3, 4, 1, 1\) in the checkpoint, \(1, 4, 1, 1\)"
    ):
        load_weights(target, weights)
    assert fingerprint(target) == before


def test_not_strict_loads_what_fits_and_says_what_did_not() -> None:
    weights = wrapped("") | {"head.weight": torch.ones(2)}
    del weights["last.bias"]
    assert load_weights(network(), weights, strict=False) == (
        "not strict: missing last.bias; unexpected head.weight",
    )


def test_a_pickle_that_would_run_code_is_refused_and_names_it(tmp_path: Path) -> None:
    witness = tmp_path / "it ran"
    torch.save({"state_dict": wrapped(""), "extra": Bomb(witness)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"would run code when it is read: posix.mkdir") as caught:
        read_weights(tmp_path / "w.pt")
    assert "--trust" in caught.value.fix
    assert not witness.exists()


def test_a_trusted_pickle_is_read(tmp_path: Path) -> None:
    witness = tmp_path / "it ran"
    torch.save({"state_dict": wrapped(""), "extra": Bomb(witness)}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt", trust=True).keys() == network().state_dict().keys()
    assert witness.exists()


def test_a_whole_pickled_network_needs_trust(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"would run code when it is read: .*Conv2d"):
        read_weights(tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt", trust=True)
    assert found.report == ("a whole pickled network",)
    assert found.weights.keys() == network().state_dict().keys()


def test_a_torchscript_program_holds_weights_as_well(tmp_path: Path) -> None:
    module = network().eval()
    torch.jit.save(torch.jit.trace(module, torch.rand(1, 1, 8, 8)), tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt")
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_broken_file_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80 not a checkpoint at all")
    with pytest.raises(CheckpointError, match="the checkpoint cannot be read"):
        read_weights(tmp_path / name)


def test_half_a_file_cannot_be_read(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="the checkpoint cannot be read"):
        read_weights(tmp_path / "w.pt")


def test_a_file_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="holds no weights, but the keys epoch, loss"):
        read_weights(tmp_path / "w.pt")
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="holds no weights, but a list"):
        read_weights(tmp_path / "w.pt")


def test_a_fingerprint_changes_with_a_weight_a_buffer_and_a_type_and_not_with_the_mode() -> None:
    base = fingerprint(network())
    assert fingerprint(network().train()) == base
    assert len(base) == 64
    other = network()
    other.norm.running_mean[0] += 1e-6
    assert fingerprint(other) != base
    other = network()
    with torch.no_grad():
        other.last.bias += 1e-6
    assert fingerprint(other) != base
    assert fingerprint(network().double()) != base
