"""Small Cholesky helpers, the dual slack and the completed primal point of the arrow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtrs

from convexnn.relaxations.arrow.problem import ArrowProblem, Relaxation

Array = NDArray[np.float64]


class NotPositiveError(ArithmeticError):
    """A matrix that had to be positive definite is not; never leaves this package."""


def cholesky(A: Array) -> Array:
    """Lower factor of a symmetric matrix.

    Raises
    ------
    NotPositiveError
    """
    factor, info = dpotrf(A, lower=1, clean=1)
    if info or (len(factor) and not factor[-1, -1] > 0.0):  # nan runs through to the last pivot
        raise NotPositiveError
    return factor


def inverse(L: Array) -> Array:
    """Inverse of ``L L'``, both triangles."""
    lower = dpotri(L, lower=1)[0]
    return lower + np.tril(lower, -1).T


def solve_factored(L: Array, B: Array) -> Array:
    """``(L L')^-1 B``."""
    return dpotrs(L, B, lower=1)[0]


def solve_lower(L: Array, B: Array) -> Array:
    """``L^-1 B``."""
    return dtrtrs(L, B, lower=1)[0]


def solve_lower_transposed(L: Array, B: Array) -> Array:
    """``L'^-1 B``."""
    return dtrtrs(L, B, lower=1, trans=1)[0]


@dataclass(frozen=True, eq=False)
class Slack:
    """The dual slack at v = (y, nu): ``Z^-1 = [I; J] G [I; J]' + diag(0, 1/N)``, ``J = -N^-1 B'``, ``G = S^-1``."""

    v: Array
    Zhh: Array
    B: Array
    N: Array
    S: Array
    J: Array

    @classmethod
    def at(cls, problem: ArrowProblem, v: Array) -> Slack:
        """Form Z and eliminate the inputs."""
        Zhh, B, N = problem.arrow(v)
        J = np.divide(B, -N).T
        S = Zhh + B @ J
        return cls(v, Zhh, B, N, 0.5 * (S + S.T), J)

    @cached_property
    def L(self) -> Array:
        """Cholesky factor of S."""
        return cholesky(self.S)

    @cached_property
    def G(self) -> Array:
        """Inverse of S."""
        return inverse(self.L)

    def spare(self) -> float:
        """Amount by which t can be lowered: the Schur complement of slot 0 in S, which need not be positive definite.

        Raises
        ------
        NotPositiveError
        """
        if len(self.S) == 1:
            return float(self.S[0, 0])
        turned = solve_lower(cholesky(self.S[1:, 1:]), self.S[1:, 0])
        return float(self.S[0, 0] - turned @ turned)


@dataclass(frozen=True, eq=False)
class Primal:
    """Entries of X on the arrow and the slacks s of the rows with a sign (0 elsewhere)."""

    Xhh: Array
    Xx: Array
    Xd: Array
    s: Array


@dataclass(frozen=True, eq=False)
class Completion:
    """Maximum-determinant completion ``X = Jx Xhh Jx' + diag(0, rest)``, ``Jx = [I; Xx Xhh^-1]``.

    The arrow is chordal, so X has a positive definite completion exactly when Xhh > 0 and rest > 0; the one of largest
    determinant has an inverse with the sparsity of the arrow. ``turned = L^-1 Xx'`` with ``L L' = Xhh``.

    Implements: Fukuda et al. (2001), maximum-determinant completion, for an arrow.
    """

    L: Array
    turned: Array
    Jx: Array
    rest: Array

    @classmethod
    def of(cls, primal: Primal) -> Completion:
        """Factor Xhh and complete.

        Raises
        ------
        NotPositiveError
        """
        L = cholesky(primal.Xhh)
        turned = solve_lower(L, primal.Xx.T)
        return cls(L, turned, solve_lower_transposed(L, turned).T, primal.Xd - np.einsum("ij,ij->j", turned, turned))


@dataclass(frozen=True, eq=False)
class Grams:
    """Gram matrices of the stack of row vectors under X and Z^-1, and the products of the inputs with the stack.

    Attributes
    ----------
    X, G : array, shape (n, n)
        ``V X V'`` and ``V Z^-1 V'`` for the stack V = [e0; z; r; extra; g; tau].
    inputs_X, inputs_G : array, shape (d, n)
        ``X_xi V'`` and ``Z^-1_xi V'``.
    """

    X: Array
    G: Array
    inputs_X: Array
    inputs_G: Array


def grams(relaxation: Relaxation, primal: Primal, done: Completion, slack: Slack) -> Grams:
    """All products the Schur complement matrix is made of."""
    inverse_N = 1.0 / slack.N
    X, inputs_X = _products(relaxation, primal.Xhh, done.Jx, primal.Xx, done.rest)
    Z, inputs_G = _products(relaxation, slack.G, slack.J, slack.J @ slack.G, inverse_N)
    return Grams(X, Z, inputs_X, inputs_G)


def _products(relaxation: Relaxation, core: Array, J: Array, J_core: Array, diagonal: Array) -> tuple[Array, Array]:
    """Grams under ``[I; J] core [I; J]' + diag(0, diagonal)``."""
    p, W = relaxation.p, relaxation.W
    lifted = relaxation.Rh + W @ J
    mixed = core @ lifted.T
    weighted = W * diagonal
    base = np.empty((p + len(W),) * 2)
    base[:p, :p] = core
    base[:p, p:] = mixed
    base[p:, :p] = mixed.T
    base[p:, p:] = lifted @ mixed + weighted @ W.T
    inputs = np.empty((len(J), p + len(W)))
    inputs[:, :p] = J_core
    inputs[:, p:] = J @ mixed + weighted.T
    return relaxation.stack(base), relaxation.extend(inputs)
