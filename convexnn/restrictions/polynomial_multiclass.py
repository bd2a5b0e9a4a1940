"""Adversarial training of a polynomial network with several classes: all pairs of classes in one convex program.

One score ``f_c(x) = <Phi(x), Z_c - Z'_c>`` a class, and for every sample i and rival ``k != y_i`` the worst margin
``w_ik = min over the ball of (f_{y_i} - f_k)(x_i + delta)``::

    minimize  (1/C) sum_i om_i sum_{k != y_i} l(w_ik) + lam sum_c (Z_c + Z'_c)[d, d]
    subject to  Z_c, Z'_c >= 0 with tr Z_c[:d, :d] = Z_c[d, d] (the same for Z'_c)

``w_ik > 0`` for all k is the same as: no perturbation in the ball changes the predicted class. The loss bounds the
multi-margin loss under attack from above, and the optimum is one over networks of any width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.losses import Loss
from convexnn.quadratic.structure import PolynomialTask, QuadraticStructure
from convexnn.restrictions.polynomial import COEFFICIENTS, PolynomialProgram
from convexnn.restrictions.polynomial_worst import worst_cases

Array = NDArray[np.float64]

#: More classes than this are taken for numbers that are no class indices.
MOST_CLASSES = 10_000


class MulticlassPolynomialProgram(PolynomialProgram):
    """Training of a polynomial network with one score a class, robust in every pair of classes.

    Implements: docs/theory/polynomial_multiclass.md, Proposition 1.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Inputs; rows that repeat with the same label are merged into weighted ones.
    y : array-like, shape (n,)
        Class indices 0..C-1.
    lam : float
        Positive weight of ``sum_cj |alpha_cj|``.
    loss : {"hinge", "squared_hinge", "logistic"} or Loss
        A margin loss; summed over the rivals and divided by C.
    radius : float
        Nonnegative; in raw input units, l2 unless ``norm`` or ``metric`` say otherwise.
    n_classes : int, optional
        C; the largest index plus one where it is not given. Classes without samples are rivals of the others.
    coefficients, sample_weight, norm, metric, start
        As in :class:`~convexnn.restrictions.PolynomialProgram`.

    Raises
    ------
    InvalidInputError
        For data or options that cannot be used, fewer than two classes, labels that are no class indices.
    """

    name = "multiclass polynomial program"

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        lam: float,
        loss: str | Loss = "hinge",
        radius: float = 0.0,
        n_classes: int | None = None,
        coefficients: tuple[float, float, float] = COEFFICIENTS,
        sample_weight: ArrayLike | None = None,
        norm: float = 2,
        metric: ArrayLike | None = None,
        start: Any = None,
    ) -> None:
        self.n_classes = _checked_classes(y, n_classes)
        super().__init__(
            X,
            y,
            lam=lam,
            loss=loss,
            radius=radius,
            coefficients=coefficients,
            sample_weight=sample_weight,
            norm=norm,
            metric=metric,
            start=start,
        )

    def _terms(self, task: PolynomialTask, y: Array) -> QuadraticStructure:
        if not self.loss.binary:
            raise InvalidInputError(f"loss={self.loss.name!r} was given; several classes need a margin loss")
        return task.multimargin(y, self.n_classes)

    def margins(self, z: ArrayLike) -> Array:
        """Worst margins ``w_ik`` of the distinct rows at a point, shape (n, C), ``inf`` at the own class.

        Exact up to the rounding of one evaluation: the minimum over the ball of ``f_{y_i} - f_k``.

        Implements: docs/theory/polynomial_multiclass.md, Proposition 2.
        """
        structure = self.structure()
        found = np.full((len(structure.X), self.n_classes), np.inf)
        found[structure.rows, structure.minus] = worst_cases(structure, self._point(z)).values
        return found

    def _trivial(self, z: Array) -> tuple[str, ...]:
        found = super()._trivial(z)
        robust = (self.margins(z) > 0).all(axis=1)
        if found or self.radius == 0 or len(np.unique(self.rows.y[robust])) >= 2:
            return found
        return (
            f"no robust classifier at radius {self.radius:g}: samples that keep their label over their ball are of one "
            "class at most",
        )


def _checked_classes(y: ArrayLike, n_classes: int | None) -> int:
    """Number of classes of labels that are class indices."""
    try:
        labels = np.asarray(y, dtype=float).ravel()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"y cannot be read as class indices 0..C-1: {error}") from error
    whole = np.isfinite(labels).all() and (labels == np.floor(labels)).all() and labels.min(initial=0.0) >= 0
    if not whole or labels.max(initial=0.0) >= MOST_CLASSES:
        raise InvalidInputError("y must hold class indices 0..C-1; encode the labels first")
    found = int(labels.max(initial=0.0)) + 1
    classes = found if n_classes is None else n_classes
    if not isinstance(classes, int | np.integer) or classes < max(found, 2):
        raise InvalidInputError(f"{classes!r} classes were given or found; expected at least {max(found, 2)}")
    return int(classes)
