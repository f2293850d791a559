"""Checkpoints of real training code: the weights that fit are found among all else that it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from surgeon.checkpoints import fingerprint
from surgeon.errors import CheckpointError
from surgeon.fitting import fits, load_checkpoint, load_weights
from tests.core.test_checkpoints import network, wrapped


def blank() -> nn.Module:
    target = network()
    for parameter in target.parameters():
        nn.init.zeros_(parameter)
    return target


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path / "last.ckpt")
    return path / "last.ckpt"


def zeros(prefix: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(value) for name, value in wrapped(prefix).items()}


OTHERS = {"criterion.weight": torch.ones(2), "val_dice.total": torch.ones(1)}
# What a file holds, and what is said of it.
CONTENTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "Lightning with losses and metrics": (
        {"pytorch-lightning_version": "2.5", "state_dict": {**wrapped("model."), **OTHERS}},
        (
            "weights found under 'state_dict'",
            "weights of the names under 'model.'; left out: criterion.weight, val_dice.total",
        ),
    ),
    "Lightning with an averaged copy": (
        {"state_dict": {**zeros("ema_model.module."), **wrapped("model.")}},
        (
            "weights found under 'state_dict'",
            "weights of the names under 'model.'; left out: ema_model.module.first.weight,"
            " ema_model.module.first.bias, ema_model.module.norm.weight, ema_model.module.norm.bias"
            " and 5 more",
        ),
    ),
    "a wrapper of one's own": (
        wrapped("self.segmentor.unet."),
        ("prefix 'self.segmentor.unet.' taken off every name",),
    ),
    "torch's AveragedModel": (
        {"n_averaged": torch.tensor(5), **wrapped("module.")},
        ("weights of the names under 'module.'; left out: n_averaged",),
    ),
    "ema_pytorch": (
        {"ema": {**zeros("ema_model."), **wrapped("online_model."), "step": torch.tensor(3)}},
        (
            "weights found under 'ema'",
            "weights of the names under 'online_model.'; left out: ema_model.first.weight,"
            " ema_model.first.bias, ema_model.norm.weight, ema_model.norm.bias and 6 more",
        ),
    ),
    "timm with an averaged copy": (
        {"arch": "mine", "state_dict": wrapped(""), "state_dict_ema": zeros("")},
        ("weights found under 'state_dict'", "weights that fit lie under state_dict_ema as well"),
    ),
    "another network first": (
        {"discriminator": {"a.weight": torch.ones(3)}, "generator": wrapped("module.")},
        ("weights found under 'generator'", "prefix 'module.' taken off every name"),
    ),
    "DeepSpeed": ({"module": wrapped(""), "optimizer": None}, ("weights found under 'module'",)),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_weights_that_fit_are_found_and_what_is_left_out_is_said(name: str, tmp_path: Path) -> None:
    content, report = CONTENTS[name]
    target = blank()
    assert load_checkpoint(target, saved(tmp_path, content)) == report
    assert fingerprint(target) == fingerprint(network())


def test_names_of_the_network_among_strangers_without_a_prefix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing none; unexpected aux.weight"):
        load_checkpoint(network(), saved(tmp_path, {**wrapped(""), "aux.weight": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"missing none; unexpected aux.weight"):
        load_weights(network(), {**wrapped("model."), "model.aux.weight": torch.ones(2)})


def test_a_twin_of_other_shapes_is_passed_over() -> None:
    wide = {"teacher.last.weight": torch.ones(3, 4, 1, 1)}
    weights = {**wrapped("a."), **zeros("b."), **wide}
    weights["a.last.weight"] = torch.ones(3, 4, 1, 1)
    assert fits(network(), weights)
    target = network()
    load_weights(target, weights)
    assert target.last.weight.abs().max() == 0  # those of b, which fit
