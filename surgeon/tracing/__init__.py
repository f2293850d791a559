"""A host as a graph: made in one of several ways, and replayed against the host before anybody uses it."""

from .trace import Attempt, Example, Replay, Trace, TraceSummary, Way

__all__ = ["Attempt", "Example", "Replay", "Trace", "TraceSummary", "Way"]
