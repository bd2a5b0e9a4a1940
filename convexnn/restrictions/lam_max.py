"""Where a path of regularization weights starts: the ``lam`` from which on training has (almost) nothing to gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number
from convexnn.losses import Loss
from convexnn.patterns import ActivationPatterns
from convexnn.restrictions.cones import project
from convexnn.restrictions.gated import GatedGroupLasso
from convexnn.restrictions.group_lasso import ReluGroupLasso
from convexnn.restrictions.loss_bounds import check_loss_targets, scalar_loss
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.structure import balanced_slopes

GROUP_PROGRAMS = {"l2": ReluGroupLasso, "gated": GatedGroupLasso}


def lam_max(
    X: ArrayLike,
    y: ArrayLike,
    patterns: ActivationPatterns | None = None,
    *,
    regularizer: str = "lipschitz",
    sample_weight: ArrayLike | None = None,
    fraction: float = 0.01,
    loss: str | Loss = "squared",
) -> float:
    r"""Largest ``lam`` worth trying: from it on the best constant is optimal, or as good as optimal.

    A path of weights is ``np.geomspace(1, 1e-4, 20) * lam_max(X, y)``.

    * ``"l2"`` and ``"gated"``: the exact threshold of the program with these patterns. With ``r`` the centred targets,
      ``om`` the weights and ``K_i`` the cone of pattern i (the whole space when gated)::

          lam_max = max_i || proj_{K_i}( sum_k om_k r_k D_ki (x_k, 1) ) ||

      From there on the best constant is optimal, below it it is not. The projection is computed by its dual, so the
      value is never below the threshold.
    * ``"lipschitz"``: ``L^2`` has no slope at zero, so no finite ``lam`` gives exactly the constant. For EVERY network,
      whatever its patterns, depth or width, the objective ``MSE + lam L^2`` falls short of that of the best constant
      by at most the share ``fraction`` as soon as::

          lam >= s^2 (1 / (fraction (V + V_0)) - 1 / V),     s = sum_k om_k |r_k| |x_k - mean|_2

      ``V`` is the variance of the targets between distinct rows and ``V_0`` the one within them, which no network can
      remove. This is sufficient, not necessary: the share gained there is usually ten times smaller.

    For another ``loss`` the slopes ``p_k = om_k l'(c; y_k)`` at the best constant c take the place of ``-2 om_k r_k``:
    the threshold of ``"l2"`` and ``"gated"`` is ``max_i ||proj_{K_i}(-sum_k p_k D_ki (x_k, 1))|| / 2`` (for the hinge,
    whose slopes at the best constant are not unique, an upper bound of it), and for ``"lipschitz"`` with the loss
    ``F_0`` of the best constant ``lam >= (sum_k |p_k| |x_k - mean|_2)^2 / (4 fraction F_0)``.

    Implements: docs/theory/choosing_lam.md, Propositions 1 and 2; docs/theory/losses.md, Propositions 4 and 5.

    Parameters
    ----------
    X : array-like, shape (n, d)
        In the input units in which the Lipschitz constant is measured.
    y : array-like, shape (n,)
    patterns : ActivationPatterns, optional
        On the rows of ``X``; needed for ``"l2"`` and ``"gated"``, of no influence for ``"lipschitz"``.
    regularizer : {"lipschitz", "l2", "gated"}
        As in :class:`~convexnn.SafeSNNRegressor`.
    sample_weight : array-like, shape (n,), optional
        Nonnegative; an integer weight equals repeating the row.
    fraction : float
        For ``"lipschitz"``: largest relative reduction of the objective of the best constant, in (0, 1).
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic"; targets -1 / +1 for the last three.

    Returns
    -------
    float
        Zero when targets that no input explains leave nothing to gain at any ``lam > 0``, as for constant ``y``.

    Raises
    ------
    InvalidInputError
        For unusable data, patterns, ``regularizer`` or ``fraction``.

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn import lam_max
    >>> lam_max([[-1.0], [1.0]], [-1.0, 1.0], fraction=0.5)  # V = s = 1; MSE + lam L^2 is least at lam / (1 + lam)
    1.0
    """
    if regularizer == "lipschitz":
        return _lipschitz(X, y, sample_weight, fraction, scalar_loss(loss))
    if regularizer not in GROUP_PROGRAMS:
        raise InvalidInputError(f"regularizer must be 'lipschitz', 'l2' or 'gated', got {regularizer!r}.")
    if patterns is None:
        raise InvalidInputError(
            f"lam_max of regularizer={regularizer!r} depends on the patterns; give those of extract or sample."
        )
    s = GROUP_PROGRAMS[regularizer](X, y, patterns, 1.0, sample_weight=sample_weight, loss=loss).structure()
    descent = -s.gradient(np.zeros((s.D.shape[1], s.X.shape[1])))
    if s.has_cones:
        descent = np.array([project(s.S[:, i, None] * s.X, g) for i, g in enumerate(descent)])
    return 0.5 * float(np.linalg.norm(descent, axis=1).max())


def _lipschitz(X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, fraction: float, loss: Loss) -> float:
    if not 0 < as_number(fraction, "fraction") < 1:
        raise InvalidInputError(f"fraction must lie strictly between 0 and 1, got {fraction!r}.")
    if loss.name != "squared":
        return _lipschitz_other(distinct_rows(X, y, sample_weight, with_targets=True), fraction, loss)
    rows = distinct_rows(X, y, sample_weight)
    shifted = rows.y - rows.y[0]  # constant targets become exactly zero
    r = shifted - rows.weight @ shifted
    between = float(rows.weight @ r**2)
    if between == 0:
        return 0.0
    distance = np.linalg.norm(rows.X - rows.weight @ rows.X, axis=1)
    reach = float((rows.weight * np.abs(r)) @ distance)
    total = between + rows.constant
    return max(0.0, (reach**2 / between) * (between / (fraction * total) - 1))


def _lipschitz_other(rows: DistinctRows, fraction: float, loss: Loss) -> float:
    check_loss_targets(loss, rows.y)
    shift = 0.0 if loss.binary else float(rows.y[0])
    y = rows.y - shift
    constant = np.full(len(y), loss.best_constant(np.zeros(len(y)), y, rows.weight))
    total = float(rows.weight @ loss.value(constant, y))
    if total <= 1e-30 * float(rows.weight @ rows.y**2):  # nothing to gain but roundoff
        return 0.0
    distance = np.linalg.norm(rows.X - rows.weight @ rows.X, axis=1)
    reach = float((rows.weight * np.abs(balanced_slopes(loss, constant, y, rows.weight))) @ distance)
    return reach**2 / (4 * fraction * total)
