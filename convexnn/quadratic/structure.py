"""What a solver may read of a training program of polynomial networks, and nothing more.

A network ``f_k(x) = <Phi(x), M_k>``, ``M_k = Z_k - Z'_k`` of size ``d + 1`` for every class k, with

    Phi(x) = [[a x x', b x / 2], [b x' / 2, c]],    Z_k, Z'_k >= 0,    tr Z_k[:d, :d] = Z_k[d, d]  (and so for Z')

is a network of unit neurons with the activation ``a t^2 + b t + c``. Its loss is read off worst cases, the margin
terms::

    w_t = min over { delta : sum_k metric_k delta_k^2 <= radius^2 }  of  (f_plus - f_minus)(x_row + delta)

    min_Z  loss(w) + lam sum_k (Z_k[d, d] + Z'_k[d, d])

A margin loss (binary, one against the rest, all pairs of classes) adds ``share_t l(w_t)`` over the terms. A regression
loss has two terms a sample, the smallest and minus the largest prediction, and takes the larger loss of the two::

    share_i max(l(w_i; y_i), l(-w_{n + i}; y_i)) = share_i phi(min(w_i - y_i, w_{n + i} + y_i)),
    phi(u) = l(min(u, 0); 0)

In both cases a term is a nonincreasing convex loss ``phi`` of ``u_t = w_t - offset_t``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.losses import Loss

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Class index of a score that is absent (identically zero).
ABSENT = -1


@dataclass(frozen=True, eq=False)
class ScorePair:
    """The margin terms that look at one difference of scores, ``f_first - f_second``, or at minus it.

    Parameters
    ----------
    first, second : int
        Class indices; ``second`` is -1 where a single score is looked at.
    terms : array of int, shape (t,)
        Which margin terms these are.
    signs : array, shape (t,)
        +1 where the term is a smallest value of ``f_first - f_second``, -1 where of ``f_second - f_first``.
    """

    first: int
    second: int
    terms: Indices
    signs: Array


@dataclass(frozen=True, eq=False)
class QuadraticStructure:
    """Data, margin terms and loss of a training program of polynomial networks.

    Parameters
    ----------
    X : array, shape (n, d)
        Samples.
    weight : array, shape (n,)
        Nonnegative weights that sum to one.
    y : array, shape (n,)
        Targets (regression) or labels as the program keeps them; the margin terms already know the labels.
    loss : Loss
        A margin loss, read at target +1 as a nonincreasing function of the margin; or a regression loss, an even
        function of the residual that does not fall as the residual grows.
    radius : float
        Nonnegative; l2 in the metric, raw input units.
    metric : array, shape (d,), or None
        Positive; None is the Euclidean ball. With ``metric`` D the box of half-width e lies in the set of radius
        ``e sqrt(sum D)``.
    coefficients : tuple of float
        (a, b, c) of the activation.
    lam : float
        Weight of the regularizer, nonnegative.
    n_classes : int
        Number of scores; one for binary problems and for regression.
    rows, plus, minus : array of int, shape (N,)
        Sample of each margin term and its two classes, -1 where absent.
    share : array, shape (N,)
        Weight of each term; of both terms of a sample in regression.
    """

    X: Array
    weight: Array
    y: Array
    loss: Loss
    radius: float
    metric: Array | None
    coefficients: tuple[float, float, float]
    lam: float
    n_classes: int
    rows: Indices
    plus: Indices
    minus: Indices
    share: Array

    @property
    def n_features(self) -> int:
        """Inputs of the network, d."""
        return int(self.X.shape[1])

    @property
    def n_terms(self) -> int:
        """Margin terms, N."""
        return len(self.rows)

    @property
    def z_shape(self) -> tuple[int, int, int, int]:
        """Shape of a point: ``z[0]`` holds the Z, ``z[1]`` the Z'."""
        return 2, self.n_classes, self.n_features + 1, self.n_features + 1

    @property
    def is_regression(self) -> bool:
        """Whether a sample has two terms, of which the worse counts."""
        return not self.loss.binary

    @cached_property
    def offset(self) -> Array:
        """What the loss subtracts from each worst case, shape (N,): zero, or ``y`` and then ``-y`` in regression."""
        return np.concatenate([self.y, -self.y]) if self.is_regression else np.zeros(self.n_terms)

    @cached_property
    def pairs(self) -> tuple[ScorePair, ...]:
        """Terms by the difference of scores they look at; both orientations share one matrix."""
        first = np.where(self.minus == ABSENT, self.plus, np.where(self.plus == ABSENT, self.minus, 0))
        both = (self.plus != ABSENT) & (self.minus != ABSENT)
        first = np.where(both, np.minimum(self.plus, self.minus), first)
        second = np.where(both, np.maximum(self.plus, self.minus), ABSENT)
        signs = np.where(self.plus == first, 1.0, -1.0)
        keys, where = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
        groups = [np.flatnonzero(where.ravel() == index) for index in range(len(keys))]
        return tuple(
            ScorePair(int(key[0]), int(key[1]), terms, signs[terms]) for key, terms in zip(keys, groups, strict=True)
        )

    def difference(self, M: Array, pair: ScorePair) -> Array:
        """``M_first - M_second`` from the matrices of all scores (C, d + 1, d + 1)."""
        return M[pair.first] if pair.second == ABSENT else M[pair.first] - M[pair.second]

    def term_loss(self, u: Array) -> Array:
        """``phi(u)``: loss of each term at ``u = w - offset``, nonincreasing and convex, same shape."""
        if self.is_regression:
            return self.loss.value(np.minimum(u, 0.0), np.zeros_like(u))
        return self.loss.value(u, np.ones_like(u))

    def term_slope(self, u: Array) -> Array:
        """``-phi'(u)`` >= 0 (of one side at a kink), same shape."""
        if self.is_regression:
            return np.maximum(-self.loss.gradient(np.minimum(u, 0.0), np.zeros_like(u)), 0.0)
        return np.maximum(-self.loss.gradient(u, np.ones_like(u)), 0.0)

    def term_conjugate(self, s: Array) -> Array:
        """``phi*(-s) = sup_u -s u - phi(u)``, ``inf`` outside its domain, same shape."""
        if self.is_regression:
            return np.where(s >= 0, self.loss.conjugate(-s, np.zeros_like(s)), np.inf)
        return self.loss.conjugate(-s, np.ones_like(s))

    def governing(self, w: Array) -> Array:
        """The ``u`` that decide the loss: of all terms, or the smaller of the two of a sample in regression."""
        u = w - self.offset
        return np.minimum(*np.split(u, 2)) if self.is_regression else u

    @cached_property
    def governing_share(self) -> Array:
        """Weights that belong to :meth:`governing`."""
        return self.share[: self.n_terms // 2] if self.is_regression else self.share

    def loss_value(self, w: Array) -> float:
        """Weighted loss at worst cases ``w`` (N,)."""
        return float(self.governing_share @ self.term_loss(self.governing(w)))

    def dual_value(self, s: Array) -> float:
        """``-sum share_t (phi*(-s_t) - s_t offset_t)``: the part of the Lagrangian that does not see the network.

        Parameters
        ----------
        s : array, shape (N,)
            Slopes of the terms, nonnegative; in regression the two of a sample are added inside ``phi*``.

        Returns
        -------
        float
            ``-inf`` when a slope lies outside the domain of the conjugate.
        """
        if not (s >= 0).all():
            return -np.inf
        total = s.reshape(2, -1).sum(axis=0) if self.is_regression else s
        conjugate = self.term_conjugate(total)
        present = self.governing_share > 0
        value = -float(self.governing_share[present] @ conjugate[present]) if present.any() else 0.0
        return value + float((self.share * s) @ self.offset)


@dataclass(frozen=True, eq=False)
class PolynomialTask:
    """What the constructors of structures have in common: samples, threat, activation and regularizer.

    Parameters are those of :class:`QuadraticStructure`.
    """

    X: Array
    weight: Array
    loss: Loss
    radius: float
    metric: Array | None
    coefficients: tuple[float, float, float]
    lam: float

    def binary(self, y: ArrayLike) -> QuadraticStructure:
        """One score and labels -1 / +1, shape (n,)."""
        labels = np.asarray(y, dtype=float)
        n = len(labels)
        plus = np.where(labels > 0, 0, ABSENT)
        return self._build(labels, 1, np.arange(n), plus, np.where(labels > 0, ABSENT, 0), self.weight)

    def regression(self, y: ArrayLike) -> QuadraticStructure:
        """One score and real targets, shape (n,): terms of the smallest predictions, then of minus the largest."""
        targets = np.asarray(y, dtype=float)
        n = len(targets)
        here, absent = np.zeros(n, dtype=np.intp), np.full(n, ABSENT, dtype=np.intp)
        plus, minus = np.concatenate([here, absent]), np.concatenate([absent, here])
        return self._build(targets, 1, np.tile(np.arange(n), 2), plus, minus, np.tile(self.weight, 2))

    def one_vs_rest(self, y: ArrayLike, n_classes: int) -> QuadraticStructure:
        """One score a class, each against zero; class indices ``y`` (n,). The loss is summed over the classes."""
        labels = _indices(y, n_classes)
        rows, classes = np.repeat(np.arange(len(labels)), n_classes), np.tile(np.arange(n_classes), len(labels))
        own = labels[rows] == classes
        plus, minus = np.where(own, classes, ABSENT), np.where(own, ABSENT, classes)
        return self._build(labels.astype(float), n_classes, rows, plus, minus, self.weight[rows])

    def multimargin(self, y: ArrayLike, n_classes: int) -> QuadraticStructure:
        """All margins ``f_y - f_k``, k != y, at weight ``1 / C``; class indices ``y`` (n,)."""
        labels = _indices(y, n_classes)
        rows, rivals = np.repeat(np.arange(len(labels)), n_classes), np.tile(np.arange(n_classes), len(labels))
        kept = labels[rows] != rivals
        rows, rivals = rows[kept], rivals[kept]
        share = self.weight[rows] / n_classes
        return self._build(labels.astype(float), n_classes, rows, labels[rows], rivals, share)

    def _build(
        self, y: Array, n_classes: int, rows: Indices, plus: Indices, minus: Indices, share: Array
    ) -> QuadraticStructure:
        return QuadraticStructure(
            X=self.X,
            weight=self.weight,
            y=y,
            loss=self.loss,
            radius=self.radius,
            metric=self.metric,
            coefficients=self.coefficients,
            lam=self.lam,
            n_classes=n_classes,
            rows=rows.astype(np.intp),
            plus=plus.astype(np.intp),
            minus=minus.astype(np.intp),
            share=share,
        )


def _indices(y: ArrayLike, n_classes: int) -> Indices:
    labels = np.asarray(y)
    whole = labels.astype(np.intp)
    if not ((labels == whole) & (whole >= 0) & (whole < n_classes)).all():
        raise InvalidInputError(f"labels must be class indices 0..{n_classes - 1}; got {np.unique(labels)[:5]}")
    return whole
