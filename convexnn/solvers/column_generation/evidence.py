"""What a round leaves behind: the best network so far, and the dual point with the best bound.

Both are estimates that steer the solver. What is published is recomputed by the program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.monotone import concave_maximum
from convexnn.program import PolynomialDual
from convexnn.quadratic.origin import origin_attacks
from convexnn.quadratic.structure import QuadraticStructure
from convexnn.solvers.column_generation.neurons import Neurons
from convexnn.solvers.column_generation.worst_cases import WorstCases

Array = NDArray[np.float64]


@dataclass(eq=False)
class Incumbent:
    """Best point and best dual point so far.

    Attributes
    ----------
    neurons : Neurons or None
    objective : float
        Exact objective of the neurons.
    dual : PolynomialDual or None
    lower_bound : float
        Of the dual point, by the norm of its moments.
    """

    neurons: Neurons
    objective: float = math.inf
    dual: PolynomialDual | None = None
    lower_bound: float = 0.0

    @property
    def gap(self) -> float:
        """Relative gap."""
        if not math.isfinite(self.objective):
            return math.inf
        return max(self.objective - self.lower_bound, 0.0) / max(self.objective, 1e-300)

    def offer_point(self, neurons: Neurons, objective: float) -> None:
        """Keep the better of two networks."""
        if objective < self.objective:
            self.neurons, self.objective = neurons, objective

    def offer_dual(self, worst: WorstCases, slopes: Array, norm: float) -> None:
        """Keep the better of two dual points; this one belongs to the last evaluation of ``worst``."""
        bound = scaled_bound(worst.structure, slopes, norm)
        if self.dual is None or bound > self.lower_bound:
            shifts, variances, directions, groups = worst.attacks()
            self.dual = PolynomialDual(slopes.copy(), shifts, variances, directions, groups)
            self.lower_bound = max(bound, 0.0)

    def offer_origin(self, structure: QuadraticStructure) -> None:
        """Keep the dual point of attacks on the origin where it is the better one; nothing where they are too strong.

        No smooth worst case leads there when the radius is far above the data.
        """
        attacks = origin_attacks(structure)
        bound = scaled_bound(structure, attacks.slopes, attacks.norm) if attacks.inside else 0.0
        if bound > self.lower_bound:
            d = structure.n_features
            variances = np.repeat(attacks.spread[:, None], d, axis=1)
            groups = np.zeros(structure.n_terms, dtype=np.intp)
            self.dual = PolynomialDual(attacks.slopes, attacks.shifts, variances, np.eye(d)[None], groups)
            self.lower_bound = bound


def scaled_bound(structure: QuadraticStructure, slopes: Array, norm: float) -> float:
    """Largest dual value of ``theta * slopes`` with ``theta * norm <= lam``, up to rounding.

    Implements: convexnn, Proposition 1 of theory/column_generation.
    """
    low, high = structure.loss.slopes(np.ones(1))
    steepest = float(max(-low[0], high[0]))
    total = slopes.reshape(2, -1).sum(axis=0) if structure.is_regression else slopes
    limit = min(structure.lam / max(norm, 1e-300), steepest / max(float(total.max(initial=0.0)), 1e-300))
    return concave_maximum(lambda theta: structure.dual_value(theta * slopes), limit)
