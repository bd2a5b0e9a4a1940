"""Whole regions of the input space, and upper bounds of networks on them."""

from convexnn.regions.newton import Majorants, best_majorants, majorant_bound, solve_majorants
from convexnn.regions.paired import parallel_groups
from convexnn.regions.polytope import Polytope
from convexnn.regions.region import Region, as_region, as_regions, ellipsoid, rotated_box
from convexnn.regions.ridges import Ridges, Units, ridges

__all__ = [
    "Majorants",
    "Polytope",
    "Region",
    "Ridges",
    "Units",
    "as_region",
    "as_regions",
    "best_majorants",
    "ellipsoid",
    "majorant_bound",
    "parallel_groups",
    "ridges",
    "rotated_box",
    "solve_majorants",
]
