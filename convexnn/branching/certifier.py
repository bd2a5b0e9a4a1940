"""Certifier "branch_and_bound": complete on networks whose units are linear on either side of zero."""

from __future__ import annotations

from convexnn.activations import LeakyReLU, ReLU
from convexnn.branching.check import check
from convexnn.branching.search import propose
from convexnn.propagation.query import Certifier, Query


def refusal(query: Query) -> str | None:
    """Why the method does not apply, or None."""
    if isinstance(query.network.activation, ReLU | LeakyReLU):
        return None
    return f"Branch and bound splits ReLU and LeakyReLU units; this network has {query.network.activation.name} units."


BRANCH_AND_BOUND = Certifier("branch_and_bound", propose, check, refusal)
