"""Refinement of trained models by convex programs: same type out as in, never worse."""

from convexnn.refinement.core import Refinement, refine, refine_network
from convexnn.refinement.deep import DeepRefinement
from convexnn.refinement.heads import HeadOptions, HeadRefinement, replace_head
from convexnn.refinement.options import RefineOptions
from convexnn.search import TrainingObjective

__all__ = [
    "DeepRefinement",
    "HeadOptions",
    "HeadRefinement",
    "RefineOptions",
    "Refinement",
    "TrainingObjective",
    "refine",
    "refine_network",
    "replace_head",
]
