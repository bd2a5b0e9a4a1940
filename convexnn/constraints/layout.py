"""Data, cells and symmetry of a constrained program: what stays the same whatever is demanded of slopes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.constraints.cones import power_of_two
from convexnn.constraints.lipschitz import network_penalty, penalty
from convexnn.constraints.shape import Shape
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.restrictions.group_lasso import ReluGroupLasso
from convexnn.restrictions.units import balanced, checked_network
from convexnn.structure import ConeStructure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Units ``u_i = v_i (w_i, b_i)`` (p, d + 1) of one representative an orbit, a linear term (d,), a constant."""

    U: Array
    linear: Array
    constant: float


@dataclass(frozen=True)
class Layout:
    """Cells of units on data and anchors, tied along the orbits of a group.

    Attributes
    ----------
    shape : Shape
    base : ReluGroupLasso
        The unconstrained program on all ``g p`` units; its structure holds data and cones.
    units : int
        Representatives p; unit ``(g, i)`` of all units is number ``g p + i``.
    signs : array, shape (p,)
        Of the outer weights of the representatives.
    X0 : array, shape (r, d + 1)
        Anchors with a one appended.
    D0 : array, shape (r, g p)
        Cells of all units at the anchors.
    skip : bool
        Whether there is a linear term.
    lipschitz : bool
        Whether the regularizer is ``lam LipSDP^2`` in place of the lengths of the units.
    """

    shape: Shape
    base: ReluGroupLasso
    units: int
    signs: Array
    X0: Array
    D0: Array
    skip: bool
    lipschitz: bool = False

    @property
    def structure(self) -> ConeStructure:
        """Data and cones of all units."""
        return self.base.structure()

    @property
    def size(self) -> float:
        """Typical size of the targets around their mean; one where they are constant."""
        return float(np.sqrt(self.base.scale)) or 1.0

    @property
    def scales(self) -> Array:
        """Powers of two near the root mean squares of the features, shape (d,).

        A feature so small that the regularizer alone decides about its weights gets the size at which it would not.
        """
        s = self.structure
        largest = np.abs(s.X[:, :-1]).max(axis=0)
        largest = np.where(largest > 0, largest, 1.0)
        sizes = largest * np.sqrt(s.weight @ (s.X[:, :-1] / largest) ** 2)
        widest = float(sizes.max())
        return power_of_two(np.maximum(sizes, min(math.sqrt(2 * self.base.lam * widest / self.size), widest)))

    @property
    def mean(self) -> Array:
        """Weighted mean of the inputs, shape (d,)."""
        return np.asarray(self.structure.weight @ self.structure.X[:, :-1])

    @property
    def all_signs(self) -> Array:
        """Signs of the outer weights of all units, shape (g p,)."""
        return np.concatenate([chi * self.signs for chi in self.shape.characters])

    @property
    def moves(self) -> list[Array]:
        """Matrices M with ``u (g, i) = u_i M``, one for every member of the group, (d + 1, d + 1)."""
        d, found = self.shape.n_inputs, []
        for G, chi in zip(self.shape.matrices, self.shape.characters, strict=True):
            M = np.eye(d + 1) * chi
            M[:d, :d] = chi * G
            found.append(M)
        return found

    def spread(self, U: Array) -> Array:
        """All units (g p, d + 1) of representatives (p, d + 1)."""
        return np.vstack([U @ M for M in self.moves])

    def gathered(self, Z: Array) -> Array:
        """Adjoint of :meth:`spread`."""
        blocks = Z.reshape(len(self.moves), self.units, -1)
        return np.asarray(sum(block @ M.T for block, M in zip(blocks, self.moves, strict=True)))

    def spread_size(self, sizes: Array) -> Array:
        """Bounds (g p, d + 1) on the entries of all units from bounds (p, d + 1) on those of representatives."""
        return np.vstack([sizes @ np.abs(M) for M in self.moves])

    @property
    def sides(self) -> Array:
        """``sign (2 D - 1)`` at the anchors, shape (r, g p)."""
        return np.asarray(self.all_signs * (2 * self.D0 - 1))

    def predictions(self, z: Point) -> Array:
        """Values on the distinct rows, shape (n,)."""
        s = self.structure
        return np.asarray(s.raw_predict(self.spread(z.U)) + s.X[:, :-1] @ z.linear + z.constant)

    def objective(self, z: Point) -> float:
        """Loss plus regularizer; a linear term counts as the pair of units that represents it."""
        s, group, lam = self.structure, len(self.moves), self.base.lam
        loss = float(s.weight @ s.sample_loss.value(self.predictions(z), s.y)) + s.constant
        if self.lipschitz:
            units = self.spread(z.U)
            return loss + penalty(units[:, :-1], z.linear, units @ np.append(self.mean, 1.0), lam)
        norms = group * float(np.linalg.norm(z.U, axis=1).sum()) + 2 * float(np.linalg.norm(z.linear))
        return loss + 2 * lam * norms

    def network_objective(self, network: Network) -> float:
        """Training objective of a network, for the regularizer of this layout."""
        if not self.lipschitz:
            return self.base.network_objective(network)
        losses = self.base.loss.value(network(self.base.rows.X), self.base.rows.y)
        loss = float(self.base.rows.weight @ losses) + self.base.rows.constant
        return loss + network_penalty(network, self.base.lam, self.mean, self.structure.X[:, :-1])

    def decode(self, z: Point) -> Network:
        """Network of a point; the linear term is the pair ``relu(a'x) - relu(-a'x)``.

        Implements: docs/theory/shape_constraints.md, Lemma 2.
        """
        keep = np.linalg.norm(z.U, axis=1) > 0
        units, v = balanced(z.U[keep], self.signs[keep])
        rows = [units @ (chi * M) for chi, M in zip(self.shape.characters, self.moves, strict=True)]
        outer = [chi * v for chi in self.shape.characters]
        size = float(np.linalg.norm(z.linear))
        if size > 0:
            root = np.sqrt(size)
            line = np.append(z.linear / root, 0.0)
            rows, outer = [*rows, np.stack([line, -line])], [*outer, np.array([root, -root])]
        stacked, weights = np.vstack(rows), np.concatenate(outer)
        if not len(stacked):
            stacked, weights = np.zeros((1, self.shape.n_inputs + 1)), np.zeros(1)
        return Network.shallow(stacked[:, :-1], stacked[:, -1], weights, z.constant)


def layout_of(
    X: ArrayLike,
    y: ArrayLike,
    gates: Network,
    shape: Shape,
    *,
    lam: float,
    sample_weight: ArrayLike | None = None,
    loss: str | Loss = "squared",
    lipschitz: bool = False,
) -> Layout:
    """Cells of the gates of a network, with both signs (one for convex and concave functions).

    Parameters
    ----------
    X, y, sample_weight
        Data.
    gates : Network
        One hidden ReLU layer; only the patterns of its units on the data, the images of the data under the group,
        and the anchors matter.
    shape : Shape
    lam : float
        Positive.
    loss : str or Loss
    lipschitz : bool
        Whether the regularizer is ``lam LipSDP^2``.
    """
    net = checked_network(gates, shape.n_inputs)
    inputs = np.asarray(X, dtype=np.float64)
    anchors = shape.anchors
    images = np.vstack([np.vstack([inputs @ G.T, anchors @ G.T]) for G in shape.matrices])
    active = net.pre_activations(images)[0] >= 0  # (g (n + r), m)
    columns, signs = _columns(active, shape.curvature)
    per = active.reshape(len(shape.matrices), len(inputs) + len(anchors), -1)[:, :, columns]
    D = np.hstack(list(per[:, : len(inputs)]))
    D0 = np.hstack(list(per[:, len(inputs) :]))
    all_signs = np.concatenate([chi * signs for chi in shape.characters])
    base = ReluGroupLasso(X, y, ActivationPatterns(D, all_signs), lam, sample_weight=sample_weight, loss=loss)
    X0 = np.hstack([anchors, np.ones((len(anchors), 1))])
    linear = bool(shape.projector.any())  # a symmetry may forbid a linear term
    return Layout(shape, base, len(columns), signs, X0, D0.astype(np.float64), linear, lipschitz)


def _columns(active: NDArray[np.bool_], curvature: int) -> tuple[NDArray[np.intp], Array]:
    """Units with distinct patterns, and signs; units that are active nowhere are left out as long as others are."""
    _, first = np.unique(active, axis=1, return_index=True)
    first = np.sort(first)
    alive = first[active[:, first].any(axis=0)]
    chosen: Any = alive if len(alive) else first
    if curvature:
        return chosen, np.full(len(chosen), float(curvature))
    return np.concatenate([chosen, chosen]), np.repeat([1.0, -1.0], len(chosen))
