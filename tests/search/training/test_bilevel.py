from __future__ import annotations

from surgeon.search import Config
from surgeon.search.training.bilevel import step_of_weights


def test_weights_follow_adamw_down_to_nothing_or_sgd_as_published():
    assert step_of_weights(Config()) == ("adamw", 1e-2, 0.0)
    assert step_of_weights(Config.create(weight_step="sgd")) == ("sgd", 0.05, 0.001)


def test_a_rate_of_sgd_asks_for_sgd():
    assert step_of_weights(Config.create(weight_rate=0.5)) == ("sgd", 0.5, 0.001)
