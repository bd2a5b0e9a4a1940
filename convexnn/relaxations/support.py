"""Which networks a relaxation takes, said in a sentence."""

from __future__ import annotations

from convexnn.activations import Identity, LeakyReLU, ReLU
from convexnn.propagation.query import Query


def refuse_smooth_units(query: Query) -> str | None:
    """Why a relaxation for kinked units does not apply, or None for ReLU, LeakyReLU and linear units."""
    activation = query.network.activation
    if isinstance(activation, (ReLU, LeakyReLU, Identity)):
        return None
    return (
        f"This method needs ReLU, LeakyReLU or linear units, got {activation.name!r}; 'crown' and 'alpha_crown' take "
        "every activation."
    )
