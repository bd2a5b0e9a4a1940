"""LipSDP (l2) or max-gradient (linf) bounds of many scalar networks on the same hidden units, all at once.

The margins ``f_a - f_b`` of a classifier share their hidden weights W (m, d) and differ in the outer weights, the rows
of A (P, m). With ReLU slopes the rows of pair p are ``b_0 = sum_i a_pi w_i`` and ``b_i = a_pi w_i``, so a factor S
(d, r) of pair p has the value

    1/2 ||S'b_0|| + 1/2 sum_i |a_pi| ||S'w_i||         (||S||_F = 1 for l2, rows of S of length one for linf)

and one product of W with all factors side by side serves every pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.lipsdp.linf import maximize_linf, multipliers_linf, upper_bound_linf
from convexnn.lipsdp.scalar import maximize, multiplier_from_factor, upper_bound
from convexnn.lipsdp.stacking import stack_rounded
from convexnn.rigorous import ldexp_up

Array = NDArray[np.float64]

#: Columns of a factor (l2); the maximizer has few, and a certificate notices when these are too few.
RANK = 8
TINY = 1e-290
#: Power steps between two certificates of a linf bound, and how many such rounds before the slow and sure way.
LINF_STEPS, LINF_ROUNDS = 120, 20
#: Share of random numbers in a factor that is started again: power steps leave a lost direction lost.
SHAKE = 0.3


@dataclass(frozen=True, eq=False)
class PairBounds:
    """Bounds of the margins, with the factors that prove them.

    Attributes
    ----------
    upper : array, shape (P,)
        Certified upper bounds on the Lipschitz constants, rounded up.
    lower : array, shape (P,)
        Values of the relaxation at ``factors``: lower bounds on what any multiplier could prove (float64).
    factors : array, shape (P, d, r)
        Normalized factors, from which a neighboring problem can be started.
    """

    upper: Array
    lower: Array
    factors: Array


def random_factors(n_pairs: int, n_inputs: int, norm: float, seed: int = 0) -> Array:
    """Normalized random factors, shape (n_pairs, n_inputs, rank); the same for every pair."""
    rank = min(n_inputs, RANK if norm == 2 else int(np.ceil(np.sqrt(2 * n_inputs))) + 2)
    one = np.random.default_rng(seed).standard_normal((1, n_inputs, rank))
    return normalized(np.repeat(one, n_pairs, axis=0), norm)


def normalized(S: Array, norm: float) -> Array:
    """Factors of unit Frobenius norm (norm 2) or with rows of unit length (norm inf)."""
    size = np.sqrt(np.einsum("pdr,pdr->pd" if norm != 2 else "pdr,pdr->p", S, S))
    scaled: Array = S / np.maximum(size.reshape(len(S), -1, 1), TINY)
    return scaled


@dataclass(frozen=True)
class _Parts:
    """``S'w_i`` of every pair, its length, the same of b_0, and the values."""

    T: Array
    lengths: Array
    first: Array
    value: Array

    @classmethod
    def of(cls, W: Array, A: Array, S: Array) -> _Parts:
        P, d, r = S.shape
        T = (W @ S.transpose(1, 0, 2).reshape(d, P * r)).reshape(len(W), P, r).transpose(1, 0, 2)
        lengths = np.maximum(np.sqrt(np.einsum("pmr,pmr->pm", T, T)), TINY)
        sums = np.matmul(A[:, None, :], T)[:, 0]
        size = np.maximum(np.linalg.norm(sums, axis=1), TINY)
        value = 0.5 * (size + np.einsum("pm,pm->p", np.abs(A), lengths))
        return cls(T, lengths, sums / size[:, None], value)

    def directions(self, A: Array) -> Array:
        """``a_pi n_0 + |a_pi| n_i`` with unit vectors n_0 and n_i along ``S'b_0`` and ``S'w_i``, (P, m, r)."""
        found: Array = A[:, :, None] * self.first[:, None, :] + (np.abs(A) / self.lengths)[:, :, None] * self.T
        return found


def pair_values(W: Array, A: Array, S: Array) -> Array:
    """Values at normalized factors, shape (P,): lower bounds on the relaxations."""
    return _Parts.of(W, A, S).value


def follow(W: Array, A: Array, S: Array, norm: float, steps: int = 1) -> Array:
    """Move factors by power steps ``S <- normalized(B'N)``, which never lower a value (convexity of the norms).

    Parameters
    ----------
    W : array, shape (m, d)
    A : array, shape (P, m)
    S : array, shape (P, d, r)
    norm : {2, inf}
    steps : int

    Returns
    -------
    array, shape (P, d, r)
    """
    P, d, r = S.shape
    for _ in range(steps):
        N = _Parts.of(W, A, S).directions(A)
        moved = (W.T @ N.transpose(1, 0, 2).reshape(len(W), P * r)).reshape(d, P, r).transpose(1, 0, 2)
        zero = ~np.any(moved, axis=(1, 2) if norm == 2 else 2)
        S = np.where(zero.reshape(P, -1, 1), S, normalized(moved, norm))
    return S


def pair_gradients(W: Array, A: Array, S: Array, rates: Array) -> tuple[Array, Array]:
    """Gradient of ``sum_p rates_p value_p`` in W (m, d) and A (P, m) at fixed factors.

    Where the factors maximize, this is the gradient of the weighted sum of the bounds.

    Implements: convexnn, Proposition 4 of docs/theory/lipsdp.md (Danskin).

    Parameters
    ----------
    W : array, shape (m, d)
    A : array, shape (P, m)
    S : array, shape (P, d, r)
    rates : array, shape (P,)

    Returns
    -------
    dW : array, shape (m, d)
    dA : array, shape (P, m)
    """
    P, d, r = S.shape
    parts = _Parts.of(W, A, S)
    N = (0.5 * rates)[:, None, None] * parts.directions(A)
    dW = N.transpose(1, 0, 2).reshape(len(W), P * r) @ S.transpose(0, 2, 1).reshape(P * r, d)
    along = np.matmul(parts.T, parts.first[:, :, None])[:, :, 0]
    return dW, (0.5 * rates)[:, None] * (along + np.sign(A) * parts.lengths)


def certified_pairs(W: Array, A: Array, norm: float, factors: Array | None = None, tol: float = 1e-6) -> PairBounds:
    """Certified bounds of all scalar networks ``x -> A_p relu(W x + b)``.

    Implements: convexnn, Propositions 2 and 7 of docs/theory/lipsdp.md, pair by pair.

    Parameters
    ----------
    W : array, shape (m, d)
    A : array, shape (P, m)
        Rounding of these numbers is for the caller to cover.
    norm : {2, inf}
        Of the inputs.
    factors : array, shape (P, d, r), optional
        Of a neighboring problem. Any finite numbers give valid bounds.
    tol : float
        Relative gap between ``upper`` and ``lower`` to reach; for linf 1e-4 is quick.

    Returns
    -------
    PairBounds
    """
    S = _usable(factors, random_factors(len(A), W.shape[1], norm))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # bounds beyond float64 are infinite
        if norm != 2:
            return _certified_linf(W, A, shaken(S, norm), tol)
        found = [_certify_l2(W, a, start, tol) for a, start in zip(A, S, strict=True)]
    upper, lower = (np.array([bound[side] for bound in found]) for side in (0, 1))
    return PairBounds(upper, np.minimum(lower, upper), S)


def shaken(S: Array, norm: float, seed: int = 1) -> Array:
    """Factors with a share of random numbers in all directions."""
    noise = random_factors(len(S), S.shape[1], norm, seed)
    return normalized(normalized(S, norm) + SHAKE * noise, norm)


def _certified_linf(W: Array, A: Array, S: Array, gap: float) -> PairBounds:
    """Rounds of power steps on the pairs whose bound is not within the gap, then the slow and sure way."""
    upper, lower, S = np.full(len(A), np.inf), np.zeros(len(A)), S.copy()
    open_pairs = np.arange(len(A))
    for _ in range(LINF_ROUNDS):
        S[open_pairs] = follow(W, A[open_pairs], S[open_pairs], np.inf, LINF_STEPS)
        for p in open_pairs:
            upper[p], lower[p] = _certify_linf(W, A[p], S[p])
        open_pairs = open_pairs[~(upper[open_pairs] <= lower[open_pairs] * (1.0 + gap))]
        if not open_pairs.size:
            break
    for p in open_pairs:
        rows = stack_rounded(W, A[p])
        factor = maximize_linf(rows.B, gap).factor
        bound, value = _certify_linf(W, A[p], factor.T)
        if bound < upper[p]:
            upper[p], lower[p] = bound, value
    return PairBounds(upper, np.minimum(lower, upper), S)


def _usable(factors: Array | None, fallback: Array) -> Array:
    """Factors with entries up to one; others where they are missing, of another shape, zero or not finite."""
    if factors is None or factors.shape != fallback.shape or not np.isfinite(factors).all():
        return fallback
    largest = np.abs(factors).max(axis=(1, 2), keepdims=True)
    return np.where(largest > 0, factors / np.where(largest > 0, largest, 1.0), fallback)


def _certify_l2(W: Array, a: Array, start: Array, tol: float) -> tuple[float, float]:
    rows = stack_rounded(W, a)
    found = maximize(rows.B, tol, start)
    q = multiplier_from_factor(rows.B, found.factor, rows.error)
    bound = ldexp_up(upper_bound(rows.B, q, rows.error), rows.exponent)
    return bound, float(np.ldexp(found.lower, rows.exponent))


def _certify_linf(W: Array, a: Array, S: Array) -> tuple[float, float]:
    rows = stack_rounded(W, a)
    q, y, value = multipliers_linf(rows.B, S.T)
    share = (rows.error / (rows.error.sum() + np.linalg.norm(rows.B) + TINY)) ** (2.0 / 3.0) * q.sum()
    bound = upper_bound_linf(rows.B, np.maximum(q, share), y, rows.error)
    return ldexp_up(bound, rows.exponent), float(np.ldexp(value, rows.exponent))
