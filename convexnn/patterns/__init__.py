"""Activation patterns: extract them from a network, sample them, enumerate them, count them."""

from convexnn.patterns.enumeration import count_patterns, enumerate_patterns
from convexnn.patterns.extract import extract
from convexnn.patterns.multiset import ActivationPatterns
from convexnn.patterns.sample import sample, sample_gates
from convexnn.patterns.statistics import PatternStatistics, canonical_order, pattern_statistics

__all__ = [
    "ActivationPatterns",
    "PatternStatistics",
    "canonical_order",
    "count_patterns",
    "enumerate_patterns",
    "extract",
    "pattern_statistics",
    "sample",
    "sample_gates",
]
