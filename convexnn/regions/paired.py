"""Units with parallel weights: together they are one function of one variable, and one majorant serves them all."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.inputs import positive_number, real_array

Array = NDArray[np.float64]


def parallel_groups(weights: ArrayLike, tol: float = 1e-12) -> NDArray[np.intp]:
    """Numbers of the groups of parallel rows, either direction, any length, in order of first appearance, shape (h,).

    Rows of zeros stand alone. What nearly parallel rows differ by is paid for by the bounds, so any grouping is sound;
    a coarse ``tol`` only makes them looser.

    Parameters
    ----------
    weights : array, shape (h, r)
    tol : float
        Euclidean distance of the directions, relative.
    """
    W, tol = real_array(weights, "weights"), positive_number(tol, "tol", zero=True)
    D = np.ldexp(W, -np.frexp(np.abs(W).max(axis=1, initial=0.0))[1][:, None])
    length = np.linalg.norm(D, axis=1, keepdims=True)
    D = D / np.where(length > 0, length, 1.0)
    first = np.argmax(np.abs(D) > 0.5 / np.sqrt(max(W.shape[1], 1)), axis=1)
    D *= np.where(D[np.arange(len(D)), first] < 0, -1.0, 1.0)[:, None]
    groups = np.full(len(D), -1, dtype=np.intp)
    # directions that are close have close projections on any line: only neighbours on one line are compared
    line = np.cos(np.arange(1, W.shape[1] + 1) * 1.7)
    shade = D @ (line / np.linalg.norm(line))
    order = np.argsort(shade, kind="stable")
    sorted_shade = shade[order]
    number = 0
    for i in range(len(D)):
        if groups[i] >= 0:
            continue
        groups[i] = number
        if length[i] > 0:
            ends = np.searchsorted(sorted_shade, [shade[i] - 2.0 * tol, shade[i] + 2.0 * tol])
            near = order[ends[0] : ends[1]]
            near = near[(groups[near] < 0) & (length[near, 0] > 0)]
            groups[near[np.linalg.norm(D[near] - D[i], axis=1) <= tol]] = number
        number += 1
    return groups
