"""Which products of two units to add to a relaxation: those that its moments violate most; and how they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import CertificateError
from convexnn.relaxations.arrow.factors import Primal
from convexnn.relaxations.arrow.problem import Relaxation
from convexnn.relaxations.arrow.rows import Products

Array = NDArray[np.float64]
#: Products for each unit, and the violation (in scaled variables) from which on one counts.
EACH, VIOLATION = 2, 1e-4


def with_products(relaxation: Relaxation, primal: Primal) -> Relaxation | None:
    """The relaxation with the products that are violated most added, or None when none is.

    For units i and j with ``0 <= z_i <= u_i`` and ``r_j = s_j - z_j <= 0`` both ``z_i r_j`` and ``(u_i - z_i) r_j`` are
    at most zero on the set. All of them read the moments on the arrow only.

    Implements: Sherali and Adams (1990), products of linear rows (RLT), for two units.
    """
    m = relaxation.m
    row = relaxation.Rh[:m] @ primal.Xhh[0] + relaxation.W[:m] @ primal.Xx[:, 0]
    low = primal.Xhh[1:] @ relaxation.Rh[:m].T + primal.Xx.T[1:] @ relaxation.W[:m].T
    high = relaxation.forms.upper[:, None] * row - low
    violation = np.stack([low, high])
    violation[:, np.arange(m), np.arange(m)] = 0.0
    known = relaxation.products
    violation[np.where(known.low, 0, 1), known.i, known.j] = 0.0
    order = np.argsort(-violation, axis=None, kind="stable")[: EACH * m]
    side, i, j = np.unravel_index(order[violation.ravel()[order] > VIOLATION], violation.shape)
    if not len(side):
        return None
    side, i, j = (np.concatenate(both) for both in ((~known.low * 1, side), (known.i, i), (known.j, j)))
    order = np.argsort(side, kind="stable")
    return replace(relaxation, products=Products(i[order], j[order], side[order] == 0))


def stored(relaxation: Relaxation, v: Array) -> tuple[Array, Array, Array]:
    """``(y, nu, products)`` of multipliers: y without the products, which become triples (n, 3).

    A triple ``i, j, c`` is c times ``z_i r_j <= 0``, or for negative c ``-c`` times ``(u_i - z_i) r_j <= 0``.
    """
    y, nu = v[: relaxation.n_rows], v[relaxation.n_rows :]
    at, products = relaxation.pairs, relaxation.products
    triples = np.column_stack([products.i, products.j, products.signs * y[at]]) if len(products) else np.empty((0, 3))
    return np.delete(y, at), nu, triples


def read_products(relaxation: Relaxation, given: ArrayLike) -> tuple[Relaxation, Array]:
    """The relaxation with the products of a stored list, and their multipliers (n,), all of them nonnegative or nan.

    Raises
    ------
    CertificateError
        When it is no list of triples, or names units that do not exist.
    """
    triples = np.asarray(given, dtype=np.float64)
    m = relaxation.m
    if triples.ndim != 2 or triples.shape[1] != 3:
        raise CertificateError(f"Products of units are rows (i, j, multiplier), shape (n, 3), got {triples.shape}.")
    units = triples[:, :2]
    if not (np.all((units >= 0) & (units < m)) and np.array_equal(units, np.rint(units))):
        raise CertificateError(f"Products name units that are not 0 to {m - 1}, the unstable units of the query.")
    triples = triples[np.argsort(triples[:, 2] < 0, kind="stable")]
    i, j = triples[:, 0].astype(np.intp), triples[:, 1].astype(np.intp)
    products = Products(i, j, ~(triples[:, 2] < 0))
    return replace(relaxation, products=products), np.abs(triples[:, 2])


def spliced(relaxation: Relaxation, y: Array, products: Array) -> Array:
    """Multipliers y with those of the products at their place."""
    parts: Sequence[Array] = np.split(y, [relaxation.pairs.start])
    return np.concatenate([parts[0], products, parts[1]])
