"""Pictures of patterns, robustness, boundaries, intervals, regions, objectives, gaps and paths, as sklearn displays.

A display holds the numbers it shows; ``plot(ax=None)`` draws them and returns the display with ``ax_`` and
``figure_``. matplotlib is imported when something is drawn.
"""

from convexnn.plotting.boundaries import DecisionBoundaryDisplay
from convexnn.plotting.brackets import LipschitzDisplay
from convexnn.plotting.intervals import IntervalDisplay
from convexnn.plotting.objectives import GapDisplay, ObjectiveDisplay
from convexnn.plotting.paths import PathDisplay
from convexnn.plotting.patterns import PatternDisplay
from convexnn.plotting.radii import RadiusDisplay
from convexnn.plotting.regions import RegionScoreDisplay, RegionTrainingDisplay
from convexnn.plotting.robust_error import RobustErrorDisplay, TightnessDisplay
from convexnn.plotting.robustness import RobustnessCurveDisplay

__all__ = [
    "DecisionBoundaryDisplay",
    "GapDisplay",
    "IntervalDisplay",
    "LipschitzDisplay",
    "ObjectiveDisplay",
    "PathDisplay",
    "PatternDisplay",
    "RadiusDisplay",
    "RegionScoreDisplay",
    "RegionTrainingDisplay",
    "RobustErrorDisplay",
    "RobustnessCurveDisplay",
    "TightnessDisplay",
]
