"""Layers in and out of scikit-learn: its multi-layer perceptrons, and its scalers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation, Identity, ReLU, Sigmoid, Tanh
from convexnn.exceptions import InvalidInputError, UnsupportedModelError

Array = NDArray[np.float64]
Layers = tuple[tuple[Array, Array], ...]


def layers_from_sklearn(mlp: Any) -> tuple[Layers, Activation]:
    """Weights and activation of a fitted ``MLPRegressor`` or ``MLPClassifier``.

    A classifier's network returns the logits: the last (logistic or softmax) step is left out.

    Raises
    ------
    UnsupportedModelError
        When the model is not fitted or ends in something other than logits.
    """
    if not hasattr(mlp, "coefs_"):
        raise UnsupportedModelError(f"This {type(mlp).__name__} is not fitted yet; call fit first.")
    kinds = {"relu": ReLU(), "tanh": Tanh(), "logistic": Sigmoid(), "identity": Identity()}
    if mlp.activation not in kinds:
        raise UnsupportedModelError(f"The activation {mlp.activation!r} of {type(mlp).__name__} is not supported.")
    ending = getattr(mlp, "out_activation_", "identity")
    if ending not in ("identity", "logistic", "softmax"):  # loss="poisson" ends in exp
        raise UnsupportedModelError(f"The output activation {ending!r} of {type(mlp).__name__} is not supported.")
    pairs = zip(mlp.coefs_, mlp.intercepts_, strict=True)
    layers = tuple((np.array(W.T, dtype=float), np.array(b, dtype=float)) for W, b in pairs)
    return layers, kinds[mlp.activation]


def layers_to_sklearn(
    layers: Layers, activation: Activation, classes: Sequence[Any] | None = None, **parameters: Any
) -> Any:
    """A fitted ``MLPRegressor``, or ``MLPClassifier`` of given classes, with these weights.

    One step of ``partial_fit`` on two rows of zeros sets what scikit-learn keeps besides weights; then the weights and
    counters are written over, so that ``warm_start=True`` and ``partial_fit`` go on from here.

    Parameters
    ----------
    layers, activation
    classes : sequence, optional
        Sorted labels, as many as outputs, or two for one output (positive for the second). Two outputs and two classes
        become the one logit ``f_1 - f_0`` that scikit-learn has. None makes a regressor.
    **parameters
        Of the scikit-learn model, such as ``solver``, ``warm_start`` and ``max_iter``.
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    names = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "identity": "identity"}
    if activation.name not in names:
        raise UnsupportedModelError(f"scikit-learn has no activation {activation.name!r}; its MLPs know {set(names)}.")
    *hidden, (V, c) = layers
    labels = None if classes is None else _checked_classes(classes, len(c))
    if labels is not None and len(c) == 2:
        V, c = V[1:] - V[:1], c[1:] - c[:1]
    settings = {"solver": "adam", **parameters}
    shape = tuple(len(b) for _, b in hidden)
    kind: Any = MLPRegressor if labels is None else MLPClassifier
    blank = kind(hidden_layer_sizes=shape, activation=names[activation.name], solver="adam", batch_size=2)
    rows = 2 if labels is None else len(labels)
    X = np.zeros((rows, layers[0][0].shape[1]))
    if labels is None:
        model = blank.partial_fit(X, np.zeros(rows) if len(c) == 1 else np.zeros((rows, len(c))))
    else:
        model = blank.partial_fit(X, labels, classes=labels)
    model.set_params(batch_size="auto", **settings)
    model.coefs_ = [np.array(W.T) for W, _ in (*hidden, (V, c))]
    model.intercepts_ = [np.array(b) for _, b in (*hidden, (V, c))]
    del model._optimizer  # its moments belong to other weights
    model.loss_curve_, model.n_iter_, model.t_ = [], 0, 0
    model.loss_, model.best_loss_, model._no_improvement_count = np.inf, np.inf, 0
    return model


def _checked_classes(classes: Sequence[Any], n_outputs: int) -> NDArray[Any]:
    labels = np.asarray(classes)
    if labels.ndim != 1 or len(labels) != max(n_outputs, 2) or len(np.unique(labels)) != len(labels):
        raise InvalidInputError(
            f"classes must hold {max(n_outputs, 2)} different labels for {n_outputs} output(s), got {classes!r}."
        )
    if not np.array_equal(np.unique(labels), labels):
        raise InvalidInputError(f"classes must be sorted, as scikit-learn keeps them, got {classes!r}.")
    return labels


def scaler_arrays(scaler: Any, n_inputs: int) -> tuple[Array, Array]:
    """Mean and scale (d,) of a fitted scaler with ``mean_`` and ``scale_``, or of a pair; None centres or scales not.

    Raises
    ------
    InvalidInputError
        When there are none, their shapes do not fit, or a scale is zero.
    """
    if isinstance(scaler, tuple):
        mean, scale = scaler
    elif hasattr(scaler, "scale_") and hasattr(scaler, "mean_"):
        centred = getattr(scaler, "with_mean", True)  # StandardScaler(with_mean=False) has a mean_ that it does not use
        mean, scale = (scaler.mean_ if centred else None), scaler.scale_
    else:
        raise InvalidInputError(
            f"fold_scaling needs a fitted scaler with mean_ and scale_, got {type(scaler).__name__}."
        )
    shift = np.zeros(n_inputs) if mean is None else np.asarray(mean, dtype=float)
    unit = np.ones(n_inputs) if scale is None else np.asarray(scale, dtype=float)
    if shift.shape != (n_inputs,) or unit.shape != (n_inputs,):
        raise InvalidInputError(f"The scaler must have {n_inputs} features, got {shift.shape} and {unit.shape}.")
    if not (np.isfinite(shift).all() and np.isfinite(unit).all() and unit.all()):
        raise InvalidInputError("The scaler needs a finite mean and a finite scale without zeros.")
    return shift, unit
