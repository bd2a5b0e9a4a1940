"""Pictures of patterns, robustness, boundaries, certified intervals, objectives and paths, as scikit-learn displays.

A display holds the numbers it shows; ``plot(ax=None)`` draws them and returns the display with ``ax_`` and
``figure_``. matplotlib is imported when something is drawn.
"""

from convexnn.plotting.boundaries import DecisionBoundaryDisplay
from convexnn.plotting.intervals import IntervalDisplay
from convexnn.plotting.objectives import ObjectiveDisplay
from convexnn.plotting.paths import PathDisplay
from convexnn.plotting.patterns import PatternDisplay
from convexnn.plotting.radii import RadiusDisplay
from convexnn.plotting.robust_error import RobustErrorDisplay, TightnessDisplay
from convexnn.plotting.robustness import RobustnessCurveDisplay

__all__ = [
    "DecisionBoundaryDisplay",
    "IntervalDisplay",
    "ObjectiveDisplay",
    "PathDisplay",
    "PatternDisplay",
    "RadiusDisplay",
    "RobustErrorDisplay",
    "RobustnessCurveDisplay",
    "TightnessDisplay",
]
