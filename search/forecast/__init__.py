"""How long an operation will take: its schedule, what its parts take here, and what is left while it runs."""

from .compilation import choose_compilation
from .pacing import known_paces
from .remaining import Forecast, described, reported
from .schedule import Chapter, Pace, Training, plan_chapters

__all__ = [
    "Chapter",
    "Forecast",
    "Pace",
    "Training",
    "choose_compilation",
    "described",
    "known_paces",
    "plan_chapters",
    "reported",
]
