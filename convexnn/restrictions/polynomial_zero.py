"""When the radius is so large that no robust classifier exists: the proof that the zero network is optimal.

Every term is attacked towards the origin, with an isotropic random part for the lighter classes. Then all classes look
alike: the moments of every class cancel, and with them every unit that could lower the objective.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.program import PolynomialDual, Proposal, Solution, evaluate
from convexnn.quadratic.structure import ABSENT, QuadraticStructure
from convexnn.restrictions.polynomial import PolynomialProgram

Array = NDArray[np.float64]


def zero_dual(structure: QuadraticStructure) -> PolynomialDual:
    """Multipliers that prove the zero network optimal where the sets of all samples reach the origin.

    Slopes ``s`` of the losses there, attacks with mean ``-x`` and covariance ``tau_c I`` for the terms of class c,
    ``tau_c = (c0 / a) (max_k omega_k / omega_c - 1)`` with the coefficients a and c0 of the activation and the sums
    ``omega_c`` of weights times slopes. In regression the classes are the targets above and below zero.

    Implements: docs/theory/polynomial_multiclass.md, Proposition 6.

    Parameters
    ----------
    structure : QuadraticStructure
    """
    slopes = structure.term_slope(-structure.offset)  # in regression zero for the term that does not decide
    own = np.where(structure.plus == ABSENT, structure.n_classes, structure.plus)  # one score: minus it as well
    share = np.bincount(own, structure.share * slopes)[own]
    a, _, c = structure.coefficients
    ratio = c / a if a * c > 0 else 0.0
    spread = ratio * (share.max(initial=0.0) / np.maximum(share, np.finfo(float).tiny) - 1.0)
    d = structure.n_features
    return PolynomialDual(
        slopes,
        -structure.X[structure.rows],
        np.broadcast_to(np.minimum(spread, 1e12)[:, None], (structure.n_terms, d)),
        np.eye(d)[None],
    )


def zero_solution(program: PolynomialProgram, tol: float) -> Solution | None:
    """Solution of a program whose zero network is proved optimal by :func:`zero_dual`, else None."""
    structure = program.structure()
    if structure.radius == 0:
        return None
    proposal = Proposal(np.zeros(structure.z_shape), zero_dual(structure), "solved", 0, "zero_network")
    found = evaluate(program, proposal, seconds=0.0, tol=tol)
    return found if found.is_optimal else None
