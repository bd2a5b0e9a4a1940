"""The gated relaxation of the l2-regularized program: patterns switch, cones are dropped.

Source: Mishkin, Sahiner & Pilanci 2022 (arXiv 2202.01331).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.restrictions.cones import least_distance
from convexnn.restrictions.group_lasso import ReluGroupLasso
from convexnn.restrictions.units import balanced, checked_network, hidden, merge, nonzero_rows, place

Array = NDArray[np.float64]


class GatedGroupLasso(ReluGroupLasso):
    r"""Convex training of a gated ReLU network with weight decay.

    ::

        minimize    sum_k om_k (sum_i D_ki x_k'u_i + c - y_k)^2 + 2 lam sum_i ||u_i||

    It is program (6) without its cone rows: its optimum is a lower bound on that of
    :class:`~convexnn.restrictions.group_lasso.ReluGroupLasso` with the same patterns, whatever their signs.
    :meth:`decode` gives a ReLU network with the same predictions on the rows of X and up to two units a gate; its
    weight decay, and so its :meth:`network_objective`, is usually larger than the objective here.

    Implements: Mishkin et al. (2022), the convex gated ReLU program.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    patterns : ActivationPatterns
        Gates; their signs are not used.
    lam : float
        Positive weight of the regularizer.
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic"; targets -1 / +1 for the last three.
    """

    name = "gated relaxation of (6)"
    has_cones = False

    def _gates(self) -> Array:
        """``2 D - 1``: the cone of gate i is ``{w : (2 D_ki - 1) x_k'w >= 0}``, shape (n, p)."""
        return 2 * self._structure.D - 1

    def lift(self, network: Any) -> Array:
        """Point that predicts what the network predicts, up to the output bias; units of one gate are summed.

        Raises
        ------
        InvalidInputError
            When a unit has a pattern that is not among the gates.
        """
        net = checked_network(network, self.n_inputs)
        merged = merge(net)
        directions = np.where(nonzero_rows(merged)[:, None], hidden(net), 0.0)
        target = place(self._structure.X, self._gates(), directions)
        U = np.zeros((self.patterns.n_patterns, self.n_inputs + 1))
        np.add.at(U, target[target >= 0], merged[target >= 0])
        return U

    def decode(self, z: Array) -> Network:
        """ReLU network with the same predictions on the rows of X, by the cone decomposition u_i = a_i - b_i.

        Both parts lie in the cone of gate i; b_i is the shortest possible. A unit inside its cone (or its
        negative) needs no second part.

        Implements: Mishkin et al. (2022), cone decomposition.

        Raises
        ------
        InvalidInputError
            When a unit cannot be decomposed because the cone of its gate has no interior: no ReLU unit has
            exactly that pattern, drop the gate.
        """
        U = self._point(z)
        parts = [part for i in np.flatnonzero(nonzero_rows(U)) for part in self._decompose(int(i), U[i])]
        if not parts:
            parts = [(np.zeros(self.n_inputs + 1), 1.0)]
        merged = np.array([sign * part for part, sign in parts])
        units, v = balanced(merged, np.array([sign for _, sign in parts]))
        return Network.shallow(units[:, :-1], units[:, -1], v, self._structure.intercept(U))

    def _decompose(self, i: int, u: Array) -> list[tuple[Array, float]]:
        """Parts (a, +1) and (b, -1) in the cone of gate i with ``a - b = u``; one part where that is enough."""
        G = self._gates()[:, i, None] * self._structure.X
        slack = G @ u
        if slack.min() >= 0:
            return [(u, 1.0)]
        if slack.max() <= 0:
            return [(-u, -1.0)]
        b = least_distance(G, np.maximum(-slack, 0.0))
        if b is None:
            raise InvalidInputError(
                f"gate {i} cannot be split into ReLU units: its pattern has no interior, no unit realizes it strictly; "
                "drop that pattern"
            )
        return [(u + b, 1.0), (b, -1.0)]
