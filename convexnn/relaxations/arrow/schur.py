"""The Schur complement matrix of the Newton system, assembled from Hadamard products of small Gram matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf

from convexnn.relaxations.arrow.factors import Completion, Grams, NotPositiveError, Primal, Slack, solve_lower
from convexnn.relaxations.arrow.problem import Relaxation
from convexnn.relaxations.arrow.rows import RowGroup, corner

Array = NDArray[np.float64]
#: Relative growth of the diagonal, against cancellation at the end.
DIAGONAL_GROWTH = 1e-13


def schur_factor(relaxation: Relaxation, primal: Primal, done: Completion, slack: Slack, grams: Grams) -> Array:
    """Cholesky factor of ``H_kl = <A_k, X A_l Z^-1> + diag(s / y)`` for rows ``A_k = sym(p_k q_k')``.

    With the Gram matrices X(.,.) and G(.,.) of the stack under X and Z^-1,

        4 H_kl = X(q_k,p_l) G(p_k,q_l) + X(p_k,q_l) G(q_k,p_l) + X(q_k,q_l) G(p_k,p_l) + X(p_k,p_l) G(q_k,q_l).

    Implements: Helmberg et al. (1996), HKM direction, rank-two rows.

    Returns
    -------
    factor : array, shape (n_rows + n_nu, n_rows + n_nu)
        Lower; the other triangle is arbitrary.

    Raises
    ------
    NotPositiveError
    """
    K, n = relaxation.n_rows, relaxation.n_rows + relaxation.n_nu
    H = np.empty((n, n), order="F")
    groups = relaxation.groups
    for i, left in enumerate(groups):
        for right in groups[: i + 1]:
            H[left.at, right.at] = _block(grams, left, right)
    for group in groups:
        H[K:, group.at] = _input_block(relaxation, grams, group)
    _diagonal_block(relaxation, primal, done, slack, grams, H[K:, K:])
    if relaxation.chart.is_clipped:
        _fold_ball(relaxation, H)
    index = np.arange(n)
    positive = relaxation.positive
    diagonal = H[index, index]
    diagonal[positive] += primal.s[positive] / slack.v[positive]
    H[index, index] = diagonal * (1.0 + DIAGONAL_GROWTH)
    factor, info = dpotrf(H, lower=1, clean=0, overwrite_a=1)
    if info or not factor[-1, -1] > 0.0:
        raise NotPositiveError
    return factor


def _block(grams: Grams, left: RowGroup, right: RowGroup) -> Array:
    X, G = grams.X, grams.G
    block = corner(X, left.q, right.p) * corner(G, left.p, right.q)
    block = block + corner(X, left.p, right.q) * corner(G, left.q, right.p)
    block += corner(X, left.q, right.q) * corner(G, left.p, right.p)
    block += corner(X, left.p, right.p) * corner(G, left.q, right.q)
    block *= 0.25 * left.sign * right.sign
    return block


def _input_block(relaxation: Relaxation, grams: Grams, group: RowGroup) -> Array:
    """Rows of the inputs against one group."""
    X, G = grams.inputs_X, grams.inputs_G
    block = X[:, group.p] * G[:, group.q]
    block += X[:, group.q] * G[:, group.p]
    block *= 0.5 * group.sign
    return block.sum(axis=0)[None] if relaxation.chart.is_ball else block


def _diagonal_block(
    relaxation: Relaxation, primal: Primal, done: Completion, slack: Slack, grams: Grams, out: Array
) -> None:
    """Inputs against inputs: ``X_xixi o (Z^-1)_xixi``, summed for a ball."""
    inverse_N = 1.0 / slack.N
    if relaxation.chart.is_ball:
        p = relaxation.p
        JX, JG = grams.inputs_X[:, :p], grams.inputs_G[:, :p]
        R = done.Jx.T @ slack.J
        own = np.einsum("ij,ij->i", JG, slack.J)
        total = ((primal.Xhh @ R) * (R @ slack.G)).sum() + done.rest @ own
        total += inverse_N @ (np.einsum("ij,ij->i", JX, done.Jx) + done.rest)
        out[0, 0] = total
        return
    block = dsyrk(1.0, done.turned, trans=1, lower=1)  # only the lower triangle is read
    other = dsyrk(1.0, solve_lower(slack.L, slack.J.T), trans=1, lower=1)
    index = np.arange(relaxation.d)
    block[index, index] += done.rest
    other[index, index] += inverse_N
    np.multiply(block, other, out=out)


def _fold_ball(relaxation: Relaxation, H: Array) -> None:
    """Congruence that lets the last row of y act on the diagonal of the inputs too (lower triangle in, lower out)."""
    K = relaxation.n_rows
    k, w = K - 1, relaxation.chart.curvature
    low = H[K:, K:]
    full = np.tril(low) + np.tril(low, -1).T
    on_inputs = full @ w
    H[k, k] += 2.0 * (w @ H[K:, k]) + w @ on_inputs
    H[k, :k] += w @ H[K:, :k]
    H[K:, k] += on_inputs
