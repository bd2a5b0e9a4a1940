"""Networks as points of the program: ``Z_c = sum_j [p_j; |p_j|][p_j; |p_j|]'`` over neurons with fixed signs.

The matrices are positive semidefinite and satisfy the trace condition by construction, so all neurons are feasible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import Indices

Array = NDArray[np.float64]

TINY = 1e-150


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons of all scores.

    Parameters
    ----------
    P : array, shape (m, d)
        Unit neuron ``p / |p|`` with outer weight ``sign |p|^2``.
    classes : array of int, shape (m,)
    signs : array, shape (m,)
        +1 for Z, -1 for Z'.
    n_classes : int
    """

    P: Array
    classes: Indices
    signs: Array
    n_classes: int

    def at(self, P: Array) -> Neurons:
        """The same signs and classes elsewhere."""
        return Neurons(P.reshape(self.P.shape), self.classes, self.signs, self.n_classes)

    def kept(self, mask: NDArray[np.bool_]) -> Neurons:
        """Some of the neurons."""
        return Neurons(self.P[mask], self.classes[mask], self.signs[mask], self.n_classes)

    def joined(self, P: Array, classes: Indices, signs: Array) -> Neurons:
        """These neurons and others."""
        return Neurons(
            np.concatenate([self.P, P]),
            np.concatenate([self.classes, classes]),
            np.concatenate([self.signs, signs]),
            self.n_classes,
        )

    @property
    def norms(self) -> Array:
        """``|p_j|``, shape (m,)."""
        lengths: Array = np.sqrt(np.einsum("ij,ij->i", self.P, self.P))
        return lengths

    @property
    def lifted(self) -> Array:
        """``[p_j; |p_j|]``, shape (m, d + 1)."""
        return np.hstack([self.P, self.norms[:, None]])

    def group(self, c: int, sign: float) -> NDArray[np.bool_]:
        """Neurons of one matrix."""
        return np.asarray((self.classes == c) & (self.signs == sign))

    def matrices(self) -> Array:
        """``M = Z - Z'`` of all scores, shape (C, d + 1, d + 1)."""
        lifted = self.lifted
        M = np.zeros((self.n_classes, lifted.shape[1], lifted.shape[1]))
        for c in range(self.n_classes):
            own = lifted if self.n_classes == 1 else lifted[self.classes == c]
            signs = self.signs if self.n_classes == 1 else self.signs[self.classes == c]
            M[c] = (own.T * signs) @ own
        return M

    def point(self) -> Array:
        """``(Z, Z')``, shape (2, C, d + 1, d + 1)."""
        lifted = self.lifted
        z = np.zeros((2, self.n_classes, lifted.shape[1], lifted.shape[1]))
        for half, sign in enumerate((1.0, -1.0)):
            for c in range(self.n_classes):
                own = lifted[self.group(c, sign)]
                z[half, c] = own.T @ own
        return z

    def _rows(self, G: Array) -> list[tuple[NDArray[np.bool_] | slice, Array]]:
        if self.n_classes == 1:
            return [(slice(None), G[0])]
        return [(self.classes == c, G[c]) for c in range(self.n_classes)]

    def pulled(self, G: Array) -> Array:
        """Half of the gradient of ``sum_j sign_j [p_j; |p_j|]'G_c[p_j; |p_j|]``, shape (m, d)."""
        H, norms = np.empty_like(self.P), np.maximum(self.norms, TINY)
        for rows, g in self._rows(G):
            P, n = self.P[rows], norms[rows]
            h = P @ g[:-1, :-1]
            h += n[:, None] * g[:-1, -1]
            h += (P @ g[:-1, -1] / n + g[-1, -1])[:, None] * P
            H[rows] = h
        return self.signs[:, None] * H

    def moved(self, dP: Array) -> Array:
        """Derivative of :meth:`matrices` along ``dP`` (m, d)."""
        norms = np.maximum(self.norms, TINY)
        along = np.einsum("ij,ij->i", self.P, dP) / norms
        lifted, moved = self.lifted, np.hstack([dP, along[:, None]])
        dM = np.zeros((self.n_classes, lifted.shape[1], lifted.shape[1]))
        for c in range(self.n_classes):
            rows = slice(None) if self.n_classes == 1 else self.classes == c
            half = (lifted[rows].T * self.signs[rows]) @ moved[rows]
            dM[c] = half + half.T
        return dM

    def pulled_change(self, G: Array, dG: Array, dP: Array) -> Array:
        """Derivative of :meth:`pulled` along ``dP`` and a change ``dG`` of the matrices, shape (m, d)."""
        H, norms = np.empty_like(self.P), np.maximum(self.norms, TINY)
        along = np.einsum("ij,ij->i", self.P, dP) / norms
        for (rows, g), (_, dg) in zip(self._rows(G), self._rows(dG), strict=True):
            P, n, D, dn = self.P[rows], norms[rows], dP[rows], along[rows]
            ratio = P @ g[:-1, -1] / n
            h = D @ g[:-1, :-1] + P @ dg[:-1, :-1]
            h += dn[:, None] * g[:-1, -1] + n[:, None] * dg[:-1, -1]
            h += (ratio + g[-1, -1])[:, None] * D
            h += ((D @ g[:-1, -1] + P @ dg[:-1, -1] - ratio * dn) / n + dg[-1, -1])[:, None] * P
            H[rows] = h
        return self.signs[:, None] * H


def compressed(neurons: Neurons, tolerance: float) -> Neurons:
    """As many neurons as the numerical ranks of the matrices, with nearly the same matrices.

    More neurons than the rank make the minimum degenerate, and every method slow: their weights fade like one over the
    number of steps. Eigenvectors above ``tolerance`` times the sum of all traces are rotated pairwise until each has
    ``|c| = |e|``.

    Implements: Bartan and Pilanci (2021), neural decomposition.
    """
    P, classes, signs = [], [], []
    least = 2.0 * tolerance * float(np.einsum("ij,ij->", neurons.P, neurons.P))
    for c in range(neurons.n_classes):
        for sign in (1.0, -1.0):
            own = neurons.kept(neurons.group(c, sign))
            if len(own.P) == 0:
                continue
            kept = rotated(own.lifted, least)
            P.append(kept)
            classes.append(np.full(len(kept), c, dtype=np.intp))
            signs.append(np.full(len(kept), sign))
    if not P:
        return neurons
    return Neurons(np.concatenate(P), np.concatenate(classes), np.concatenate(signs), neurons.n_classes)


def rotated(lifted: Array, least: float) -> Array:
    """Neurons (k, d) with ``lifted' lifted`` as their matrix, but for eigenvalues up to ``least``."""
    values, vectors = np.linalg.eigh(lifted.T @ lifted)
    kept = values > max(least, TINY)
    rows = list((vectors[:, kept] * np.sqrt(values[kept])).T)
    form = [float(v[:-1] @ v[:-1] - v[-1] ** 2) for v in rows]
    done = []
    while len(rows) > 1:
        i, j = int(np.argmax(form)), int(np.argmin(form))
        if not form[i] > 0 > form[j]:  # also where numbers overflowed
            break
        p, q = rows[i], rows[j]
        middle = float(p[:-1] @ q[:-1] - p[-1] * q[-1])
        t = (-middle - np.sqrt(middle**2 - form[i] * form[j])) / form[j]
        done.append((p + t * q) / np.hypot(1.0, t))
        left = (q - t * p) / np.hypot(1.0, t)
        rows = [row for index, row in enumerate(rows) if index not in (i, j)] + [left]
        form = [value for index, value in enumerate(form) if index not in (i, j)]
        form.append(float(left[:-1] @ left[:-1] - left[-1] ** 2))
    return np.array([_neuron(v) for v in done + rows]).reshape(-1, lifted.shape[1] - 1)


def _neuron(v: Array) -> Array:
    """The neuron nearest to ``v v'``: its direction, and the geometric mean of the two lengths."""
    length = max(float(np.linalg.norm(v[:-1])), TINY)
    neuron: Array = np.copysign(1.0, v[-1]) * v[:-1] * np.sqrt(max(abs(float(v[-1])), 0.0) / length)
    return neuron
