from __future__ import annotations

import json
import signal
import threading

import pytest
import torch
from surgeon.search.interrupts import StopRequest, stop_requests
from surgeon.search.runs import RunFolder
from surgeon.search.training.loop import Loop

from surgeon.errors import GateError, Stopped


class Walk:
    """A phase whose loss is a random walk: it tells when a step or a random number was lost."""

    name = "walk"
    epochs, steps = 3, 4

    def __init__(self, stop=None, stop_at=None, bad_at=None):
        self.place, self.stop, self.stop_at, self.bad_at = torch.zeros(()), stop, stop_at, bad_at

    def begin_epoch(self, epoch):
        """Set nothing that adds up: it is called again when an epoch is resumed."""

    def step(self, epoch, step):
        self.place = self.place + torch.randn(())
        if (epoch, step) == self.stop_at:
            self.stop.requested = True
        return float("nan") if (epoch, step) == self.bad_at else float(self.place)

    def end_epoch(self, epoch):
        return {"validation_loss": 0.0, "validation_dice": float(self.place)}

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("stop_at", [(0, 0), (0, 3), (1, 1), (2, 2)])
def test_a_stopped_phase_goes_on_as_if_it_had_not_been_stopped(tmp_path, stop_at):
    torch.manual_seed(3)
    whole = Loop(StopRequest()).run(Walk())
    torch.manual_seed(3)
    stop = StopRequest()
    with pytest.raises(Stopped, match="stopped by the user") as caught:
        Loop(stop, RunFolder(tmp_path)).run(Walk(stop, stop_at))
    assert "--resume" in caught.value.fix
    torch.manual_seed(99)
    resumed = Loop(StopRequest(), RunFolder(tmp_path)).run(Walk())
    assert without_seconds(resumed.rows) == without_seconds(whole.rows)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert without_seconds(map(json.loads, lines)) == without_seconds(whole.rows)


def test_a_stop_without_a_folder_says_that_nothing_was_kept():
    with pytest.raises(Stopped, match="nothing was kept") as caught:
        Loop(StopRequest(requested=True)).run(Walk())
    assert "walk, epoch 1 of 3, step 0 of 4" in str(caught.value)


def test_a_loss_that_is_no_number_ends_the_run():
    with pytest.raises(GateError, match="the training loss is nan") as caught:
        Loop(StopRequest()).run(Walk(bad_at=(1, 2)))
    assert caught.value.where == "walk, epoch 2, step 3"


class Far:
    """A loss on a device that has to be waited for."""

    device = torch.device("cuda")

    def __init__(self, value, waits):
        self.value, self.waits = value, waits

    def double(self):
        return self

    def __add__(self, other):
        return Far(self.value + other.value, self.waits)

    def __float__(self):
        self.waits.append(self.value)
        return float(self.value)


def test_the_losses_of_a_gpu_are_read_every_sixteen_steps_and_at_the_end():
    class Distant(Walk):
        epochs, steps, waits = 2, 40, []

        def step(self, epoch, step):
            return Far(step, self.waits)

    position = Loop(StopRequest()).run(Distant())
    thirds = [sum(range(16)), sum(range(16, 32)), sum(range(32, 40))]
    assert Distant.waits == thirds * 2
    assert [row["train_loss"] for row in position.rows] == [sum(range(40)) / 40] * 2


def test_a_loss_on_the_processor_is_read_at_once():
    events = []

    class Near(Walk):
        def step(self, epoch, step):
            return torch.tensor(float(step))

    Loop(StopRequest(), progress=events.append).run(Near())
    assert [event.train_loss for event in events[:4]] == [0.0, 0.5, 1.0, 1.5]


def test_progress_tells_of_every_step_and_of_every_epochs_row():
    events = []
    position = Loop(StopRequest(), progress=events.append).run(Walk())
    assert len(events) == 3 * 4 + 3
    assert [event.row for event in events if event.row] == position.rows
    assert (events[-1].epoch, events[-1].step) == (3, 0)
    assert events[0].validation_dice is None
    assert events[5].validation_dice == position.rows[0]["validation_dice"]


def test_history_goes_on_over_phases(tmp_path):
    loop, later = Loop(StopRequest(), RunFolder(tmp_path)), Walk()
    later.name = "later"
    loop.run(Walk())
    loop.run(later)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["walk"] * 3 + ["later"] * 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with stop_requests() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert signal.getsignal(number) is before


@pytest.fixture
def _usual_interrupts():
    """Let an interrupt be one where it is ignored, as in what a shell script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_usual_interrupts")
def test_the_second_interrupt_acts_as_usual():
    with stop_requests():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_nothing_is_caught():
    seen = []

    def work():
        with stop_requests() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
