"""Whole regions of the input space, and upper bounds of networks on them."""

from convexnn.regions.region import Region, as_region, as_regions, ellipsoid, rotated_box

__all__ = ["Region", "as_region", "as_regions", "ellipsoid", "rotated_box"]
