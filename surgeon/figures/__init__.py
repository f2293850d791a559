"""The anatomy of a host for a person: tables, a drawing in the terminal, a figure in a file."""

from .cases import case_figure
from .picture import anatomy_figure
from .plan import Link, Plan, plan_of
from .tables import anatomy_summary, refusal_table, skip_table
from .terminal import UDrawing, draw_u

__all__ = [
    "Link",
    "Plan",
    "UDrawing",
    "anatomy_figure",
    "anatomy_summary",
    "case_figure",
    "draw_u",
    "plan_of",
    "refusal_table",
    "skip_table",
]
