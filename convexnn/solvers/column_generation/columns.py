"""The norm whose bound certifies a network, and the neurons that lower the objective most.

    kappa(G) = max_{|u| = 1} |[u; 1]'G [u; 1]|

by two trust regions on the sphere, exactly. A network is optimal when ``kappa(G_c) <= lam`` for the moments of every
class; where a neuron exceeds lam, adding it lowers the objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import Indices
from convexnn.quadratic.trust_region import minimize_over_ball

Array = NDArray[np.float64]

#: Directions whose last entry is smaller enter with both orientations.
LEVEL = 0.3


@dataclass(frozen=True, eq=False)
class Columns:
    """Unit neurons that are missing, and the norm of the moments.

    Attributes
    ----------
    units : array, shape (k, d)
    classes : array of int, shape (k,)
    signs : array, shape (k,)
    norm : float
        The largest ``kappa(G_c)``.
    """

    units: Array
    classes: Indices
    signs: Array
    norm: float


def best_columns(G: Array, lam: float, most: int) -> Columns:
    """Norm of the moments, and up to ``most`` neurons of each class and sign that exceed ``lam``.

    The first one is the maximizer. The others come from eigenvectors of the slack matrix ``lam e e' - G + mu J``,
    J = diag(I, -1), which is positive semidefinite where nothing exceeds lam: directions in which it is negative lower
    the objective as well.

    Implements: convexnn, Proposition 1 of theory/column_generation.

    Parameters
    ----------
    G : array, shape (C, d + 1, d + 1)
    lam : float
    most : int
    """
    units, classes, signs, norm = [], [], [], 0.0
    for c in range(len(G)):
        for sign in (1.0, -1.0):
            top, found = _of_matrix(sign * G[c], lam, most)
            norm = max(norm, top)
            units += found
            classes += [c] * len(found)
            signs += [sign] * len(found)
    d = G.shape[1] - 1
    return Columns(np.array(units).reshape(-1, d), np.array(classes, dtype=np.intp), np.array(signs), norm)


def _of_matrix(H: Array, lam: float, most: int) -> tuple[float, list[Array]]:
    values, basis = np.linalg.eigh(H[:-1, :-1])
    found = minimize_over_ball(-values[None], -(H[:-1, -1] @ basis)[None], 1.0, sphere=True)
    top = float(H[-1, -1] - found.values[0])
    if top <= lam or most == 0:
        return top, []
    multiplier = float(found.multipliers[0])
    slack = -H
    slack[np.diag_indices(len(basis))] += multiplier
    slack[-1, -1] += lam - multiplier
    lowest, vectors = np.linalg.eigh(slack)
    units = [basis @ found.steps[0]]
    for value, vector in zip(lowest[1:most], vectors.T[1:most], strict=True):
        if value >= 0:
            break
        units += _oriented(vector)
    return top, units


def _oriented(vector: Array) -> list[Array]:
    unit = vector[:-1] / max(float(np.linalg.norm(vector[:-1])), 1e-150)
    if abs(vector[-1]) < LEVEL:
        return [unit, -unit]
    return [unit * np.copysign(1.0, vector[-1])]
