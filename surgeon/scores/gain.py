"""The gain of one network over another, paired by subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgeon.errors import DataError

from .evaluation import Scores

DRAWS = 10_000
# Up to this many subjects every pattern of signs is counted: the p-value is exact.
_EXACT = 13


def bootstrap_gain(host: Scores, implanted: Scores, seed: int, draws: int = DRAWS) -> dict[str, float]:
    """Estimate the gain in mean Dice, with an interval over subjects.

    Cases of a subject are averaged first: two phases of one patient are not two patients.

    Args:
        host: scores of the host.
        implanted: scores of the implanted network on the same cases.
        seed: of the resampling.
        draws: bootstrap samples, and sign patterns where there are too many to count.

    Returns:
        `dice_mean`, the mean difference; `low` and `high`, the 95 % percentile bootstrap interval over
        subjects; `p_value`, two-sided, of the paired sign-flip permutation test; `wilcoxon_p`, two-sided, of
        Wilcoxon's signed-rank test.

    Raises:
        DataError: the two were scored on different cases.
    """
    differences = subject_differences(host.per_case, implanted.per_case)
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(differences), (draws, len(differences)))
    low, high = np.percentile(differences[picks].mean(1), (2.5, 97.5))
    return {
        "dice_mean": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "p_value": _sign_flip(differences, generator, draws),
        "wilcoxon_p": _wilcoxon(differences),
    }


def subject_differences(
    host: Mapping[str, Mapping[str, Any]], implanted: Mapping[str, Mapping[str, Any]]
) -> NDArray[np.float64]:
    """Return for each subject, sorted by name, its mean Dice under one network less that under the other.

    Raises:
        DataError: the two were scored on different cases.
    """
    if host.keys() != implanted.keys() or not host:
        odd = sorted(host.keys() ^ implanted.keys())
        raise DataError(
            f"the two networks were scored on different cases: {', '.join(odd[:4]) or 'none at all'}",
            fix="score both on one cohort",
        )
    by_subject: dict[str, list[float]] = {}
    for name, values in host.items():
        gain = np.mean([implanted[name]["dice"][key] - value for key, value in values["dice"].items()])
        by_subject.setdefault(values["subject"], []).append(float(gain))
    return np.array([np.mean(by_subject[subject]) for subject in sorted(by_subject)])


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    """Return the p-value of the signed-rank test; subjects without a difference are left out."""
    from scipy.stats import wilcoxon

    moved = differences[differences != 0]
    return float(wilcoxon(moved).pvalue) if len(moved) else 1.0


def _sign_flip(differences: NDArray[np.float64], generator: np.random.Generator, draws: int) -> float:
    count = len(differences)
    if count <= _EXACT:
        patterns = np.arange(2**count)[:, None] >> np.arange(count) & 1
        signs = patterns * 2 - 1
        extra = 0
    else:
        signs = generator.integers(0, 2, (draws, count)) * 2 - 1
        extra = 1  # the pattern that was seen counts as one of the draws
    sums = np.abs(signs @ differences)
    # A hair of slack: the same sum in another order differs in the last bits.
    as_large = int((sums >= abs(differences.sum()) - 1e-12).sum())
    return (as_large + extra) / (len(signs) + extra)
