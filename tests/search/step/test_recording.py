"""Passes that are recorded and replayed: on a CPU by an imitation, on a GPU by CUDA graphs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from surgeon.search.fleet import Fleet
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import open_ledger, plan_operation
from surgeon.search.step import recording
from surgeon.search.step.recording import Ledger, cuda_ledger
from surgeon.search.training.stages import begin_search

from surgeon.errors import InputError
from tests.search.small import make_config, make_host, open_small, write_data


class Imitated:
    """Replays as a CUDA graph does: on places of its own, with results that the next replay overwrites."""

    def __init__(self, network, work, given):
        self._work, self._places = work, [x.clone() for x in given]
        before = [buffer.clone() for buffer in network.buffers()]
        self._results = [x if x is None else x.clone() for x in work(self._places)]
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)  # recording computes nothing

    def __call__(self, given):
        for place, value in zip(self._places, given, strict=True):
            place.copy_(value)
        for result, value in zip(self._results, self._work(self._places), strict=True):
            if result is not None:
                result.copy_(value)
        return self._results


@pytest.fixture
def searching(tmp_path):
    """A search, by the ledger of its passes; a network holds the cells that the search moves."""
    data = open_small(write_data(tmp_path / "data"))

    def begin(ledger=None, device="cpu", **changes):
        config = make_config(operations=("none", "max3", "sep3"), steps=4, device=device, **changes)
        plan = plan_operation(make_host(), data, config, OPERATIONS)
        network, architectures, phase = begin_search(plan, replace(plan.supply(), ledger=ledger))
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                torch.nn.init.constant_(parameter, 0.1)  # gradients reach everything
        return SimpleNamespace(network=network, architecture=architectures["shared"], phase=phase)

    return begin


class ImitatingLedger(Ledger):
    """Records by imitation, in a network that is named later."""

    __slots__ = ("network", "times")

    def __init__(self, **settings):
        super().__init__(self._imitate, **{"always": True, **settings})
        self.times = 0

    def _imitate(self, work, given):
        self.times += 1
        return Imitated(self.network, work, given)


def steps(search, count, start=0):
    return [float(search.phase.step(*divmod(start + k, 4))) for k in range(count)]


def begun(searching, ledger, **changes):
    search = searching(ledger, **changes)
    if isinstance(ledger, ImitatingLedger):
        ledger.network = search.network
    return search


def assert_equal(one, two):
    for (name, a), b in zip(one.network.state_dict().items(), two.network.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_search_by_recordings_is_the_same_to_the_bit(searching):
    ledger = ImitatingLedger()
    plain, recorded = begun(searching, None), begun(searching, ledger)
    for search in (plain, recorded):
        search.losses = steps(search, 6)
        search.architecture.kept[1, 1] = False  # what was recorded holds no more
        search.losses += steps(search, 6, 6)
    assert recorded.losses == plain.losses
    assert_equal(recorded, plain)
    assert ledger.times == ledger.recorded == 4  # the two passes of a step, before the change and after
    assert "CUDA graphs on: a pass takes" in ledger.sentence


def test_channels_that_rotate_are_another_form_at_every_step(searching):
    ledger = ImitatingLedger()
    search = begun(searching, ledger, rotate=True)
    steps(search, 8)
    assert ledger.times == 0
    assert ledger.sentence == "CUDA graphs off: no pass came often enough"


class Wrong(ImitatingLedger):
    """Its replays forget one of the things that go in."""

    __slots__ = ()

    def _imitate(self, work, given):
        replay = super()._imitate(work, given)
        return lambda given: replay([given[0], *(torch.zeros_like(x) for x in given[1:])])


class Failing(ImitatingLedger):
    __slots__ = ()

    def _imitate(self, work, given):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize(
    ("kind", "reason"), [(Wrong, "the replay of a pass is off by"), (Failing, "permitted")]
)
def test_a_pass_that_cannot_be_recorded_runs_as_it_is(searching, kind, reason):
    ledger = kind()
    plain, refused = begun(searching, None), begun(searching, ledger)
    assert steps(refused, 6) == steps(plain, 6)
    assert_equal(refused, plain)
    assert not ledger.recorded
    assert reason in ledger.sentence
    assert "more" not in ledger.sentence


@pytest.mark.parametrize("slow", [True, False])
def test_a_recording_is_used_where_it_spares_time(searching, monkeypatch, slow):
    ledger = ImitatingLedger(always=False)
    search = begun(searching, ledger)
    times = iter([0.0, 1.0, 0.0, 9.0, 0.0, 1.5 if slow else 0.5] * 8)
    monkeypatch.setattr(recording, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    steps(search, 5)
    assert bool(ledger.recorded) is not slow
    assert ("1 s as it is, 1.5 s replayed" if slow else "1 s as it is, 0.5 s replayed") in ledger.sentence


def test_the_time_of_replays_is_shared_as_that_of_the_pass_was(searching):
    search = begun(searching, ImitatingLedger())
    clock = search.phase._supply.clock
    steps(search, 3)
    usual = clock.take()
    steps(search, 8, 3)
    replayed = clock.take()
    assert {"host", "cells", "data", "optimiser"} == set(usual) == set(replayed)
    assert replayed["cells"] > replayed["host"] > 0


def test_graphs_that_cannot_be_are_refused_and_left_out_by_themselves():
    with pytest.raises(InputError, match="no CUDA graphs here: the device is cpu"):
        open_ledger("on", Fleet())
    assert open_ledger("auto", Fleet()) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
def test_a_search_on_a_gpu_by_cuda_graphs_is_the_search_up_to_rounding(searching, precision):
    ledger = cuda_ledger(always=True)
    plain, recorded = (begun(searching, one, device="cuda", precision=precision) for one in (None, ledger))
    for search in (plain, recorded):
        search.losses = steps(search, 6)
        search.architecture.kept[1, 1] = False
        search.losses += steps(search, 6, 6)
    assert ledger.recorded == 4, ledger.sentence
    # Atomic additions come in any order, and twelve steps carry that on.
    assert recorded.losses == pytest.approx(plain.losses, rel=2e-2)
