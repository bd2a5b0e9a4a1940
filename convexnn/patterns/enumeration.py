"""Exact enumeration of the activation patterns that a linear unit can have on given rows.

The patterns are the open cells of the arrangement of hyperplanes ``{(w, b): x_k'w + b = 0}``. In the row space,
of rank r, every cell has an extreme ray: a direction on which r - 1 independent hyperplanes vanish. So all cells
are met by going through the rays; around a ray, the hyperplanes that do not vanish there have fixed signs and
those that do form an arrangement of rank r - 1, which is enumerated in the same way. Repeated rows, collinear
points and other ties need no special case.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import positive_number, whole_number
from convexnn.patterns.multiset import ActivationPatterns
from convexnn.patterns.rows import distinct, standardize

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: In standardized coordinates: vectors closer than this to a hyperplane lie on it, more dependent rows span less.
ZERO, RANK = 1e-8, 1e-7
#: Subsets of hyperplanes intersected at once.
CHUNK = 4096


def count_patterns(n: int, rank: int) -> int:
    """Number of patterns of ``n`` rows in general position, ``2 sum_{k < rank} C(n - 1, k)``.

    For rows in any other position it is an upper bound.

    Implements: Cover (1965), theorem 1.

    Parameters
    ----------
    n : int
        Number of distinct rows, at least 1.
    rank : int
        Rank of ``[X, 1]``, or of X for units without bias.
    """
    n, rank = whole_number(n, "n"), whole_number(rank, "rank", 0)
    total, binomial = 0, 1
    for k in range(min(rank, n)):
        total += binomial
        binomial = binomial * (n - 1 - k) // (k + 1)  # C(n - 1, k + 1), exactly
    return 2 * total


def enumerate_patterns(X: ArrayLike, *, bias: bool = True, max_patterns: int = 100_000) -> ActivationPatterns:
    """All patterns ``1[Xw + b >= 0]`` of gates that touch no row, each once, with sign +1.

    Patterns that a gate can only have by touching a row (a tie) are not open cells and are left out; without bias,
    a row of zeros is always active. The pattern that is active nowhere is included. Decisions are made in
    standardized coordinates with a tolerance of 1e-8: rows closer than that are taken as one, and so are points
    closer than that to a common hyperplane.

    Implements: Pilanci & Ergen (2020), the set of all hyperplane arrangement patterns of the data matrix.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Any units.
    bias : bool
        Whether units have a bias b; else b = 0.
    max_patterns : int
        Largest number of patterns that the caller can use.

    Returns
    -------
    ActivationPatterns
        Distinct patterns on the rows of X as they came, in lexicographic order of the distinct rows.

    Raises
    ------
    InvalidInputError
        When :func:`count_patterns` exceeds ``max_patterns``; the count grows like ``n ** (rank - 1)``.
        Also for NaN, infinite values and empty X.
    """
    largest_count = positive_number(max_patterns, "max_patterns", zero=True, infinite=True)
    rows, inverse = distinct(X)
    largest = np.abs(rows).max(axis=0)
    H = np.hstack([standardize(rows)[0], np.ones((len(rows), 1))]) if bias else rows / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(H, axis=1, keepdims=True)
    used = length[:, 0] > 0
    signs = np.ones((len(rows), 1), dtype=bool)  # a row of zeros is a tie, and ties are active
    if used.any():
        H = _row_space(H[used] / length[used])
        bound = count_patterns(_number_of_planes(H), H.shape[1])
        if bound > largest_count:
            raise InvalidInputError(
                f"{len(rows)} distinct rows of rank {H.shape[1]} can have {bound} patterns, more than "
                f"max_patterns={max_patterns}; sample patterns instead, or raise max_patterns."
            )
        cells = _cells(H)
        signs = np.ones((len(rows), cells.shape[1]), dtype=bool)
        signs[used] = cells
    return ActivationPatterns(np.unique(signs, axis=1)[inverse])


def _row_space(H: Array) -> Array:
    """Coordinates of unit rows in an orthonormal basis of their span, shape (n, rank)."""
    _, size, basis = np.linalg.svd(H, full_matrices=False)
    inside = H @ basis[size > RANK * size[0]].T
    coordinates: Array = inside / np.linalg.norm(inside, axis=1, keepdims=True)
    return coordinates


def _representatives(H: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """One row of each bundle of parallel unit rows, the bundle of every row, and its direction in it (-1 or +1)."""
    cosine = H @ H.T
    gap = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * np.abs(cosine)))  # chord between the lines; refined below
    near = gap < 1e-6
    near[near] = [_chord(H[i], H[j]) <= ZERO for i, j in np.argwhere(near)]
    bundle = near.argmax(axis=1)
    chosen, index = np.unique(bundle, return_inverse=True)
    return chosen, index.ravel(), np.sign(cosine[np.arange(len(H)), bundle])


def _chord(a: Array, b: Array) -> float:
    return float(min(np.linalg.norm(a - b), np.linalg.norm(a + b)))


def _number_of_planes(H: Array) -> int:
    return len(_representatives(H)[0])


def _cells(H: Array) -> Bool:
    """Signs (n, number of cells) of the open cells of the central arrangement of unit rows H, of full column rank."""
    chosen, bundle, direction = _representatives(H)
    cells = _simple_cells(H[chosen])
    return cells[bundle] == (direction > 0)[:, None]


def _simple_cells(H: Array) -> Bool:
    n, rank = H.shape
    if n == rank:
        return _every_sign(n)
    if rank == 2:
        rays = np.column_stack([-H[:, 1], H[:, 0]])
    else:
        rays = np.vstack([_rays(H, np.array(part)) for part in _batches(n, rank - 1)])
    value = rays @ H.T
    sides = np.where(np.abs(value) <= ZERO, 0, np.sign(value)).astype(np.int8)
    sides = np.unique(np.vstack([sides, -sides]), axis=0)
    found: set[bytes] = set()
    for side in sides:
        found.update(column.tobytes() for column in _around(H, side))
    return np.array([np.frombuffer(key, dtype=bool) for key in found]).T


def _every_sign(n: int) -> Bool:
    """All sign combinations, the cells of n independent rows, shape (n, 2^n)."""
    signs: Bool = (np.arange(2**n)[None] >> np.arange(n)[:, None]) & 1 == 1
    return signs


def _batches(n: int, size: int) -> Iterator[list[tuple[int, ...]]]:
    subsets = combinations(range(n), size)
    return iter(lambda: list(islice(subsets, CHUNK)), [])


def _rays(H: Array, subsets: NDArray[np.intp]) -> Array:
    """Unit vectors on which the rows of a subset vanish, for every subset of rank r - 1."""
    _, size, basis = np.linalg.svd(H[subsets], full_matrices=True)
    rays: Array = basis[size[:, -1] > RANK, -1]
    return rays


def _around(H: Array, side: NDArray[np.int8]) -> Bool:
    """Cells (number, n) that touch the ray with the given signs."""
    free = np.flatnonzero(side == 0)
    independent = len(free) == H.shape[1] - 1
    local = _every_sign(len(free)) if independent else _cells(_row_space(H[free]))
    cells = np.tile(side > 0, (local.shape[1], 1))
    cells[:, free] = local.T
    return cells
