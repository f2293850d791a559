"""What an output means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from surgeon.data import Cohort, Legend, Preparation
from surgeon.errors import DataError, InputError
from surgeon.scores import Activation, Task, find_task
from surgeon.scores.tasks import beyond, rivals

CLASSES = ("background", "one", "two")


def cohort(classes: int = 2, dims: int = 2) -> Cohort:
    return Cohort(Path("data"), "made up", (), Legend(CLASSES[:classes]), dims, 1, Preparation())


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("output", "classes", "expected"),
    [
        (noise(1, 1, 8, 8), 2, Activation.LOGITS_SIGMOID),
        (noise(1, 1, 8, 8).sigmoid(), 2, Activation.PROBABILITIES),
        (noise(1, 3, 8, 8), 3, Activation.LOGITS_SOFTMAX),
        (noise(1, 3, 8, 8).softmax(1), 3, Activation.PROBABILITIES_SOFTMAX),
        (noise(1, 2, 8, 8).sigmoid(), 2, Activation.PROBABILITIES),
    ],
)
def test_values_tell_logits_from_probabilities(output, classes: int, expected: Activation) -> None:
    task = find_task(output, cohort(classes))
    assert task.activation is expected
    assert task.to_dict()["channels"] == output.shape[1]


def test_what_is_said_of_the_activation_holds() -> None:
    task = find_task(noise(1, 1, 4, 4).sigmoid(), cohort(), Activation.LOGITS_SIGMOID)
    assert task.activation is Activation.LOGITS_SIGMOID


@pytest.mark.parametrize(("channels", "classes"), [(2, 3), (1, 3), (3, 2)])
def test_channels_that_do_not_match_the_classes_are_an_error_before_any_training(
    channels: int, classes: int
) -> None:
    with pytest.raises(
        DataError, match=f"the network has {channels} output channels, the data {classes} classes"
    ):
        find_task(noise(1, channels, 8, 8), cohort(classes))


def test_an_output_of_another_rank_is_refused() -> None:
    with pytest.raises(DataError, match="holds no map of 3 spatial axes"):
        find_task(noise(1, 2, 8, 8), cohort(2, 3))


def test_the_output_that_is_named_is_read_and_leads_the_loss() -> None:
    first, small, last = noise(2, 3, 8, 8), noise(2, 3, 4, 4), -noise(2, 3, 8, 8)
    output, label = [first, small, last], torch.ones(2, 8, 8, dtype=torch.int64)
    for place in (2, -1):
        task = find_task(output, cohort(3), answer=place)
        assert (task.answer, task.outputs) == (2, 3)
        assert torch.equal(task.logits(output), last)
    ordered = dataclasses.replace(task, answer=None)
    assert torch.equal(task.loss(output, label), ordered.loss([last, first, small], label))
    assert torch.equal(find_task(output, cohort(3), answer=1).logits(output), small)
    assert task.to_dict()["answer"] == 2
    assert "output 2 is the answer" in task.sentence


def test_an_output_that_is_no_map_is_refused_with_those_that_are() -> None:
    output = [torch.ones(2, 5), noise(2, 3, 8, 8)]
    for place in (0, 2, -3):
        with pytest.raises(InputError, match=rf"output {place} of the network is no map") as caught:
            find_task(output, cohort(3), answer=place)
        assert caught.value.fix == "its maps are: 1 (2, 3, 8, 8)"


def test_outputs_as_large_as_the_largest_are_rivals() -> None:
    output = [noise(1, 3, 4, 4), noise(1, 3, 8, 8), torch.ones(1, 3), noise(1, 2, 8, 8), noise(1, 3, 8, 8)]
    assert rivals(output, find_task(output, cohort(3))) == (1, 4)


def test_features_as_large_as_the_answer_are_not_read() -> None:
    answer = noise(1, 3, 8, 8)
    output = {"features": noise(1, 16, 8, 8), "out": answer, "aux": noise(1, 3, 4, 4)}
    task = find_task(output, cohort(3))
    assert (task.answer, task.outputs) == (1, 2)
    assert torch.equal(task.logits(output), answer)


def test_the_largest_of_several_outputs_is_read() -> None:
    large, small = noise(2, 3, 8, 8), noise(2, 3, 4, 4)
    for output in ([large, small], (small, large), {"aux": small, "out": large}):
        task = find_task(output, cohort(3))
        assert task.outputs == 2
        assert torch.equal(task.logits(output), large)


@pytest.mark.parametrize(
    ("activation", "finish"),
    [
        (Activation.PROBABILITIES, torch.sigmoid),
        (Activation.PROBABILITIES_SOFTMAX, lambda x: x.softmax(1)),
    ],
)
def test_logits_of_probabilities_give_the_same_probabilities(activation: Activation, finish) -> None:
    task = Task(activation, CLASSES, 3, 2)
    probabilities = finish(noise(2, 3, 5, 5))
    assert torch.allclose(finish(task.logits(probabilities)), probabilities, atol=1e-5)


def test_a_prediction_is_the_sign_of_one_channel_and_the_largest_of_several() -> None:
    one = Task(Activation.LOGITS_SIGMOID, CLASSES[:2], 1, 2)
    assert one.predict(torch.tensor([[[[-1.0, 2.0]]]])).tolist() == [[[0, 1]]]
    inside = dataclasses.replace(one, activation=Activation.PROBABILITIES)
    assert inside.predict(torch.tensor([[[[0.4, 0.6]]]])).tolist() == [[[0, 1]]]
    several = Task(Activation.LOGITS_SOFTMAX, CLASSES, 3, 2)
    output = noise(2, 3, 4, 4)
    assert torch.equal(several.predict(output), output.argmax(1))
    assert several.predict(output, (8, 8)).shape == (2, 8, 8)


def test_the_loss_is_soft_dice_plus_cross_entropy() -> None:
    task = Task(Activation.LOGITS_SIGMOID, CLASSES[:2], 1, 2)
    output, label = noise(2, 1, 6, 6), (noise(2, 6, 6) > 0).long()
    p, y = output.sigmoid()[:, 0], label.float()
    dice = 1 - (2 * (p * y).sum() + 1e-5) / (p.sum() + y.sum() + 1e-5)
    expected = dice + F.binary_cross_entropy(p, y)
    assert float(task.loss(output, label)) == pytest.approx(float(expected), abs=1e-5)
    inside = dataclasses.replace(task, activation=Activation.PROBABILITIES)
    assert float(inside.loss(output.sigmoid(), label)) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("activation", [Activation.LOGITS_SOFTMAX, Activation.PROBABILITIES])
@pytest.mark.parametrize("spatial", [(8, 6), (4, 6, 4)])
def test_the_loss_falls_when_the_output_nears_the_label(
    activation: Activation, spatial: tuple[int, ...]
) -> None:
    task = Task(activation, CLASSES, 3, len(spatial))
    label = torch.arange(2 * torch.Size(spatial).numel()).reshape(2, *spatial) % 3
    right = F.one_hot(label, 3).movedim(-1, 1).float()
    near, far = (right * 4 - 2, noise(*right.shape))
    if activation is Activation.PROBABILITIES:
        near, far = near.sigmoid(), far.sigmoid()
    assert task.loss(near, label) < task.loss(far, label)


def test_deep_supervision_counts_smaller_outputs_with_half_the_weight() -> None:
    task = Task(Activation.LOGITS_SOFTMAX, CLASSES, 3, 2, outputs=2)
    label = (noise(2, 8, 8) > 0).long()
    large, small = noise(2, 3, 8, 8), noise(2, 3, 4, 4)
    lower = F.interpolate(label[:, None].float(), size=(4, 4), mode="nearest-exact")[:, 0].long()
    expected = (task.loss(large, label) + 0.5 * task.loss(small, lower)) / 1.5
    assert float(task.loss([large, small], label)) == pytest.approx(float(expected), abs=1e-6)


def test_a_smaller_output_is_interpolated_to_the_label() -> None:
    task = Task(Activation.LOGITS_SOFTMAX, CLASSES, 3, 2)
    assert task.loss(noise(1, 3, 4, 4), torch.zeros(1, 16, 16, dtype=torch.int64)).isfinite()


def test_the_gradient_reaches_a_network_with_its_sigmoid_inside() -> None:
    logits = noise(1, 1, 8, 8).requires_grad_()
    task = Task(Activation.PROBABILITIES, CLASSES[:2], 1, 2)
    task.loss(logits.sigmoid(), torch.ones(1, 8, 8, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert (logits.grad < 0).all()


def test_a_sure_network_gets_no_gradient_too_small_for_a_fast_processor() -> None:
    task = Task(Activation.LOGITS_SIGMOID, CLASSES[:2], 1, 2)
    label = torch.zeros(1, 4, 4).long()
    label[0, 0, :2] = 1
    logits = torch.where(label[:, None] == 1, 0.5, -90.0)  # sigmoid(-90) is about 1e-39: not a normal float32
    logits[0, 0, 3, 3] = 90.0  # sure and wrong: this one has to be pulled back
    logits.requires_grad_()
    task.loss(logits, label).backward()
    gradient = logits.grad
    assert gradient is not None
    assert set(gradient[gradient.abs() < 1e-20].tolist()) == {0.0}
    assert gradient[0, 0, 3, 3] > 1e-2
    assert (gradient[0, 0, 0, :2] < -1e-2).all()


class _Flat(torch.nn.Module):
    """Logits that lie between 0 and 1 on a real image."""

    def __init__(self, finish: str) -> None:
        super().__init__()
        self.finish = finish

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = 0.5 + 0.1 * x
        return torch.sigmoid(logits) if self.finish == "sigmoid" else logits


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("sigmoid", Activation.PROBABILITIES), ("none", Activation.LOGITS_SIGMOID)],
)
def test_small_logits_are_told_from_probabilities_far_from_real_images(finish, expected):
    network, image = _Flat(finish), torch.rand(1, 1, 8, 8)
    data = cohort(2)
    assert find_task(network(image), data).activation is Activation.PROBABILITIES
    assert find_task(network(image), data, further=beyond(network, image)).activation is expected
