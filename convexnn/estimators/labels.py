"""Class labels as the programs want them: indices 0..k-1, signs where there are two classes, weights by class."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labels:
    """Encoded labels.

    Parameters
    ----------
    classes : array, shape (k,)
        The labels in increasing order, k >= 2; a network with one output is positive for the second.
    indices : int array, shape (n,)
        Position of each sample's label in ``classes``.
    """

    classes: NDArray[Any]
    indices: NDArray[np.intp]

    @property
    def n_classes(self) -> int:
        """Number of classes k."""
        return len(self.classes)

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes."""
        return self.n_classes == 2

    @property
    def signs(self) -> Array:
        """-1 for the first class and +1 for the others, shape (n,); meant for two classes."""
        return np.where(self.indices > 0, 1.0, -1.0)


def encode_labels(y: ArrayLike, weight: Array | None = None) -> Labels:
    """Labels of training data as indices.

    Parameters
    ----------
    y : array-like, shape (n,)
        Numbers, strings or booleans; a column is taken with scikit-learn's warning.
    weight : array, shape (n,), or None
        Sample weights, checked; a class of weight zero counts as absent, as if its rows had been left out.

    Raises
    ------
    InvalidInputError
        When the rows of positive weight show one class only.
    ValueError
        For targets that are no labels (scikit-learn's sentence).
    """
    column = column_or_1d(y, warn=True)
    check_classification_targets(column)
    present = np.unique(column if weight is None else column[weight > 0])
    if len(present) < 2:
        raise InvalidInputError(
            f"y holds one class only ({present.tolist()}, rows of weight zero left out); a classifier needs samples of "
            "at least two classes."
        )
    known = np.isin(column, present)  # rows of an absent class have weight zero: any index will do
    indices = np.searchsorted(present, np.where(known, column, present[0]))
    return Labels(present, indices.astype(np.intp))


def encode_known(y: ArrayLike, classes: NDArray[Any]) -> NDArray[np.intp]:
    """Positions of labels in the classes of a fitted model, shape (n,).

    Raises
    ------
    InvalidInputError
        When a label is none of the classes.
    """
    column = column_or_1d(y)
    known = np.isin(column, classes)
    if not known.all():
        raise InvalidInputError(
            f"y holds {column[~known].tolist()[0]!r}, which is none of the fitted classes {classes.tolist()}."
        )
    positions: NDArray[np.intp] = np.searchsorted(classes, column).astype(np.intp)
    return positions


def class_weights(class_weight: Any, labels: Labels, weight: Array | None) -> Array | None:
    """Sample weights times the weights of the classes, shape (n,), or None when all are one.

    Parameters
    ----------
    class_weight : None, "balanced" or mapping
        ``"balanced"`` gives every class the same total weight (so that repeating a row still equals weighing it);
        a mapping goes from labels to nonnegative numbers, labels that it does not name have weight one.
    labels : Labels
    weight : array, shape (n,), or None
        Sample weights, checked.

    Raises
    ------
    InvalidInputError
        For anything else, an unknown label, or numbers that leave fewer than two classes.
    """
    if class_weight is None:
        return weight
    own = np.ones(len(labels.indices)) if weight is None else weight
    if isinstance(class_weight, str) and class_weight == "balanced":
        totals = np.bincount(labels.indices, own, minlength=labels.n_classes)
        factors = own.sum() / (labels.n_classes * totals)
    elif isinstance(class_weight, Mapping):
        factors = _factors(class_weight, labels)
    else:
        raise InvalidInputError(f"class_weight={class_weight!r} was given; expected None, 'balanced' or a mapping.")
    combined: Array = own * np.asarray(factors)[labels.indices]
    return combined


def _factors(class_weight: Mapping[Any, Any], labels: Labels) -> Array:
    factors = np.ones(labels.n_classes)
    for label, value in class_weight.items():
        found = [index for index, known in enumerate(labels.classes.tolist()) if known == label]
        if not found:
            raise InvalidInputError(f"class_weight names the class {label!r}, which y does not hold.")
        if not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
            raise InvalidInputError(f"class_weight gives the class {label!r} the weight {value!r}; expected >= 0.")
        factors[found[0]] = value
    if np.count_nonzero(factors) < 2:
        raise InvalidInputError("class_weight leaves fewer than two classes with a positive weight.")
    return factors
