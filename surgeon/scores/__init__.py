"""What a network's output means, and how well it fits the labels."""

from __future__ import annotations

from .answers import choose_answer
from .cases import Look, look_at, match_task, read_task, worst_cases, write_table
from .evaluation import Scores, evaluate, in_eval_mode
from .gain import bootstrap_gain, subject_differences
from .overlap import METRICS, Empty, score_case
from .prediction import first_patch, middle_patch, place_in_file, predict, predict_logits
from .tasks import BEYOND, Activation, Task, are_bounded, find_task, place_of_answer

__all__ = [
    "BEYOND",
    "METRICS",
    "Activation",
    "Empty",
    "Look",
    "Scores",
    "Task",
    "are_bounded",
    "bootstrap_gain",
    "choose_answer",
    "evaluate",
    "find_task",
    "first_patch",
    "in_eval_mode",
    "look_at",
    "match_task",
    "middle_patch",
    "place_in_file",
    "place_of_answer",
    "predict",
    "predict_logits",
    "read_task",
    "score_case",
    "subject_differences",
    "worst_cases",
    "write_table",
]
