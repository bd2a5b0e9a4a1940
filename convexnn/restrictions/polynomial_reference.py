"""The semidefinite program of adversarial training of a polynomial network, as the paper states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import SolverError
from convexnn.program import PolynomialDual
from convexnn.quadratic.structure import ABSENT, QuadraticStructure
from convexnn.restrictions.polynomial_neurons import repaired
from convexnn.restrictions.reference import labelled_dual

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: Bytes that a generic interior point method may take for its factorization.
MOST_MEMORY = 8 * 2.0**30


@dataclass(frozen=True)
class Scores:
    """``f(x) = a x'M1 x + b m2'x + c M4`` of one class or of a difference of two, as cvxpy expressions."""

    M1: Any
    m2: Any
    M4: Any


def polynomial_problem(structure: QuadraticStructure) -> cvxpy.Problem:
    """Standard (radius 0) or adversarial training as a semidefinite program.

    ::

        min   sum_t share_t l(w_t) + lam sum_c (Z4_c + Z4'_c)
        s.t.  Z_c, Z'_c >= 0,   tr Z1_c = Z4_c,   tr Z1'_c = Z4'_c,   multiplier >= 0,   and for every margin term
              [ a M1 + multiplier_t D          a M1 x + b m2 / 2                        ]
              [ (a M1 x + b m2 / 2)'           f(x) - w_t - multiplier_t radius^2       ]  >= 0

    with M = y (Z - Z') for one output, the difference of two classes for several. A regression loss has two
    inequalities a sample, one for the smallest and one (with -M) for the largest prediction. The S-procedure loses
    nothing here; note the plus sign of ``b m2 / 2``. At radius 0 the inequalities become ``w_t = f(x)``.

    Implements: Kuelbs, Lall and Pilanci (2024), eq. (11); docs/theory/polynomial.md, Proposition 3.

    Returns
    -------
    cvxpy.Problem
        Variables Z0, Zprime0, ... (one a class), w and multiplier; constraints labelled "trace" and "term <t>", at
        radius 0 "predictions".

    Raises
    ------
    SolverError
        When the program is too large for any generic solver here; the column generation solver takes it.
    """
    import cvxpy as cp

    refuse_too_large(structure)
    size, classes = structure.n_features + 1, range(structure.n_classes)
    Z = [cp.Variable((size, size), PSD=True, name=f"Z{c}") for c in classes]
    Z_prime = [cp.Variable((size, size), PSD=True, name=f"Zprime{c}") for c in classes]
    w = cp.Variable(structure.n_terms, name="w")
    traces = [(cp.trace(V[:-1, :-1]) == V[-1, -1]).set_label("trace") for V in (*Z, *Z_prime)]
    scores = {
        (int(plus), int(minus)): _scores(Z, Z_prime, int(plus), int(minus))
        for plus, minus in set(zip(structure.plus.tolist(), structure.minus.tolist(), strict=True))
    }
    worst = _predictions(structure, scores, w) if structure.radius == 0 else _inequalities(structure, scores, w)
    regularizer = sum(V[-1, -1] for V in (*Z, *Z_prime))
    return cp.Problem(cp.Minimize(_mean_loss(structure, w) + structure.lam * regularizer), [*traces, *worst])


def _scores(Z: list[Any], Z_prime: list[Any], plus: int, minus: int) -> Scores:
    M: Any = 0
    if plus != ABSENT:
        M = Z[plus] - Z_prime[plus]
    if minus != ABSENT:
        M = M - (Z[minus] - Z_prime[minus])
    return Scores(M[:-1, :-1], M[:-1, -1], M[-1, -1])


def _predictions(structure: QuadraticStructure, scores: dict[tuple[int, int], Scores], w: Any) -> list[Any]:
    import cvxpy as cp

    a, b, c = structure.coefficients
    values = []
    for x, plus, minus in zip(structure.X[structure.rows], structure.plus, structure.minus, strict=True):
        f = scores[int(plus), int(minus)]
        values.append(a * (x @ f.M1 @ x) + b * (f.m2 @ x) + c * f.M4)
    return [(cp.hstack(values) == w).set_label("predictions")]


def _inequalities(structure: QuadraticStructure, scores: dict[tuple[int, int], Scores], w: Any) -> list[Any]:
    import cvxpy as cp

    a, b, c = structure.coefficients
    multiplier = cp.Variable(structure.n_terms, nonneg=True, name="multiplier")
    D = np.diag(np.ones(structure.n_features) if structure.metric is None else structure.metric)
    found = []
    for t, (x, plus, minus) in enumerate(
        zip(structure.X[structure.rows], structure.plus, structure.minus, strict=True)
    ):
        f = scores[int(plus), int(minus)]
        value = a * (x @ f.M1 @ x) + b * (f.m2 @ x) + c * f.M4
        side = cp.reshape(a * (f.M1 @ x) + b / 2 * f.m2, (len(x), 1), order="F")
        corner = cp.reshape(value - w[t] - multiplier[t] * structure.radius**2, (1, 1), order="F")
        matrix = cp.bmat([[a * f.M1 + multiplier[t] * D, side], [side.T, corner]])
        found.append((matrix >> 0).set_label(f"term {t}"))
    return found


def _mean_loss(structure: QuadraticStructure, w: Any) -> Any:
    import cvxpy as cp

    if not structure.is_regression:
        return structure.share @ structure.loss.cvxpy(w, np.ones(structure.n_terms))
    n = structure.n_terms // 2
    low, high = w[:n], -w[n:]
    worse = cp.maximum(structure.loss.cvxpy(low, structure.y), structure.loss.cvxpy(high, structure.y))
    return structure.share[:n] @ worse


# -- reading a solution --------------------------------------------------------------------------------
def read_polynomial(structure: QuadraticStructure, problem: cvxpy.Problem) -> tuple[Array, PolynomialDual | None]:
    """Feasible point of a solved problem, and slopes and attack moments from the multipliers of its inequalities.

    The multiplier of a term is ``share s [E delta delta', E delta; E delta', 1]``: its corner gives the slope, its
    last column the mean of the attack, the rest its covariance.
    """
    values = {variable.name(): variable.value for variable in problem.variables()}
    z = np.stack([np.stack([values[f"{name}{c}"] for c in range(structure.n_classes)]) for name in ("Z", "Zprime")])
    return repaired(z), _read_dual(structure, problem)


def _read_dual(structure: QuadraticStructure, problem: cvxpy.Problem) -> PolynomialDual | None:
    n, d = structure.n_terms, structure.n_features
    share = np.maximum(structure.share, np.finfo(float).tiny)
    if structure.radius == 0:
        predictions = labelled_dual(problem, "predictions")
        if predictions is None:
            return None
        slopes = -predictions if not structure.is_regression else _one_sided(-predictions)
        return PolynomialDual(np.maximum(slopes, 0.0) / share, np.zeros((n, d)))
    found = {constraint.label: constraint.dual_value for constraint in problem.constraints}
    multipliers = [found[f"term {t}"] for t in range(n)]
    if any(multiplier is None for multiplier in multipliers):
        return None
    Y = np.stack(multipliers)
    corner = np.maximum(Y[:, -1, -1], 0.0)
    safe = np.where(corner > 0, corner, 1.0)[:, None]
    shifts = 0.5 * (Y[:, :-1, -1] + Y[:, -1, :-1]) / safe
    covariance = Y[:, :-1, :-1] / safe[:, :, None] - shifts[:, :, None] * shifts[:, None, :]
    eigenvalues, vectors = np.linalg.eigh(0.5 * (covariance + covariance.transpose(0, 2, 1)))
    return PolynomialDual(corner / share, shifts, np.maximum(eigenvalues, 0.0), vectors, np.arange(n))


def _one_sided(slopes: Array) -> Array:
    """Slopes of a regression with nonnegative entries and the same difference of the two of every sample."""
    low, high = slopes.reshape(2, -1)
    return np.concatenate([np.maximum(low - high, 0.0), np.maximum(high - low, 0.0)])


def refuse_too_large(structure: QuadraticStructure) -> None:
    """Refuse a reference program whose factorization cannot fit into the memory of an ordinary machine.

    Every inequality has ``(d + 1)(d + 2) / 2`` rows that a generic interior point method couples densely.

    Raises
    ------
    SolverError
        Names the sizes and the solver that takes the program.
    """
    d, n = structure.n_features, structure.n_terms
    rows = (d + 1) * (d + 2) / 2
    cones = 2 * structure.n_classes + (n if structure.radius > 0 else 0)
    variables = 2 * structure.n_classes * rows
    need = 8.0 * (cones * rows * rows + n * rows * min(variables, 4 * rows))
    if need > MOST_MEMORY:
        raise SolverError(
            f"the semidefinite program has {cones} matrices of size {d + 1} and would need about "
            f"{need / 2**30:.0f} GiB in a generic solver; use solver='column_generation'"
        )
