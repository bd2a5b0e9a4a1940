"""Activation patterns: extract them from a network, sample them, enumerate them, count them."""

from convexnn.patterns.extract import extract
from convexnn.patterns.multiset import ActivationPatterns

__all__ = ["ActivationPatterns", "extract"]
