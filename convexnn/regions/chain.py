"""The semidefinite program of several hidden layers on a ball or box, without bounds on the layers: a chain of blocks.

Multipliers make ``value - f`` a quadratic form in v = (1, e, z_1, ..., z_L) plus what is nonnegative on the network's
graph. The form is block tridiagonal; its positive part is the chain of Schur complements of the theory page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from convexnn.activations import LeakyReLU, ReLU
from convexnn.exceptions import CertificateError
from convexnn.inputs import real_or_nan
from convexnn.propagation.query import Query
from convexnn.rigorous import TINY, UNIT, gamma, max_eigenvalue, norm_up, sum_up

Array = NDArray[np.float64]
LIFTS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)
KEYS = ("lam", "mu", "nu", "rho")


@dataclass(frozen=True, eq=False)
class Chain:
    """Quadratic forms ``left_i right_i'`` (symmetrized) of the multipliers, one a row, and who owns each.

    For unit i of a layer with pre-activation ``w'z + b`` and slope s below zero, ``u = z_i - s (w'z + b)`` and
    ``p = z_i - (w'z + b)`` are nonnegative with product zero: multipliers lam, mu >= 0 and nu; rho >= 0 belongs to
    ``1 - |e|^2`` or to ``1 - e_j^2``, two or more rows each.

    Attributes
    ----------
    left, right : array, shape (rows, N)
        N = 1 + r + h_1 + ... + h_L.
    owner : array of int, shape (rows,)
        Nondecreasing.
    fixed : array, shape (N, N)
        The form of ``-f``.
    units, n_rho : int
    depth : array, shape (multipliers,)
        Zero for lam and mu; 1 for nu of the last layer, 2, 4, ... for those before, and for rho.
    """

    left: Array = field(repr=False)
    right: Array = field(repr=False)
    owner: NDArray[np.intp] = field(repr=False)
    fixed: Array = field(repr=False)
    units: int
    n_rho: int
    depth: Array = field(repr=False)

    @property
    def signed(self) -> NDArray[np.bool_]:
        """Multipliers that must be nonnegative, shape (3 units + n_rho,)."""
        return np.concatenate([np.ones(2 * self.units, bool), np.zeros(self.units, bool), np.ones(self.n_rho, bool)])

    def form(self, y: Array) -> Array:
        """The matrix of multipliers y = (lam, mu, nu, rho), the constant of the value left out."""
        half = (self.left.T * y[self.owner]) @ self.right
        return np.asarray(self.fixed + 0.5 * (half + half.T))

    def change(self, y: Array) -> Array:
        """The same without the part of f."""
        half = (self.left.T * y[self.owner]) @ self.right
        return np.asarray(0.5 * (half + half.T))

    def adjoint(self, X: Array) -> Array:
        """Inner products of a symmetric matrix with the forms of the multipliers."""
        total: Array = np.bincount(self.owner, weights=((self.left @ X) * self.right).sum(axis=1)).astype(np.float64)
        return total

    def error(self, y: Array) -> Array:
        """Bound on the rounding of every entry of :meth:`form`."""
        half = (np.abs(self.left).T * np.abs(y[self.owner])) @ np.abs(self.right)
        terms = gamma(len(self.owner) + 16) * (half + half.T + 2.0 * np.abs(self.fixed))
        return np.asarray(terms + TINY * len(self.owner) * (terms > 0))


def chain_of(query: Query) -> Chain:
    """Forms of a query of one row in the unit variable of a region, see :func:`convexnn.regions.folding.folded_query`.

    Raises
    ------
    CertificateError
        For units other than ReLU and LeakyReLU, or a row with an offset.
    """
    network = query.network
    if not isinstance(network.activation, ReLU | LeakyReLU) or query.n_rows != 1:
        raise CertificateError("The chain of quadratic forms knows ReLU and LeakyReLU units, and one row.")
    leak = network.activation.slopes[0]
    r, sizes = network.n_inputs, network.n_hidden
    N = 1 + r + sum(sizes)
    lows, highs, first = [], [], 1
    for (W, b), h, before in zip(network.layers[:-1], sizes, (r, *sizes[:-1]), strict=True):
        line = np.zeros((h, N))
        line[:, 0], line[:, first : first + before] = b, W
        unit = np.zeros((h, N))
        unit[np.arange(h), first + before + np.arange(h)] = 1.0
        lows.append(unit - leak * line)
        highs.append(unit - line)
        first += before
    u, p = np.vstack(lows), np.vstack(highs)
    one = np.zeros_like(u)
    one[:, 0] = -1.0
    corner, axis = np.zeros((r, N)), np.zeros((r, N))
    corner[:, 0] = 1.0
    axis[np.arange(r), 1 + np.arange(r)] = 1.0
    ball = query.inputs.has_ball
    bound = corner[:1] if ball else corner
    W, b = network.layers[-1]
    weights = query.weights[0]
    fixed = np.zeros((N, N))
    fixed[0, 0] = -float(weights @ b + query.offset[0])
    fixed[0, -sizes[-1] :] = fixed[-sizes[-1] :, 0] = -0.5 * (weights @ W)
    m = len(u)
    start = 3 * m
    rho = [np.full(1, start), np.full(r, start)] if ball else [start + np.arange(r), start + np.arange(r)]
    owner = np.concatenate([np.arange(start), *rho])
    order = np.argsort(owner, kind="stable")
    left, right = np.vstack([one, one, u, -bound, axis]), np.vstack([u, p, p, bound, axis])
    n_rho = 1 if ball else r
    powers = np.repeat(2.0 ** np.arange(len(sizes))[::-1], sizes)
    depth = np.concatenate([np.zeros(2 * m), powers, np.full(n_rho, 2.0 ** len(sizes))])
    return Chain(left[order], right[order], owner[order], fixed, m, n_rho, depth)


def chain_bound(query: Query, multiplier: Mapping[str, Array]) -> float:
    """Upper bound on a network over the unit ball or box from ANY multipliers, rounding included.

        f <= -S_00 + max_w { -2 S_0w'w - w'S_ww w },   w = (e, z_1, ..., z_L),

    where S is the form of the multipliers; negative lam, mu and rho count as zero. Where S_ww is not positive definite,
    nu of the last layer grows by a tiny share, that of the one before by twice as much, and so on up to rho.

    Implements: convexnn, Proposition 6 of theory/region_bounds.md, the bound of a chain.

    Parameters
    ----------
    query : Query
        One row, in the unit variable.
    multiplier : mapping
        ``"lam"``, ``"mu"``, ``"nu"``, shapes (h_1 + ... + h_L,), and ``"rho"``, shape (1,) or (r,).

    Returns
    -------
    float
        ``inf`` where nothing is proved.

    Raises
    ------
    CertificateError
        For missing keys and wrong shapes.
    """
    chain = chain_of(query)
    try:
        parts = [real_or_nan(multiplier[key]) for key in KEYS]
    except (KeyError, TypeError, ValueError) as error:
        raise CertificateError(f"The multipliers of a chain cannot be read: {error}") from error
    if [part.shape for part in parts] != [(chain.units,)] * 3 + [(chain.n_rho,)]:
        raise CertificateError("The multipliers of a chain do not fit the network.")
    y = np.concatenate(parts)
    if not np.isfinite(y).all():
        return np.inf
    y = np.where(chain.signed, np.maximum(y, 0.0), y)
    best = np.inf
    with np.errstate(all="ignore"):
        for lift in LIFTS:
            bound = _proved(chain, y + lift * chain.depth * np.abs(y))
            best = min(best, bound)
            if lift and np.isfinite(best):
                break
    return best


def _proved(chain: Chain, y: Array) -> float:
    S, E = chain.form(y), chain.error(y)
    if not (np.isfinite(S).all() and np.isfinite(E).all()):
        return np.inf
    g, M = -2.0 * S[0, 1:], S[1:, 1:]
    diagonal = np.diag(M)
    if not (diagonal > 0).all():
        return np.inf
    scale = np.ldexp(1.0, -np.frexp(np.sqrt(diagonal))[1])  # powers of two: nothing is rounded
    M, spread = M * scale[:, None] * scale, E[1:, 1:] * scale[:, None] * scale
    g, slip = g * scale, 2.0 * E[0, 1:] * scale
    low = -max_eigenvalue(-M, float(spread.sum(axis=1).max()) * (1.0 + gamma(len(M) + 8)))
    if not low > 0:
        return np.inf
    try:
        w = cho_solve(cho_factor(M, check_finite=False), 0.5 * g, check_finite=False)
    except LinAlgError:
        return np.inf
    # g'w - w'Mw at any w, and what another point can add: |g - 2 M w|^2 / (4 low)
    n = len(g)
    Mw, size = M @ w, np.abs(g) + 2.0 * (np.abs(M) + spread) @ np.abs(w)
    wrong = 2.0 * gamma(n + 8) * size + slip + 2.0 * spread @ np.abs(w)
    residual = (np.abs(g - 2.0 * Mw) + wrong) * (1.0 + 8.0 * UNIT)
    length = norm_up(residual)
    rest = length * length / (4.0 * low) * (1.0 + 16.0 * UNIT)  # inf where a power would raise
    value, error = float(g @ w - w @ Mw), float(np.abs(w) @ (2.0 * gamma(2 * n + 16) * size + wrong))
    return sum_up([-S[0, 0], E[0, 0], value, error * (1.0 + 16.0 * UNIT * n), rest, (n + 2) * n * TINY])
