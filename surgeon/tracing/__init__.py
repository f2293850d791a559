"""A host as a graph: made in one of several ways, and replayed against the host before anybody uses it."""

from .bounds import check_sizes, outside, size_limits
from .easing import eased, quotients_are_checked
from .freeing import affine_grid
from .guiding import check_reads, real_values
from .inputs import as_example, grown, image_shapes, is_image, map_tensors, with_sizes
from .ladder import private_graph, trace
from .limits import TookTooLong, time_limit
from .paths import site_of
from .quieting import quiet
from .remembering import run_elsewhere
from .replay import TOLERANCE, annotate_shapes, first_line, run
from .scripts import is_script
from .trace import Attempt, Example, Limits, Replay, Trace, TraceSummary, Way
from .ways import adopt_state, private_copy
from .wholes import divide_whole

__all__ = [
    "TOLERANCE",
    "Attempt",
    "Example",
    "Limits",
    "Replay",
    "TookTooLong",
    "Trace",
    "TraceSummary",
    "Way",
    "adopt_state",
    "affine_grid",
    "annotate_shapes",
    "as_example",
    "check_reads",
    "check_sizes",
    "divide_whole",
    "eased",
    "first_line",
    "grown",
    "image_shapes",
    "is_image",
    "is_script",
    "map_tensors",
    "outside",
    "private_copy",
    "private_graph",
    "quiet",
    "quotients_are_checked",
    "real_values",
    "run",
    "run_elsewhere",
    "site_of",
    "size_limits",
    "time_limit",
    "trace",
    "with_sizes",
]
