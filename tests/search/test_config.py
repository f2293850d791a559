from __future__ import annotations

import pydantic
import pytest
from surgeon.search import Config, Inputs

from surgeon.errors import InputError


def test_the_defaults_are_those_of_the_method():
    config = Config()
    assert (config.states, config.partial, config.width, config.merge.value) == (4, 4, 0.25, "residual")
    assert (config.adamw_rate, config.weight_rate) == (1e-2, None)
    assert (config.architecture_rate, config.architecture_start, config.clip) == (6e-4, 0.3, 5.0)


def test_words_become_choices():
    assert Config.create(inputs="both").inputs is Inputs.BOTH


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than or equal to 1"),
        ({"epoch": 3}, "epoch: Extra inputs are not permitted"),
        ({"merge": "sum"}, "merge: Input should be 'residual' or 'replace'"),
        ({"fractions": (0.5, 0.5, 0.5)}, "fractions must be three shares above 0 that add up to 1"),
        ({"operations": ("sep3", "sep3")}, "operations are named twice"),
        ({"weight_step": "adamw", "weight_rate": 0.1}, "weight_rate is SGD's"),
        ({"operations": ("none",)}, "operations hold nothing but none"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings, text):
    with pytest.raises(InputError, match=text) as caught:
        Config.create(**settings)
    assert "retrain_epochs" in caught.value.fix


def test_every_bad_setting_is_named_at_once():
    with pytest.raises(InputError, match=r"epochs: .*; clip: "):
        Config.create(epochs=0, clip=-1)


def test_settings_do_not_change():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Config().epochs = 3


def test_where_the_work_is_done_is_no_difference_between_two_runs():
    assert Config(device="cuda", allow_worse=True).differences(Config().to_dict()) == ()
    assert Config(epochs=3).differences(Config().to_dict()) == ("epochs",)
