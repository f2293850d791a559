"""What a network's output means, and how well it fits the labels."""

from __future__ import annotations

from .evaluation import Scores, evaluate, in_eval_mode, predict
from .gain import bootstrap_gain, subject_differences
from .overlap import METRICS, score_case
from .tasks import Activation, Task, find_task

__all__ = [
    "METRICS",
    "Activation",
    "Scores",
    "Task",
    "bootstrap_gain",
    "evaluate",
    "find_task",
    "in_eval_mode",
    "predict",
    "score_case",
    "subject_differences",
]
