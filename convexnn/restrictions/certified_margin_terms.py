"""The certified-margin objective of a classifier: data, pairs of classes, and the value with certified bounds.

For a shallow ReLU network with outputs f_0, ..., f_{k-1}::

    J(f) = 1/(k-1) sum_j om_j sum_{b != y_j} l( (f_{y_j} - f_b)(x_j) - radius L_{y_j b} ) + lam R(f)

with a decreasing margin loss l, L_ab a certified Lipschitz bound of ``f_a - f_b`` (LipSDP for l2, max-gradient for
linf) and ``R = 2 sum_i |v_i| |(w_i, b_i)|``, the least weight decay of the network's units. One output f is the margin
of class 1 over class 0, as if there were two. Since ``f_a - f_b`` moves by at most ``radius L_ab`` within the ball, J
is at least the robust loss ``1/(k-1) sum om sum_b l(min over the ball of f_y - f_b) + lam R`` of the same network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.lipsdp.pairs import PairBounds, certified_pairs
from convexnn.losses import MarginLoss
from convexnn.network import Network
from convexnn.restrictions.base import positive
from convexnn.restrictions.robust_relu_terms import checked_norm, checked_radius, margin_loss
from convexnn.restrictions.rows import DistinctRows, check_inputs, distinct_rows
from convexnn.restrictions.units import hidden
from convexnn.restrictions.vector_units import checked_vector_network, outer_weights
from convexnn.rigorous import UNIT, product_up, row_norms_up, sum_up

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Relative gap of the certified bounds inside an objective, and the smallest one asked for in linf.
BOUND_TOL, LINF_GAP = 1e-6, 1e-3


@dataclass(frozen=True, eq=False)
class MarginTerms:
    """Data of program M and its objective at a network.

    Parameters
    ----------
    rows : DistinctRows
        Distinct pairs of input and class, with weights that sum to one.
    n_outputs : int
        k >= 1.
    radius : float
        Of the ball around every sample, raw input units; at least zero.
    norm : {2, inf}
        Of the ball.
    lam : float
        Weight of R, at least zero.
    loss : MarginLoss
        Hinge, squared hinge or logistic.
    """

    rows: DistinctRows
    n_outputs: int
    radius: float
    norm: float
    lam: float
    loss: MarginLoss
    labels: Indices = field(init=False)

    def __post_init__(self) -> None:
        """Read the labels as indices."""
        object.__setattr__(self, "labels", self.rows.y.astype(np.intp))

    @classmethod
    def of(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        n_outputs: int,
        *,
        radius: float,
        norm: Any = 2,
        lam: float = 0.0,
        loss: str | MarginLoss = "hinge",
        sample_weight: ArrayLike | None = None,
    ) -> MarginTerms:
        """Terms of a data set, checked.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like of int, shape (n,)
            Class indices 0 to k - 1; 0 or 1 with one output, which is positive for class 1.
        n_outputs : int
        radius, norm, lam, loss
            As the attributes.
        sample_weight : array-like, shape (n,), optional

        Raises
        ------
        InvalidInputError
            For data, labels or settings that cannot be used.
        """
        kind, ball = margin_loss(loss), checked_norm(norm)
        inputs = check_inputs(X)
        labels = checked_labels(y, len(inputs), n_outputs)
        rows = distinct_rows(inputs, labels.astype(float), sample_weight, with_targets=True)
        return cls(rows, n_outputs, checked_radius(radius), ball, positive(lam, "lam", zero=True), kind)

    # -- pairs --------------------------------------------------------------------------------------
    @property
    def n_classes(self) -> int:
        """Two with one output."""
        return max(self.n_outputs, 2)

    @property
    def share(self) -> float:
        """``1 / (classes - 1)``: the loss is the mean over the rivals of a sample."""
        return 1.0 / (self.n_classes - 1)

    @cached_property
    def classes(self) -> Array:
        """Scores of the classes from the outputs, shape (classes, k): one output f is the scores ``(-f/2, f/2)``."""
        return np.array([[-0.5], [0.5]]) if self.n_outputs == 1 else np.eye(self.n_outputs)

    @cached_property
    def members(self) -> Indices:
        """Classes ``a < b`` of every pair that has a sample in one of them, shape (P, 2)."""
        seen = np.isin(np.arange(self.n_classes), self.labels)
        a, b = np.triu_indices(self.n_classes, 1)
        used = seen[a] | seen[b]
        return np.stack([b[used], a[used]], axis=1)

    @cached_property
    def differences(self) -> Array:
        """Coefficients of the outputs in the margin of every pair, shape (P, k)."""
        return self.classes[self.members[:, 0]] - self.classes[self.members[:, 1]]

    @cached_property
    def rivals(self) -> Indices:
        """Rival classes of every sample, shape (n, classes - 1)."""
        others = np.arange(self.n_classes) != self.labels[:, None]
        return np.nonzero(others)[1].reshape(len(self.labels), -1)

    @cached_property
    def pair_of(self) -> Indices:
        """Number of the pair of every sample and rival, shape (n, classes - 1)."""
        table = np.full((self.n_classes, self.n_classes), -1)
        for p, (a, b) in enumerate(self.members):
            table[a, b] = table[b, a] = p
        return table[self.labels[:, None], self.rivals]

    @cached_property
    def contrasts(self) -> Array:
        """Coefficients of the outputs in the margin of every sample over every rival, shape (n, classes - 1, k)."""
        return self.classes[self.labels][:, None, :] - self.classes[self.rivals]

    # -- values -------------------------------------------------------------------------------------
    def gaps(self, outputs: Array) -> Array:
        """Margins ``f_y - f_b`` to every rival, unperturbed, shape (n, classes - 1), from outputs (n, k)."""
        scores = outputs.reshape(len(self.labels), -1) @ self.classes.T
        own = np.take_along_axis(scores, self.labels[:, None], axis=1)
        return own - np.take_along_axis(scores, self.rivals, axis=1)

    def data_value(self, outputs: Array, bounds: Array) -> float:
        """The loss term of J, for outputs (n, k) and bounds of the pairs (P,)."""
        margins = self.gaps(outputs) - self.radius * bounds[self.pair_of]
        losses = self.loss.value(margins, np.ones_like(margins))
        return self.share * float(self.rows.weight @ losses.sum(axis=1))

    def bounds(self, W: Array, V: Array, factors: Array | None = None, tol: float = BOUND_TOL) -> PairBounds:
        """Certified bounds of all pairs of the network ``V relu(W x + b)``; the rounding of ``v_a - v_b`` is covered.

        Implements: convexnn, Corollary 6 of docs/theory/lipsdp.md.

        Parameters
        ----------
        W : array, shape (m, d)
        V : array, shape (k, m)
        factors : array, shape (P, d, r), optional
            Where to start.
        tol : float
            Relative gap; at least 1e-3 for linf.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            A = self.differences @ V
            found = certified_pairs(W, A, self.norm, factors, tol if self.norm == 2 else max(tol, LINF_GAP))
            sizes = row_norms_up(W) if self.norm == 2 else np.array([sum_up(np.abs(row)) for row in W])
            largest = np.abs(self.differences) @ np.abs(V)  # of the terms of each difference
            extra = [product_up(2.0 * UNIT, sum_up(row * sizes), 1.0 + 8.0 * UNIT) for row in largest]
            upper = np.nextafter(found.upper + np.array(extra), np.inf)
        upper = np.where(A.any(axis=1), np.where(np.isnan(upper), np.inf, upper), 0.0)  # equal outputs are equal
        return PairBounds(upper, found.lower, found.factors)

    def weight_decay(self, network: Network) -> float:
        """``2 sum_i |v_i| |(w_i, b_i)|``."""
        sizes = np.linalg.norm(outer_weights(network), axis=1) * np.linalg.norm(hidden(network), axis=1)
        return 2.0 * float(sizes.sum())

    def checked(self, network: Any) -> Network:
        """The network, if it is a shallow ReLU network with these inputs and outputs."""
        return checked_vector_network(network, self.rows.X.shape[1], self.n_outputs)

    def objective(self, network: Any, factors: Array | None = None, tol: float = BOUND_TOL) -> float:
        """J at a network, an upper bound on its robust loss.

        Implements: convexnn, Proposition 1 of docs/theory/certified_margin.md.

        Parameters
        ----------
        network : Network or any model that ``as_network`` takes
            One hidden ReLU layer.
        factors : array, shape (P, d, r), optional
            Where the bounds are started; the value is valid for any.
        tol : float
            Relative gap of the bounds.

        Returns
        -------
        float
        """
        net = self.checked(network)
        bounds = self.bounds(net.W, net.layers[-1][0], factors, tol).upper
        with np.errstate(over="ignore", invalid="ignore"):
            value = self.data_value(net(self.rows.X), bounds) + self.lam * self.weight_decay(net)
        return value if np.isfinite(value) else np.inf


def checked_labels(y: ArrayLike, n: int, n_outputs: int) -> Indices:
    """Labels as class indices, or a sentence about what is wrong with them."""
    labels, k = np.asarray(y), max(n_outputs, 2)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.intp)
    whole = labels.dtype.kind in "iu" or (labels.dtype.kind == "f" and bool(np.all(labels == np.floor(labels))))
    if labels.shape != (n,) or not whole or (n and not 0 <= labels.min() <= labels.max() < k):
        raise InvalidInputError(
            f"y must hold one class index 0 to {k - 1} for each of the {n} rows of X; got {labels!r}"
        )
    return labels.astype(np.intp)
