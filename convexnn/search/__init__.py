"""Search for better activation patterns after the convex solve: every step solved, none worse than the last."""

from convexnn.search.api import continued, pattern_search, search_from
from convexnn.search.objective import TrainingObjective
from convexnn.search.options import MOVES, SearchOptions
from convexnn.search.result import SearchResult, SearchStep

__all__ = [
    "MOVES",
    "SearchOptions",
    "SearchResult",
    "SearchStep",
    "TrainingObjective",
    "continued",
    "pattern_search",
    "search_from",
]
