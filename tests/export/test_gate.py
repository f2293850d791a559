from dataclasses import replace

import pytest
import torch
from surgeon.export.cases import check_everything, step_of_sizes
from surgeon.export.flattening import Freedom
from surgeon.export.gate import THRESHOLDS, Case, Gate, Threshold
from surgeon.export.targets import Precision

from surgeon.errors import ExportError, InputError
from surgeon.tracing import Example, Limits


def example(*shape):
    return Example((torch.randn(*shape or (1, 2, 8, 8), generator=torch.Generator().manual_seed(0)),), {})


def host(inputs):
    return inputs.args[0] * 2


def gate_for(export, network=host, precision=Precision.FP32):
    return Gate(network, export, THRESHOLDS[precision])


def test_an_equal_export_passes_and_every_case_is_kept():
    gate = gate_for(host)
    sizes = check_everything(gate, example(), Freedom.BATCH_AND_SIZES, Limits(1), [torch.randn(2, 10, 12)])
    assert [case.what for case in gate.compared] == [
        "example",
        "seed 1",
        "seed 2",
        "seed 3",
        "blank",
        "batch 1",
        "batch 3",
        "larger",
        "not square",
        "uneven",
        "larger, batch 3",
        "smallest",
        "largest",
        "sample 0",
    ]
    assert [case.shapes[0] for case in gate.compared[6:]] == [
        (3, 2, 8, 8),
        (1, 2, 9, 9),
        (1, 2, 8, 10),
        (1, 2, 11, 9),
        (3, 2, 9, 9),
        (1, 2, 1, 1),
        (1, 2, 16, 16),
        (1, 2, 10, 12),
    ]
    assert sizes.to_dict() == {"free": True, "step": 1, "smallest": [1, 1], "largest": [16, 16]}


def test_a_difference_beyond_rounding_is_refused():
    gate = gate_for(lambda inputs: host(inputs) + 0.01)
    with pytest.raises(ExportError, match=r"what the network computes: largest difference 1\.00e-02"):
        gate.check(Case("example", example()))


def test_half_precision_may_differ_more_but_not_much():
    gate = gate_for(lambda inputs: host(inputs).half().float(), precision=Precision.FP16)
    assert gate.check(Case("example", example()))
    wrong = gate_for(lambda inputs: host(inputs) * 1.1, precision=Precision.FP16)
    with pytest.raises(ExportError, match="argmax agreement"):
        wrong.check(Case("example", example()))


def test_flipped_pixels_are_refused_even_when_the_difference_is_small():
    def close(inputs):
        x = torch.zeros(1, 2, 32, 32)
        x[0, 0, 0, 0] = 1000.0
        return x

    def flipped(inputs):
        x = close(inputs)
        x[:, 1] += 1e-3
        return x

    with pytest.raises(ExportError, match=r"argmax agreement 0\.10 %"):
        gate_for(flipped, close).check(Case("example", example()))


def test_an_export_is_wrong_only_for_a_batch_at_another_size_and_is_refused():
    def confused(inputs):
        x = inputs.args[0]
        return host(inputs) if x.shape[0] == 1 or x.shape[2] == 8 else host(inputs).flip(0) + 1

    with pytest.raises(ExportError, match=r"where: larger, batch 3, input 3x2x9x9"):
        check_everything(gate_for(confused), example(), Freedom.BATCH_AND_SIZES, Limits(1), [])


def test_an_export_that_is_wrong_on_loud_or_blank_images_alone_is_refused():
    def clipped(inputs):
        return host(inputs).clamp(-8, 8)

    with pytest.raises(ExportError, match="where: seed 3"):
        check_everything(gate_for(clipped), example(), Freedom.NOTHING, Limits(1), [])

    def offset(inputs):
        return host(inputs) if inputs.args[0].any() else host(inputs) + 1

    with pytest.raises(ExportError, match="where: blank"):
        check_everything(gate_for(offset), example(), Freedom.NOTHING, Limits(1), [])


def far_off(factor, rounding):
    """Make a gate whose host is `rounding` from its exact values, and its export `factor` times as far."""
    exact = torch.linspace(-1, 1, 2048, dtype=torch.float64).reshape(1, 2, 32, 32)
    pattern = torch.ones_like(exact)
    pattern[:, 1] = -1
    return Gate(
        lambda _: (exact + rounding * pattern).float(),
        lambda _: (exact - factor * rounding * pattern).float(),
        THRESHOLDS[Precision.FP32],
        exact=lambda _: exact,
    )


def test_a_difference_that_the_rounding_of_the_host_explains_is_no_fault_and_is_told():
    gate = far_off(3, 2e-4)
    assert gate.check(Case("smallest", example()))
    told = gate.compared[0].to_dict()
    assert told["relative"] == pytest.approx(8e-4, rel=1e-2)
    assert told["rounding"] == pytest.approx(2e-4, rel=1e-2)


def test_a_difference_beyond_the_rounding_of_the_host_is_refused():
    with pytest.raises(ExportError, match="does not compute"):
        far_off(6, 2e-4).check(Case("smallest", example()))


def test_where_the_host_is_all_rounding_nothing_is_claimed_of_noise_and_real_samples_are_refused():
    for factor in (1, 7):  # a kernel whose sums are off by some more units ends far away
        gate = far_off(factor, 0.05)
        assert not gate.check(Case("blank", example(), vital=False))
        assert gate.not_compared[0].reason == "the host's own rounding is 5.0e-02 of its range there"
    with pytest.raises(ExportError, match=r"own rounding moves its outputs by 5.0e-02 (?s:.*)untrained ones"):
        far_off(1, 0.05).check(Case("sample 0", example(), real=True))


def norms(values, count, *, biased=0.0):
    """Apply norms one after another, each to a mean that is off by `biased` of its value."""
    for _ in range(count):
        centred = values - values.mean((2, 3), keepdim=True) * (1 + biased)
        values = 3 + centred / (centred.square().mean((2, 3), keepdim=True) + 1e-6).sqrt()
    return values


def on_blank(count, export):
    """Make a gate whose host normalises `count` times, exactly where all values are equal."""
    return Gate(
        lambda inputs: norms(inputs.args[0] + 1, count),
        export,
        THRESHOLDS[Precision.FP32],
        exact=lambda inputs: norms(inputs.args[0].double() + 1, count),
    )


BLANK = Case("blank", Example((torch.zeros(1, 2, 32, 32),), {}), vital=False)


def test_rounding_that_a_norm_blows_up_on_a_blank_image_is_no_fault_of_the_export():
    gate = on_blank(1, lambda inputs: norms(inputs.args[0] + 1, 1, biased=2**-20))
    assert gate.check(BLANK)
    assert 2e-4 < gate.compared[0].difference.relative < 4e-4
    assert 5e-5 < gate.compared[0].rounding < 4e-4
    with pytest.raises(ExportError, match="does not compute"):
        on_blank(1, lambda inputs: norms(inputs.args[0] + 1, 1) + 0.01).check(BLANK)


def test_nothing_is_claimed_of_a_blank_image_where_norm_after_norm_makes_rounding_all_there_is():
    gate = on_blank(3, lambda inputs: norms(inputs.args[0] + 1, 3, biased=2**-20))
    assert not gate.check(BLANK)
    assert "the host's own rounding is" in gate.not_compared[0].reason
    with pytest.raises(ExportError, match="does not compute"):
        on_blank(3, lambda inputs: norms(inputs.args[0] + 1, 3) * float("nan")).check(BLANK)


def test_a_host_that_gives_no_numbers_is_not_compared():
    gate = gate_for(host, lambda inputs: host(inputs) * float("nan"))
    assert not gate.check(Case("blank", example()))
    assert "no numbers (NaN)" in gate.not_compared[0].reason
    with pytest.raises(InputError, match="no numbers"):
        check_everything(gate, example(), Freedom.NOTHING, Limits(1), [])


def test_a_host_that_cannot_run_in_float64_is_judged_by_the_threshold():
    def narrow(inputs):
        raise RuntimeError("float32 alone")

    gate = Gate(host, lambda inputs: host(inputs) + 0.01, THRESHOLDS[Precision.FP32], exact=narrow)
    with pytest.raises(ExportError, match="does not compute"):
        gate.check(Case("example", example()))


def test_not_a_number_is_refused():
    gate = gate_for(lambda inputs: host(inputs) * float("nan"))
    with pytest.raises(ExportError, match="largest difference inf"):
        gate.check(Case("example", example()))


def test_outputs_of_another_form_are_refused():
    gate = gate_for(lambda inputs: host(inputs)[:, :1])
    with pytest.raises(ExportError, match="outputs differ in form"):
        gate.check(Case("example", example()))


def test_an_export_that_is_wrong_at_another_size_is_refused_with_the_way_out():
    def fixed(inputs):
        x = inputs.args[0]
        return host(inputs) if x.shape[2:] == (8, 8) else host(inputs) + 1

    with pytest.raises(ExportError, match=r"where: larger, input 1x2x9x9\n  fix: .*sizes='fixed'"):
        check_everything(gate_for(fixed), example(), Freedom.BATCH_AND_SIZES, Limits(1), [])


def test_an_export_that_fails_where_it_must_run_is_refused():
    def broken(inputs):
        if inputs.args[0].shape[0] > 1:
            raise RuntimeError("batch")
        return host(inputs)

    with pytest.raises(ExportError, match=r"the export fails: batch\n  where: batch 3"):
        check_everything(gate_for(broken), example(), Freedom.BATCH, Limits(1), [])


def test_sizes_that_the_host_refuses_are_recorded_and_no_failure():
    def strided(inputs):
        if inputs.args[0].shape[2] % 4:
            raise RuntimeError("multiples of four")
        return host(inputs)

    gate = gate_for(host, strided)
    sizes = check_everything(gate, example(), Freedom.SIZES, Limits(1), [])
    assert sizes.step == 4
    assert sizes.smallest == (4, 4)
    assert [case.reason for case in gate.not_compared] == ["the host refuses it: multiples of four"] * 2


def test_sizes_that_the_export_refuses_aloud_are_recorded():
    def strided(inputs):
        if inputs.args[0].shape[2] % 2:
            raise RuntimeError("even sizes")
        return host(inputs)

    gate = gate_for(strided)
    assert check_everything(gate, example(), Freedom.SIZES, Limits(1), []).step == 2
    assert gate.not_compared[0].to_dict() == {
        "what": "larger",
        "shape": [1, 2, 9, 9],
        "reason": "the export refuses it: even sizes",
    }


def test_free_sizes_that_cannot_be_compared_are_refused():
    def one_size(inputs):
        if inputs.args[0].shape[2] != 8:
            raise RuntimeError("eight")
        return host(inputs)

    assert not step_of_sizes(one_size, example())
    assert step_of_sizes(host, example())
    with pytest.raises(ExportError, match="could it be compared: the export refuses it: eight"):
        check_everything(gate_for(one_size), example(), Freedom.SIZES, Limits(1), [])


def test_no_size_below_what_the_graph_vouches_for_is_tried():
    gate = gate_for(host)
    assert check_everything(gate, example(), Freedom.SIZES, Limits(5), []).smallest == (5, 5)


def test_a_sample_of_another_form_is_refused():
    with pytest.raises(InputError, match=r"sample 0 has the shape \(1, 3, 8, 8\)"):
        check_everything(gate_for(host), example(), Freedom.NOTHING, Limits(1), [torch.randn(3, 8, 8)])


def test_a_sample_that_a_free_export_refuses_is_a_failure():
    def strided(inputs):
        if inputs.args[0].shape[2] % 2:
            raise RuntimeError("even sizes")
        return host(inputs)

    with pytest.raises(ExportError, match=r"even sizes\n  where: sample 0"):
        check_everything(gate_for(strided), example(), Freedom.SIZES, Limits(1), [torch.randn(2, 9, 9)])


def test_an_example_that_the_host_refuses_is_bad_input():
    def refuses(inputs):
        raise RuntimeError("no")

    with pytest.raises(InputError, match="the example cannot be run: the host refuses it: no"):
        check_everything(gate_for(host, refuses), example(), Freedom.NOTHING, Limits(1), [])


def test_where_values_part_is_told():
    gate = gate_for(lambda inputs: host(inputs) + 1)
    gate.locate = lambda inputs: f"conv of {inputs.args[0].shape[2]}"
    with pytest.raises(ExportError, match=r"input 1x2x8x8; values part first at conv of 8"):
        gate.check(Case("example", example()))


def test_a_class_lost_on_a_real_sample_is_refused():
    def rare(inputs):
        x = torch.zeros(1, 2, 64, 64)
        x[:, 0] = 1e-3
        x[0, 1, 0, :3] = 1.0
        return x

    def lost(inputs):
        x = rare(inputs)
        x[0, 0, 0, :2] = 1.001
        return x

    threshold = Threshold(2.0, 0.999, 0.999)
    assert Gate(rare, lost, threshold).check(Case("seed", example()))
    with pytest.raises(ExportError, match=r"Dice 0\.74"):
        Gate(rare, lost, threshold).check(Case("sample 0", example(), real=True))


def test_labels_are_judged_by_how_many_are_equal():
    def labels(inputs):
        return (inputs.args[0][:, :1] > 0).to(torch.uint8)

    assert gate_for(labels, labels).check(Case("example", example()))
    with pytest.raises(ExportError, match="argmax agreement"):
        gate_for(lambda inputs: 1 - labels(inputs), labels).check(Case("example", example()))


def test_the_largest_allowed_size_is_proved_and_none_beyond():
    def limited(inputs):
        if inputs.args[0].shape[2] > 11:
            raise RuntimeError("eleven at most")
        return host(inputs)

    sizes = check_everything(gate_for(limited), example(), Freedom.SIZES, Limits(1, 11), [])
    assert sizes.largest == (11, 11)
    with pytest.raises(ExportError, match=r"sizes beyond 8 are outside what torch\.export vouches for"):
        check_everything(gate_for(limited), example(), Freedom.SIZES, Limits(1, 8), [])


@pytest.mark.parametrize(("limits", "where"), [(Limits(1, 11), "beyond"), (Limits(5), "below")])
def test_an_export_that_is_wrong_outside_its_limits_is_refused(limits, where):
    def blind(inputs):
        inside = 5 <= inputs.args[0].shape[2] <= 11
        return host(inputs) if inside else host(inputs) + 1

    assert check_everything(gate_for(host), example(), Freedom.SIZES, limits, [])
    with pytest.raises(ExportError, match=rf"where: {where}, input 1x2x\d+x\d+\n  fix: .*sizes='fixed'"):
        check_everything(gate_for(blind), example(), Freedom.SIZES, limits, [])


def test_a_sigmoid_that_gives_next_to_nothing_is_judged_by_a_share_of_one():
    def faint(inputs):
        return inputs.args[0].sigmoid() * 1e-6

    assert gate_for(lambda inputs: faint(inputs) + 9e-8, faint).check(Case("seed", example()))
    for wrong, network in ((1e-5, faint), (9e-8, lambda inputs: -faint(inputs))):
        with pytest.raises(ExportError, match="does not compute"):
            gate_for(lambda inputs, w=wrong, n=network: n(inputs) + w, network).check(Case("seed", example()))


def test_one_of_several_sigmoids_that_gives_next_to_nothing_is_judged_by_itself():
    def host(inputs):
        return inputs.args[0].sigmoid(), inputs.args[0].sigmoid() * 1e-9

    def off(second):
        def export(inputs):
            first, faint = host(inputs)
            return first + 2e-6, faint + second

        return gate_for(export, host)

    assert off(1e-8).check(Case("seed 1", example()))
    with pytest.raises(ExportError, match="does not compute"):
        off(2e-6).check(Case("seed 1", example()))


def test_a_host_that_checks_its_values_is_compared_on_some_in_the_range_of_the_example():
    def checking(inputs):
        (x,) = inputs.args
        assert x.min() >= 0
        return x * 2

    seen = []

    def recording(inputs):
        seen.append(inputs.args[0])
        return checking(inputs)

    inside = Example((torch.rand(1, 1, 8, 8),), {})
    outside = Example((torch.randn(1, 1, 12, 12),), {})
    gate = Gate(checking, recording, THRESHOLDS[Precision.FP32], example=inside)
    assert gate.check(Case("larger", outside))
    assert seen[0].shape == (1, 1, 12, 12)
    assert seen[0].min() == inside.args[0].min()
    assert seen[0].max() <= inside.args[0].max()
    assert not gate.check(Case("sample 0", outside, real=True))
    assert not Gate(checking, checking, THRESHOLDS[Precision.FP32]).check(Case("larger", outside))


def kept_places(values):
    """Keep the largest of every two values where it is, as a pool and its unpooling do."""
    pairs = values.reshape(-1, 2)
    return torch.where(pairs == pairs.amax(1, keepdim=True), pairs, 0).reshape(values.shape)


def chooser(image, chosen):
    """Make a gate whose host keeps the larger of two values; of one image its export gives `chosen`."""
    return Gate(
        lambda inputs: kept_places(inputs.args[0]).float(),
        lambda inputs: chosen if inputs.args[0].equal(image) else kept_places(inputs.args[0]).float(),
        THRESHOLDS[Precision.FP32],
        exact=lambda inputs: kept_places(inputs.args[0].double()),
        choosing=True,
    )


@pytest.fixture
def undecided():
    """An image with two values that the fourth move alone makes change places."""
    image = torch.rand(1, 2, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    image[0, 0, 0, 0] = 1
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    moves = [torch.randn(image.shape, generator=g, dtype=torch.float64).reshape(-1, 2) for g in generators]
    gains = torch.stack(
        [units * move.diff(dim=1)[:, 0] for units, move in zip((1, 1, 4, 4), moves, strict=True)]
    )
    before = gains[:3].amax(0)
    pair = int((gains[3] - before).argmax())
    gap = torch.finfo(torch.float32).eps * float(before[pair] + gains[3, pair]) / 2
    image.view(-1, 2)[pair, 0] = 0.5
    image.view(-1, 2)[pair, 1] = 0.5 - gap
    chosen = kept_places(image).float()
    chosen.view(-1, 2)[pair] = chosen.view(-1, 2)[pair].flip(0)
    return image, chosen


def test_a_choice_that_rounding_alone_decides_is_no_fault_of_the_export(undecided):
    image, chosen = undecided
    gate = chooser(image, chosen)
    assert not gate.check(Case("smallest", Example((image,), {}), vital=False))
    assert "the host's own rounding is" in gate.not_compared[0].reason


def test_where_rounding_decides_the_image_is_compared_mirrored_or_shifted(undecided):
    image, chosen = undecided
    gate = chooser(image, chosen)
    assert gate.check(Case("uneven", Example((image,), {})))
    assert [case.what for case in gate.compared] == ["uneven, turned"]
    assert not gate.not_compared
    wrong = replace(gate, export=lambda _: chosen, compared=[])
    with pytest.raises(ExportError, match="does not compute"):
        wrong.check(Case("uneven", Example((image,), {})))
