"""The robust ReLU programs in cvxpy, as the papers state them, and how their multipliers are read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.restrictions.reference import labelled_dual
from convexnn.restrictions.robust_relu_dual import RobustDual, natural_dual
from convexnn.restrictions.robust_relu_margins import stability_violations
from convexnn.restrictions.robust_relu_terms import RobustTerms

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: Units of program (15) below this share of the largest one are set to zero where a solver left them unstable.
TINY = 1e-3
#: Relative violation that is left alone.
ROUNDOFF = 1e-8


def certified_problem(terms: RobustTerms) -> cvxpy.Problem:
    """Program with certified margins: every unit bounded by a line from below and by two from above; no constraints."""
    import cvxpy as cp

    U, c, G, margin = _variables(terms)
    B, T = terms.coefficients(slice(None)), terms.slopes
    z, rho = terms.X @ U.T, _radii(terms, U)
    upper = cp.Variable(T.shape, name="upper")
    constraints = [
        (upper >= z + cp.multiply(1 - T, rho)).set_label("outer"),
        (upper >= cp.multiply(T, rho)).set_label("inner"),
    ]
    raised = cp.sum(cp.multiply(np.maximum(B, 0) * T[terms.rows], z[terms.rows]), axis=1)
    lowered = cp.sum(cp.multiply(np.maximum(-B, 0), upper[terms.rows]), axis=1)
    worst = raised - lowered - _attacked(terms, G) + _offset(terms, c)
    constraints += [_linear_parts(G, U, B * T[terms.rows]), (worst >= margin).set_label("margins")]
    return cp.Problem(cp.Minimize(_objective(terms, U, margin)), constraints)


def stable_problem(terms: RobustTerms) -> cvxpy.Problem:
    """Program (15): exact worst case of units whose patterns are constant on every ball.

    Implements: Kuelbs, Lall & Pilanci (2024), program (15).
    """
    import cvxpy as cp

    U, c, G, margin = _variables(terms)
    D = terms.slopes
    BD = terms.coefficients(slice(None)) * D[terms.rows]
    z = terms.X @ U.T
    worst = cp.sum(cp.multiply(BD, z[terms.rows]), axis=1) - _attacked(terms, G) + _offset(terms, c)
    constraints = [
        (cp.multiply(2 * D - 1, z) >= _radii(terms, U)).set_label("stable"),
        _linear_parts(G, U, BD),
        (worst >= margin).set_label("margins"),
    ]
    return cp.Problem(cp.Minimize(_objective(terms, U, margin)), constraints)


def read_problem(terms: RobustTerms, problem: cvxpy.Problem) -> tuple[Array, Array, RobustDual]:
    """Units, output biases and multipliers of a solved problem of this module."""
    variables = problem.var_dict
    U, c = np.asarray(variables["U"].value, dtype=float), np.asarray(variables["c"].value, dtype=float)
    stable = "stable" in {constraint.label for constraint in problem.constraints}
    if stable:
        U = _without_tiny_units(terms, U)
    forces, moves = labelled_dual(problem, "margins"), labelled_dual(problem, "linear parts")
    found = natural_dual(terms, U, np.asarray(variables["margin"].value, dtype=float))
    if forces is None or moves is None:
        return U, c, found
    forces = np.maximum(forces, 0.0)
    attacks = np.divide(moves, forces[:, None], out=found.attacks.copy(), where=forces[:, None] > 0)
    if stable:
        return U, c, RobustDual(forces / terms.weight, attacks, terms.slopes, _clipped_dual(terms, problem, "stable"))
    outer, inner = (_clipped_dual(terms, problem, label) for label in ("outer", "inner"))
    shares = np.divide(outer, outer + inner, out=found.shares.copy(), where=outer + inner > 0)
    return U, c, RobustDual(forces / terms.weight, attacks, shares)


def _without_tiny_units(terms: RobustTerms, U: Array) -> Array:
    size = np.linalg.norm(U, axis=1)
    dropped = (size <= TINY * size.max(initial=0.0)) & (stability_violations(terms, U) > ROUNDOFF)
    return np.where(dropped[:, None], 0.0, U)


def _clipped_dual(terms: RobustTerms, problem: cvxpy.Problem, label: str) -> Array:
    value = labelled_dual(problem, label)
    return np.zeros_like(terms.slopes) if value is None else np.maximum(value, 0.0)


def _variables(terms: RobustTerms) -> tuple[cvxpy.Variable, ...]:
    import cvxpy as cp

    U = cp.Variable((terms.n_units, terms.n_inputs + 1), name="U")
    G = cp.Variable((terms.n_margins, terms.n_inputs), name="G")
    return U, cp.Variable(terms.n_outputs, name="c"), G, cp.Variable(terms.n_margins, name="margin")


def _dual_norm(terms: RobustTerms) -> int:
    return 2 if terms.norm == 2 else 1


def _radii(terms: RobustTerms, U: cvxpy.Variable) -> cvxpy.Expression:
    """``r |w_i|_q`` in every row, shape (n, p)."""
    import cvxpy as cp

    rho = terms.radius * cp.norm(U[:, :-1], _dual_norm(terms), axis=1)
    return np.ones((len(terms.X), 1)) @ cp.reshape(rho, (1, terms.n_units), order="C")


def _linear_parts(G: cvxpy.Variable, U: cvxpy.Variable, slopes: Array) -> cvxpy.Constraint:
    """``G_t = sum_i slopes_ti w_i``, a variable of its own: its multiplier is the attack times that of the margin."""
    return (G == slopes @ U[:, :-1]).set_label("linear parts")


def _attacked(terms: RobustTerms, G: cvxpy.Variable) -> cvxpy.Expression:
    """``r |G_t|_q``: what the worst attack takes from the linear parts, shape (N,)."""
    import cvxpy as cp

    return terms.radius * cp.norm(G, _dual_norm(terms), axis=1)


def _offset(terms: RobustTerms, c: cvxpy.Variable) -> cvxpy.Expression:
    selection = np.zeros((terms.n_margins, terms.n_outputs + 1))
    selection[np.arange(terms.n_margins), terms.plus] += 1
    selection[np.arange(terms.n_margins), terms.minus] -= 1
    return selection[:, :-1] @ c


def _objective(terms: RobustTerms, U: cvxpy.Variable, margin: cvxpy.Variable) -> cvxpy.Expression:
    import cvxpy as cp

    loss = terms.weight @ terms.loss.cvxpy(margin, np.ones(terms.n_margins))
    return loss + 2 * terms.lam * cp.sum(cp.norm(U, 2, axis=1))
