"""What a loss contributes to a program with several outputs: it is summed over them, each with its own free bias."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.losses import Loss, Squared
from convexnn.network import Network
from convexnn.restrictions.loss_bounds import admissible, sampled_bound
from convexnn.restrictions.multipliers import best_scaling
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.vector_structure import VectorStructure

Array = NDArray[np.float64]


def distinct_vector_rows(
    X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, with_targets: bool = False
) -> DistinctRows:
    """Distinct rows with targets (n, outputs); targets of one output may be a vector.

    Weighted mean targets for the squared loss; with ``with_targets`` rows are merged only when all their targets are
    equal, as other losses need.
    """
    targets = np.asarray(y, dtype=float)
    targets = targets[:, None] if targets.ndim == 1 else targets
    if targets.ndim != 2 or 0 in targets.shape:
        raise InvalidInputError(f"y has shape {targets.shape}; expected (n_samples, n_outputs)")
    if with_targets:
        if not np.isfinite(targets).all():
            raise InvalidInputError("y holds NaN or infinite values; remove or impute them")
        kinds, code = np.unique(targets + 0.0, axis=0, return_inverse=True)
        rows = distinct_rows(X, code.ravel().astype(float), sample_weight, with_targets=True)
        return replace(rows, y=kinds[rows.y.astype(int)])
    columns = [distinct_rows(X, column, sample_weight) for column in targets.T]
    constant = math.fsum(column.constant for column in columns)
    return replace(columns[0], y=np.stack([column.y for column in columns], axis=1), constant=constant)


def rows_for(loss: Loss, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> DistinctRows:
    """Distinct rows as the loss needs them."""
    return distinct_vector_rows(X, y, sample_weight, with_targets=not isinstance(loss, Squared))


def vector_admissible(structure: VectorStructure, residual: Array) -> Array:
    """Residual multipliers (n, outputs) whose columns can prove something; see ``loss_bounds.admissible``.

    Implements: docs/theory/vector_program.md, Proposition 5.
    """
    if structure.is_squared:
        centred: Array = residual - structure.weight[:, None] * residual.sum(axis=0)
        return centred
    columns = range(residual.shape[1])
    return np.stack([admissible(structure.column(c), residual[:, c]) for c in columns], axis=1)


def vector_loss_bound(structure: VectorStructure, p: Array, rest: float, limit: float) -> float:
    """``max_theta -sum_kc om_k l*(theta p_kc / om_k; y_kc) - theta^2 rest`` over ``0 <= theta <= limit``.

    Any theta in the domain of the conjugates is valid, one for all outputs.

    Implements: docs/theory/vector_program.md, Proposition 5.
    """
    if structure.is_squared:
        quadratic = 0.25 * float(np.vdot(p, p / structure.weight[:, None]))
        return best_scaling(-float(np.vdot(p, structure.y_centred)), quadratic + rest, limit)
    weight = np.repeat(structure.weight, p.shape[1])
    return sampled_bound(structure.sample_loss, structure.targets.ravel(), weight, p.ravel(), rest, limit)


def network_loss(loss: Loss, rows: DistinctRows, network: Network) -> float:
    """Weighted mean loss of a network on the rows, at its own output biases, summed over the outputs."""
    losses = loss.value(network(rows.X).reshape(rows.y.shape), rows.y)
    return float(rows.weight @ losses.sum(axis=1)) + rows.constant
