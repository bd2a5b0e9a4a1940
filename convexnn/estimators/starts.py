"""Where a convex fit starts from: a trained, a given or a sampled network."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.model_parts import needs_relu
from convexnn.network import Network, as_network
from convexnn.patterns import sample_gates
from convexnn.training import Trainer, pretrain
from convexnn.training.fitting import start_penalty, start_trainer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Condensed:
    """Distinct (input, target) rows in canonical order, with summed weights; targets (n,) or (n, outputs).

    Repeating a row, giving it weight two, or permuting rows leaves these arrays unchanged, hence the fit.
    """

    X: Array
    y: Array
    weight: Array


def condense(X: Array, y: Array, sample_weight: Array | None) -> Condensed:
    """Merge equal rows of ``(X, y)`` and drop rows of weight zero."""
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    keep = weight > 0
    rows, inverse = np.unique(np.column_stack([X, y])[keep], axis=0, return_inverse=True)
    total: Array = np.bincount(inverse.ravel(), weights=weight[keep]).astype(np.float64)
    return Condensed(rows[:, :-1], rows[:, -1], total)


def require_hidden_units(value: Any) -> None:
    """Refuse what is no number of units."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise InvalidInputError(f"hidden_units must be a positive integer, got {value!r}.")


def load_trainer(start: Any) -> None:
    """Import torch where a start is trained, so that no time limit pays for it."""
    if isinstance(start, Trainer) or (isinstance(start, str) and start != "random"):
        import_module("torch")


def start_network(
    start: Any, data: Condensed, *, hidden_units: int, seed: int, lam: float, regularizer: str, **training: Any
) -> Network:
    """The network from which a fit starts.

    Parameters
    ----------
    start : str, Trainer, Network, torch.nn.Module or fitted sklearn MLPRegressor
        A trainer or its name, ``"random"`` for sampled gates, or a model with one ReLU layer and one output.
    data : Condensed
    hidden_units : int
        Units of a trained or sampled start; a given model brings its own.
    seed : int
    lam : float
        Weight of the regularizer.
    regularizer : str
        Of the fit.
    **training
        Further options of :func:`convexnn.training.pretrain`.
    """
    if isinstance(start, str) and start == "random":
        return _sampled(data, hidden_units, seed)
    if isinstance(start, (str, Trainer)):
        trainer = start_trainer(start, lam)
        result = pretrain(
            data.X,
            data.y,
            hidden_units=hidden_units,
            method=trainer,
            sample_weight=data.weight,
            random_state=seed,
            **start_penalty(trainer, regularizer, lam),
            **training,
        )
        return result.network
    network = as_network(start)
    outputs = 1 if data.y.ndim == 1 else data.y.shape[1]
    needs_relu(network if outputs == 1 else network.select(0))
    if network.n_outputs != outputs:
        raise UnsupportedModelError(f"start must have {outputs} outputs, one a class; this one has {network!r}.")
    if not network.is_shallow or network.n_inputs != data.X.shape[1]:
        raise InvalidInputError(f"start must have one hidden layer and {data.X.shape[1]} inputs, got {network!r}.")
    return network


def _sampled(data: Condensed, hidden_units: int, seed: int) -> Network:
    """Sampled gates with outer weights too small to matter: the fit starts at the best constant."""
    W, b = sample_gates(data.X, hidden_units, random_state=seed)
    targets = data.y.reshape(len(data.y), -1)
    units, outputs = np.arange(len(W)), targets.shape[1]
    signs = np.where(units // outputs % 2 == 0, 1.0, -1.0)
    mean = np.average(targets, axis=0, weights=data.weight)
    spread = float(np.sqrt(np.average((targets - mean) ** 2, axis=0, weights=data.weight).max()))
    active = np.maximum(data.X @ W.T + b, 0.0).max(axis=0)
    size = 1e-6 * spread / (len(W) * np.maximum(active, np.finfo(float).tiny))
    directions = np.eye(outputs)[:, units % outputs]  # every unit speaks to one output
    return Network.shallow(W, b, directions * (signs * np.where(active > 0, size, 0.0)), mean)
