"""Attacks that send all samples of a training program to the origin, where all classes look alike.

Every term is attacked with mean ``-x`` and an isotropic random part that makes up for classes of different weight. Then
the moments of every class cancel, and with them every unit that could lower the objective of the zero network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import ABSENT, QuadraticStructure

Array = NDArray[np.float64]

#: Variances above this are cut off: no ball holds them.
LARGEST = 1e200


@dataclass(frozen=True, eq=False)
class OriginAttacks:
    """Slopes and attacks of all margin terms.

    Attributes
    ----------
    slopes : array, shape (N,)
        Of the losses at the zero network.
    shifts : array, shape (N, d)
        Means, minus the samples.
    spread : array, shape (N,)
        The covariances are ``spread_t I``.
    norm : float
        ``max_c kappa(G_c)`` of their moments, up to rounding: zero where they cancel.
    inside : bool
        Whether all attacks are in the sets of the program, up to rounding.
    """

    slopes: Array
    shifts: Array
    spread: Array
    norm: float
    inside: bool


def origin_attacks(structure: QuadraticStructure) -> OriginAttacks:
    """Attacks with means ``-x`` and covariances ``tau_c I`` for the terms of class c.

    ``tau_c = (c0 / a) (K / omega_c - 1)`` with the coefficients a and c0 of the activation, the sums ``omega_c`` of
    weights times slopes, and their largest for K where ``a c0 > 0``, their smallest where ``a c0 < 0``. In regression
    the classes are the targets above and below zero.

    Implements: docs/theory/polynomial_multiclass.md, Proposition 6.

    Parameters
    ----------
    structure : QuadraticStructure
    """
    slopes = structure.term_slope(-structure.offset)  # in regression zero for the term that does not decide
    own = np.where(structure.plus == ABSENT, structure.n_classes, structure.plus)  # one score: minus it as well
    weight = structure.share * slopes
    share = np.maximum(np.bincount(own, weight)[own], np.finfo(float).tiny)
    a, _, c = structure.coefficients
    with np.errstate(over="ignore", invalid="ignore"):
        level = share[weight > 0].max(initial=0.0) if a * c > 0 else share[weight > 0].min(initial=np.inf)
        ratio = c / a * (level / share - 1.0) if a * c != 0 else np.zeros(len(share))
        spread = np.clip(np.nan_to_num(ratio, nan=0.0, posinf=LARGEST), 0.0, LARGEST)
        metric = np.ones(structure.n_features) if structure.metric is None else structure.metric
        reach = (np.square(structure.X) @ metric)[structure.rows] + spread * metric.sum()
        signs = [(structure.plus == k) * 1.0 - (structure.minus == k) for k in range(structure.n_classes)]
        norm = max(abs(float((sign * weight) @ (a * spread + c))) for sign in signs)
        inside = bool((reach[weight > 0] <= structure.radius**2).all())
    return OriginAttacks(slopes, -structure.X[structure.rows], spread, norm, inside)
