"""Clones of estimators that take a trained model as a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.base import BaseEstimator

if TYPE_CHECKING:
    from typing import Self


class KeepsTrainedModel(BaseEstimator):
    """Estimator of which one parameter may be a fitted model: a clone of it would have forgotten its weights."""

    _trained_parameter: str

    def __sklearn_clone__(self) -> Self:
        """Unfitted copy with the same parameters; the trained model stays as it is."""
        copy: Self = super().__sklearn_clone__()
        model = getattr(self, self._trained_parameter)
        if isinstance(model, BaseEstimator):
            setattr(copy, self._trained_parameter, model)
        return copy
