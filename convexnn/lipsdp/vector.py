"""LipSDP of a shallow network with several outputs: maximize over two factors, certify by one (d + k) eigenvalue.

For ``f(x) = V phi(W x + b)`` with slopes in [lo, hi], U_0 = (lo + hi) V W and h = hi - lo, LipSDP has the value

    1/2 max_{||Xi||_F = ||Y||_F = 1} <Y'Xi, U_0> + h sum_i ||Xi w_i|| ||Y v_i||

and every q > 0 proves ``L <= lmax([[h/2 W'diag(q)W, U_0'/2], [U_0/2, h/2 V diag(1/q) V']])``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from convexnn.inputs import real_or_nan
from convexnn.lipsdp.stacking import checked_weights
from convexnn.lipsdp.vector_newton import Path
from convexnn.rigorous import UNIT, gamma, ldexp_up, max_eigenvalue, norm_up, row_norms_up

Array = NDArray[np.float64]
Slopes = tuple[float, float]
FLOOR = 1e-10
NEWTON_SIZE = 200  # units, inputs and outputs up to which Newton's method goes first


@dataclass(frozen=True)
class VectorLipSDPResult:
    """Value of LipSDP for several outputs between two numbers, with the evidence for both.

    Attributes
    ----------
    lower : float
        Value at the factors: a lower bound on LipSDP (float64), NOT on the Lipschitz constant.
    upper : float
        ``upper_bound_vector(W, V, multiplier)``: rigorous upper bound on the Lipschitz constant (l2 to l2).
    multiplier : array, shape (m,)
        q > 0.
    factors : tuple of array, shapes (d, r) and (k, r)
        Xi' and Y', each with unit Frobenius norm.
    iterations : int
        Newton and quasi-Newton steps.
    """

    lower: float
    upper: float
    multiplier: Array
    factors: tuple[Array, Array]
    iterations: int


def upper_bound_vector(W: ArrayLike, V: ArrayLike, q: ArrayLike, slopes: Slopes = (0.0, 1.0)) -> float:
    """Rigorous upper bound on the Lipschitz constant from any multiplier q > 0, by one (d + k) eigenvalue.

        L <= lmax([[h/2 W'diag(q)W, U_0'/2], [U_0/2, h/2 V diag(1/q) V']]),  U_0 = (lo + hi) V W, h = hi - lo.

    Implements: convexnn, Proposition 5 of docs/theory/lipsdp.md; from Fazlyab et al. (2019), one hidden layer.

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights, without the bias column.
    V : array_like, shape (k, m)
        Outer weights.
    q : array_like, shape (m,)
        Multiplier; need not be optimal. Entries of units that are zero are not read.
    slopes : tuple of float, default (0.0, 1.0)
        Smallest and largest slope of the activation.

    Returns
    -------
    bound : float
        Upper bound (l2 to l2), rounded up; ``inf`` when q is nan, of another shape or not positive for a nonzero unit.
    """
    weights = real_or_nan(q)
    inner, outer = checked_weights(W, V)
    if weights.shape != (inner.shape[0],):
        return math.inf
    inner, outer, weights, exponent = _balanced(inner, outer, weights)
    if not (np.isfinite(weights).all() and (weights > 0.0).all()):
        return math.inf
    if not weights.size:
        return 0.0
    low, high = slopes
    root = np.sqrt(weights)
    with np.errstate(over="ignore", under="ignore"):
        P, R = inner * root[:, None], outer.T / root[:, None]
        if not (np.isfinite(P).all() and np.isfinite(R).all()):
            return math.inf
        M, forward = _block_matrix(P, R, inner, outer, low + high, high - low)
        scale = (1.0 + norm_up(P) + norm_up(R)) * (norm_up(root) + norm_up(1.0 / root))
        forward += scale * inner.size * 2.0**-1060  # underflow of entries
    return ldexp_up(max(max_eigenvalue(M, forward), 0.0), exponent) if math.isfinite(forward) else math.inf


def _block_matrix(P: Array, R: Array, W: Array, V: Array, total: float, height: float) -> tuple[Array, float]:
    """The (d + k) matrix and a bound on the spectral norm of its rounding error."""
    d = P.shape[1]
    M = np.zeros((d + R.shape[1],) * 2)
    M[:d, :d] = 0.5 * height * (P.T @ P)
    M[d:, d:] = 0.5 * height * (R.T @ R)
    M[d:, :d] = 0.5 * total * (V @ W)
    M[:d, d:] = M[d:, :d].T
    relative = 2.0 * gamma(W.shape[0] + 16)
    size = max(norm_up(P), norm_up(R))
    blocks = abs(height) * (size * size)  # inf where a power would raise
    cross = abs(total) * float(row_norms_up(W) @ row_norms_up(V.T))
    return M, relative * (blocks + cross) * (1.0 + 4.0 * W.size * UNIT) + M.shape[0] ** 2 * 2.0**-1000


def _balanced(W: Array, V: Array, q: Array) -> tuple[Array, Array, Array, int]:
    """Same network up to ``2**exponent``: no zero units, units (and q) rescaled by powers of two, nothing overflows."""
    used = np.any(W != 0.0, axis=1) & np.any(V != 0.0, axis=0)
    W, V, q = W[used], V[:, used], q[used]
    if not q.size:
        return W, V, q, 0
    inner = np.frexp(np.max(np.abs(W), axis=1))[1]
    outer = np.frexp(np.max(np.abs(V), axis=0))[1]
    exponent = int((inner + outer).max())
    half = (inner + outer - exponent) // 2
    rest = inner + outer - exponent - half
    W, V = np.ldexp(W, (half - inner)[:, None]), np.ldexp(V, rest - outer)
    with np.errstate(over="ignore", under="ignore"):
        q = np.ldexp(q, inner - half - (outer - rest))  # w -> w / a, v -> a v turns q into a**2 q
    return W, V, q, exponent


def maximize_vector(
    W: ArrayLike,
    V: ArrayLike,
    tol: float = 1e-8,
    start: tuple[ArrayLike, ArrayLike] | None = None,
    slopes: Slopes = (0.0, 1.0),
    max_iter: int = 4000,
) -> VectorLipSDPResult:
    """LipSDP of a network with several outputs, to a certified relative gap ``tol`` (about 1e-8 is within reach).

    Implements: convexnn, Proposition 5 of docs/theory/lipsdp.md.

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights, without the bias column.
    V : array_like, shape (k, m)
        Outer weights.
    tol : float, default 1e-8
        Relative gap ``upper / lower - 1`` to reach; else the best certified pair is returned.
    start : tuple of array_like, shapes (d, r) and (k, r), optional
        Factors of a nearby problem (warm start).
    slopes : tuple of float, default (0.0, 1.0)
        Smallest and largest slope of the activation.
    max_iter : int, default 4000
        Most quasi-Newton steps in all.

    Returns
    -------
    result : VectorLipSDPResult
        ``upper`` is what may be claimed; it is recomputed from ``multiplier`` and the weights alone.
    """
    W0, V0 = checked_weights(W, V)
    Wb, Vb, _, exponent = _balanced(W0, V0, np.ones(W0.shape[0]))
    if not Wb.size:
        factors = (np.eye(W0.shape[1], 1), np.eye(V0.shape[0], 1))
        return VectorLipSDPResult(0.0, 0.0, np.ones(W0.shape[0]), factors, 0)
    problem = _Problem.of(Wb, Vb, slopes)
    factors = problem.start() if start is None else problem.reduced(start)
    best, iterations = problem.central(tol) if start is None else (None, 0)
    for _ in range(0 if best is not None and best[1] <= best[0] * (1.0 + 0.5 * tol) else 8):
        factors, steps = problem.ascend(factors, max_iter - iterations)
        iterations += steps
        q = problem.multiplier(factors)
        value, bound = problem.value(factors), problem.bound(q)
        if best is None or bound < best[1]:
            best = (value, bound, q, factors)
        if bound <= value * (1.0 + 0.5 * tol) or iterations >= max_iter:
            break
        factors = problem.escape(factors, q)
    assert best is not None
    value, _, q, factors = best
    full = _full_multiplier(W0, V0, q)
    upper = upper_bound_vector(W0, V0, full, slopes)
    with np.errstate(over="ignore", under="ignore"):
        lower = min(float(np.ldexp(value, exponent)), upper)
    return VectorLipSDPResult(lower, upper, full, problem.expanded(factors), iterations)


@dataclass(frozen=True)
class _Problem:
    """Scaled weights in the coordinates of the row space of W and the column space of V."""

    W: Array
    V: Array
    U: Array
    height: float
    bases: tuple[Array, Array]

    @classmethod
    def of(cls, W: Array, V: Array, slopes: Slopes) -> _Problem:
        inputs, W = _coordinates(W)
        outputs, Vt = _coordinates(V.T)
        low, high = slopes
        return cls(W, Vt.T, (low + high) * (Vt.T @ W), high - low, (inputs, outputs))

    def start(self) -> tuple[Array, Array]:
        """Leading singular vectors of the block operator by a few alternating power steps from random factors."""
        rng = np.random.default_rng(0)
        d, k = self.W.shape[1], self.V.shape[0]
        rank = min(d + k, 6 + round(self.W.shape[0] ** (1.0 / 3.0)))
        return rng.standard_normal((d, rank)), rng.standard_normal((k, rank))

    def reduced(self, factors: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
        X, Y = (basis.T @ np.asarray(F, dtype=np.float64) for basis, F in zip(self.bases, factors, strict=True))
        return X, Y

    def expanded(self, factors: tuple[Array, Array]) -> tuple[Array, Array]:
        return self.bases[0] @ factors[0], self.bases[1] @ factors[1]

    def central(self, tol: float) -> tuple[tuple[float, float, Array, tuple[Array, Array]] | None, int]:
        """Value, bound, multiplier and factors by Newton's method, and its steps; None for large or odd weights."""
        if sum(self.W.shape) + len(self.V) > NEWTON_SIZE or self.height <= 0.0:
            return None, 0
        with np.errstate(all="ignore"):
            try:
                (X, Y), q, steps = Path(self.W, self.V, self.U, self.height).follow(tol)
                factors = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
                value, bound = self.value(factors), self.bound(q)
            except (np.linalg.LinAlgError, ValueError):  # entries that are not finite
                return None, 0
        return ((value, bound, q, factors) if math.isfinite(value) and math.isfinite(bound) else None), steps

    def parts(self, X: Array, Y: Array) -> tuple[float, Array, Array]:
        """Value of the bilinear form and its gradients in X and Y, for factors of any norm."""
        A, C = self.W @ X, self.V.T @ Y
        a = np.maximum(np.sqrt(np.einsum("ij,ij->i", A, A)), 1e-290)
        c = np.maximum(np.sqrt(np.einsum("ij,ij->i", C, C)), 1e-290)
        UX = self.U @ X
        value = 0.5 * (float(np.vdot(Y, UX)) + self.height * float(a @ c))
        gX = 0.5 * (self.U.T @ Y + self.height * (self.W.T @ (A * (c / a)[:, None])))
        gY = 0.5 * (UX + self.height * (self.V @ (C * (a / c)[:, None])))
        return value, gX, gY

    def value(self, factors: tuple[Array, Array]) -> float:
        return self.parts(*factors)[0]

    def ascend(self, factors: tuple[Array, Array], max_iter: int) -> tuple[tuple[Array, Array], int]:
        """L-BFGS on the value over normalized factors."""
        (d, r), k = factors[0].shape, factors[1].shape[0]

        def negative(z: Array) -> tuple[float, Array]:
            X, Y = z[: d * r].reshape(d, r), z[d * r :].reshape(k, r)
            x, y = float(np.linalg.norm(X)), float(np.linalg.norm(Y))
            value, gX, gY = self.parts(X, Y)
            value /= x * y
            return -value, -np.concatenate(
                [(gX / (x * y) - value / x**2 * X).ravel(), (gY / (x * y) - value / y**2 * Y).ravel()]
            )

        X, Y = (F / np.linalg.norm(F) for F in factors)
        options = {"maxiter": max(max_iter, 1), "maxfun": 2 * max_iter + 10, "ftol": 1e-16, "gtol": 1e-11, "maxcor": 30}
        z = np.concatenate([X.ravel(), Y.ravel()])
        found = minimize(negative, z, jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
        X, Y = found.x[: d * r].reshape(d, r), found.x[d * r :].reshape(k, r)
        return (X / np.linalg.norm(X), Y / np.linalg.norm(Y)), int(found.nit)

    def multiplier(self, factors: tuple[Array, Array]) -> Array:
        """``q_i = ||Y v_i|| / ||Xi w_i||``, kept away from zero and infinity."""
        a = np.linalg.norm(self.W @ factors[0], axis=1)
        c = np.linalg.norm(self.V.T @ factors[1], axis=1)
        w, v = row_norms_up(self.W), row_norms_up(self.V.T)  # of subnormal units as well: no square underflows
        ratio: Array = (c + FLOOR * v) / (a + FLOOR * w)
        return ratio

    def matrix(self, q: Array) -> Array:
        P, R = self.W * np.sqrt(q)[:, None], self.V / np.sqrt(q)
        return np.block([[0.5 * self.height * P.T @ P, 0.5 * self.U.T], [0.5 * self.U, 0.5 * self.height * R @ R.T]])

    def bound(self, q: Array) -> float:
        return float(np.linalg.eigvalsh(self.matrix(q))[-1])

    def escape(self, factors: tuple[Array, Array], q: Array) -> tuple[Array, Array]:
        """Append the eigenvectors that violate the certificate, at the scale that helps most."""
        X, Y = factors
        values, vectors = np.linalg.eigh(self.matrix(q))
        count = int(min(max(2, X.shape[1] // 2), np.sum(values > self.value(factors) * (1.0 + 1e-7))))
        vectors = vectors[:, ::-1][:, :count]
        trials: list[tuple[float, tuple[Array, Array]]] = []
        for step in (0.3, 0.1, 0.03, 0.01, 1e-3):
            pair = np.hstack([X, step * vectors[: X.shape[0]]]), np.hstack([Y, step * vectors[X.shape[0] :]])
            sizes = float(np.linalg.norm(pair[0]) * np.linalg.norm(pair[1]))
            trials.append((self.value(pair) / sizes, pair))
        X, Y = max(trials, key=lambda trial: trial[0])[1]
        if X.shape[1] > len(vectors):  # same X X', X Y', Y Y' with at most d + k columns
            left, singular, _ = np.linalg.svd(np.vstack([X, Y]), full_matrices=False)
            X, Y = np.split(left * singular, [X.shape[0]])
        return X, Y


def _coordinates(A: Array) -> tuple[Array, Array]:
    """Orthonormal basis Q of the row space and A Q, when that is smaller."""
    if A.shape[0] >= A.shape[1]:
        return np.eye(A.shape[1]), A
    Q, R = np.linalg.qr(A.T)
    return Q, np.ascontiguousarray(R.T)


def _full_multiplier(W: Array, V: Array, q: Array) -> Array:
    """Multiplier of all units in the user's scaling from the one of the balanced nonzero units."""
    used = np.any(W != 0.0, axis=1) & np.any(V != 0.0, axis=0)
    scale = _balanced(W, V, np.ones(W.shape[0]))[2]
    full = np.ones(W.shape[0])
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        full[used] = np.clip(q / scale, np.finfo(float).tiny, np.finfo(float).max)
    return full
