"""A host as a graph: made in one of several ways, and replayed against the host before anybody uses it."""

from .guiding import check_reads, muted_export, real_values
from .inputs import as_example, image_shapes, map_tensors, with_sizes
from .ladder import private_graph, trace
from .quieting import quiet
from .replay import TOLERANCE, annotate_shapes, first_line, run
from .trace import Attempt, Example, Replay, Trace, TraceSummary, Way
from .ways import adopt_state, private_copy
from .wholes import divide_whole, free_whole_numbers

__all__ = [
    "TOLERANCE",
    "Attempt",
    "Example",
    "Replay",
    "Trace",
    "TraceSummary",
    "Way",
    "adopt_state",
    "annotate_shapes",
    "as_example",
    "check_reads",
    "divide_whole",
    "first_line",
    "free_whole_numbers",
    "image_shapes",
    "map_tensors",
    "muted_export",
    "private_copy",
    "private_graph",
    "quiet",
    "real_values",
    "run",
    "trace",
    "with_sizes",
]
