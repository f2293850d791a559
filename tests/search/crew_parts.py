"""What one of two processes checks of its share against the whole, in float64; run by `test_fleet`."""

from __future__ import annotations

import dataclasses
import re
import sys

import pytest
import torch
from surgeon.search.assembly import build_architectures, build_search_cells, specify_cells
from surgeon.search.entrants import fixed_cell
from surgeon.search.fleet import Fleet, open_fleet
from surgeon.search.norms import synchronise
from surgeon.search.operations import OPERATIONS
from surgeon.search.step.descent import held
from surgeon.search.step.gradients import Gradients
from surgeon.search.step.precision import Precision
from surgeon.search.training.stability import dominant_eigenvalue
from torch import nn

from surgeon.errors import GateError, InputError
from surgeon.scores.tasks import Activation, Task
from surgeon.skips import locate
from surgeon.splicing import splice_trace
from surgeon.tracing import trace

from .small import SIDE, make_config, make_host

CPU = torch.device("cpu")
TASK = Task(Activation.LOGITS_SOFTMAX, ("ground", "a", "b"), 3, 2)


def spliced(kind, fleet):
    """Splice awake cells into the host, in float64."""
    host = make_host(3).double()
    traced = trace(host, torch.rand(1, 1, SIDE, SIDE, dtype=torch.float64))
    config = make_config(cell="batched" if kind == "derived" else kind)
    specs = specify_cells(locate(traced), config, OPERATIONS)
    if kind == "derived":
        from surgeon.search.cells import DerivedCell

        torch.manual_seed(5)
        cells = {name: DerivedCell(spec, fixed_cell(spec)) for name, spec in specs.items()}
    else:
        cells = build_search_cells(specs, build_architectures(specs, config), config, OPERATIONS)
    network = splice_trace(traced, {name: cell.double() for name, cell in cells.items()})
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    synchronise(network.get_submodule("implants"), fleet)
    return network.train()


def descended(kind, fleet, images, labels):
    """Return loss, gradients and running statistics after a batch of which this process sees a part."""
    network = spliced(kind, fleet)
    parameters = list(network.get_submodule("implants").parameters())
    optimizer = torch.optim.SGD(parameters, 1.0)
    loss = TASK.loss(network(images), labels, fleet.total)
    gradients = Gradients(fleet, Precision.FP32)
    gradients.put(gradients.of(loss, parameters), parameters, optimizer)
    statistics = [x for name, x in network.named_buffers() if "running_" in name]
    return loss.detach(), [p.grad for p in parameters if p.grad is not None], statistics


def check_gradients(kind, fleet):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(3, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (3, SIDE, SIDE), generator=generator)
    mine = slice(0, 1) if fleet.is_first else slice(1, 3)
    loss, gradients, statistics = descended(kind, fleet, images[mine], labels[mine])
    whole = descended(kind, Fleet(), images, labels)
    assert abs(loss - whole[0]) < 1e-12
    assert len(gradients) == len(whole[1]) > 10
    for one, two in zip((*gradients, *statistics), (*whole[1], *whole[2]), strict=True):
        assert torch.allclose(one, two, rtol=1e-9, atol=1e-11), (one - two).abs().max()
    # To the bit in all processes.
    fleet.check_same("a gradient", [x.tolist() for x in gradients], "")


def check_eigenvalue(fleet):
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(2, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 3, (2, SIDE, SIDE), generator=generator)
    values = []
    for crew, part in ((fleet, slice(fleet.ranks.rank, fleet.ranks.rank + 1)), (Fleet(), slice(0, 2))):
        network = spliced("reference", crew).eval()
        alpha = next(p for name, p in network.named_parameters() if name.endswith("alpha"))
        with held(p for p in network.parameters() if p.requires_grad and p is not alpha):
            loss = TASK.loss(network(image[part]), label[part], crew.total)
            values.append(dominant_eigenvalue(loss, [alpha], torch.Generator().manual_seed(1), crew))
    assert abs(values[0] - values[1]) < 1e-9 * abs(values[1]) != 0


def check_words(fleet):
    assert fleet.gather(fleet.ranks.rank) == [0, 1]
    assert fleet.any(not fleet.is_first)
    assert not fleet.any(False)
    assert fleet.first(lambda: fleet.ranks.rank) == 0
    for act, kind, text in (
        (lambda: fleet.first(fail), InputError, "only the first can know"),
        (lambda: fleet.check_same("x", fleet.ranks.rank, "y"), GateError, "x is not the same in all 2"),
        (lambda: synchronise(nn.Sequential(nn.BatchNorm2d(3)), fleet), InputError, "would see the images"),
    ):
        with pytest.raises(kind, match=re.escape(text)):
            act()


def fail():
    raise InputError("only the first can know")


def main() -> int:
    torch.set_num_threads(1)
    fleet = open_fleet(CPU)
    assert fleet.size == 2
    assert dataclasses.replace(fleet) == fleet
    check_words(fleet)
    for kind in ("reference", "batched", "derived"):
        check_gradients(kind, fleet)
    check_eigenvalue(fleet)
    if fleet.is_first:
        print("all checked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
