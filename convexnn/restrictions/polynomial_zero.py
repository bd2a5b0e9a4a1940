"""When the radius is so large that no robust classifier exists: the proof that the zero network is optimal.

Every term is attacked towards the origin, with an isotropic random part for the lighter classes. Then all classes look
alike: the moments of every class cancel, and with them every unit that could lower the objective.
"""

from __future__ import annotations

import numpy as np

from convexnn.program import PolynomialDual, Proposal, Solution, evaluate
from convexnn.quadratic.origin import origin_attacks
from convexnn.quadratic.structure import QuadraticStructure
from convexnn.restrictions.polynomial import PolynomialProgram


def zero_dual(structure: QuadraticStructure) -> PolynomialDual:
    """Multipliers that prove the zero network optimal where the sets of all samples reach the origin.

    Implements: docs/theory/polynomial_multiclass.md, Proposition 6.

    Parameters
    ----------
    structure : QuadraticStructure
    """
    attacks = origin_attacks(structure)
    d = structure.n_features
    variances = np.broadcast_to(attacks.spread[:, None], (structure.n_terms, d))
    return PolynomialDual(attacks.slopes, attacks.shifts, variances, np.eye(d)[None])


def zero_solution(program: PolynomialProgram, tol: float) -> Solution | None:
    """Solution of a program whose zero network is proved optimal by :func:`zero_dual`, else None."""
    structure = program.structure()
    if structure.radius == 0:
        return None
    proposal = Proposal(np.zeros(structure.z_shape), zero_dual(structure), "solved", 0, "zero_network")
    found = evaluate(program, proposal, seconds=0.0, tol=tol)
    return found if found.is_optimal else None
