from __future__ import annotations

from surgeon.search import Config
from surgeon.search.training.bilevel import rates_of_weights


def test_weights_follow_adamw_down_to_nothing_or_sgd_as_published():
    assert rates_of_weights(Config()) == (1e-2, 0.0)
    assert rates_of_weights(Config.create(weight_step="sgd")) == (0.05, 0.001)
