"""Relaxations of ReLU networks around one sample, one program per file, each with a rigorous check."""

from convexnn.relaxations.tightening import Tightening, tighten  # its evidence is read by every check of the package

__all__ = ["Tightening", "tighten"]
