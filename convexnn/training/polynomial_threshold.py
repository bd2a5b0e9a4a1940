"""The weight from which on the zero network is the best polynomial network.

Without perturbations it has a closed form. With them it is the value of a game, the network wanting large worst cases
and the attacks moments that look alike; solutions at smaller weights leave a bound on either side of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.inputs import positive_number
from convexnn.losses import Hinge
from convexnn.program import PolynomialDual, Solution
from convexnn.quadratic.structure import QuadraticStructure
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_evidence import class_norms
from convexnn.restrictions.polynomial_worst import worst_cases
from convexnn.restrictions.polynomial_zero import zero_dual
from convexnn.solvers import solve

Array = NDArray[np.float64]

#: First weight tried, as a part of the threshold without perturbations, and how far an unsuccessful one is divided.
FIRST, FALL = 0.1, 4.0
ROUNDS = 8
#: Thresholds below this part of the one without perturbations count as zero.
NEGLIGIBLE = 1e-6
ROUNDING = 1e-15


@dataclass(frozen=True)
class Threshold:
    """Smallest weight for which the zero network is optimal, from both sides.

    Attributes
    ----------
    lower : float
        For every weight below it some network is better than the zero network: one was found.
    upper : float
        For every weight from it on the zero network is optimal: proved, rounding included.
    """

    lower: float
    upper: float


def polynomial_lam_max(program: PolynomialProgram, *, tol: float = 1e-2) -> Threshold:
    """Smallest weight of the regularizer for which the zero network is optimal; the program's own does not matter.

    At radius zero ``kappa(sum_t +-share_t s_t Phi(x_t))`` with the slopes s of the losses at the zero network. Else the
    smallest such kappa over all attacks within the radius: a network M of size one that is optimal at a weight below
    gains ``sum_t share_t s_t w_t(M)``, which is the next weight, and its attacks prove kappa. A value of zero says that
    the radius is too large for any network to gain anything.

    Implements: docs/theory/polynomial.md, Proposition 5.

    Parameters
    ----------
    program : PolynomialProgram
        With one output or several.
    tol : float
        Relative distance of the two ends that is aimed at, up to 1e-6 of the threshold without perturbations.

    Returns
    -------
    Threshold
    """
    tol = positive_number(tol, "tol")
    s = program.structure()
    slopes = s.term_slope(-s.offset)
    still = _proved(s, PolynomialDual(slopes, np.zeros((s.n_terms, s.n_features))))
    if s.radius == 0 or not 0 < still < math.inf:
        return Threshold(still, still)
    if s.loss.binary and not isinstance(s.loss, Hinge):  # only the slope at zero counts: the loss that stays on it
        hinge = polynomial_lam_max(program.reweighted(1.0, Hinge()), tol=tol)
        slope = float(slopes.max())
        return Threshold(slope * hinge.lower * (1 - ROUNDING), slope * hinge.upper * (1 + ROUNDING))
    lower, upper, lam = 0.0, min(still, _proved(s, zero_dual(s))), FIRST * still
    for _ in range(ROUNDS):
        if upper - lower <= tol * upper or upper <= NEGLIGIBLE * still:
            break
        solution = solve(program.reweighted(lam), tol=1e-2 * tol)
        upper = min(upper, _proved(s, solution.dual))
        gained = _gained(program, slopes, solution)
        lower = max(lower, gained)
        lam = lower if gained > 0 else lam / FALL
    return Threshold(lower, upper)


def _proved(structure: QuadraticStructure, dual: PolynomialDual | None) -> float:
    """Kappa of the attacks of multipliers with the slopes of the zero network."""
    if dual is None:
        return math.inf
    slopes = structure.term_slope(-structure.offset)
    return float(class_norms(structure, slopes, replace(dual, slopes=slopes)).max())


def _gained(program: PolynomialProgram, slopes: Array, solution: Solution) -> float:
    """What the network of a solution, scaled to size one, gains to first order."""
    s, size = program.structure(), float(solution.z[:, :, -1, -1].sum())
    if size <= 0:
        return 0.0
    return float((s.share * slopes) @ worst_cases(s, solution.z / size).values) * (1 - 1e-12)
