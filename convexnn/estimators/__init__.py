"""scikit-learn estimators: thin shells over the functions of the package."""

from convexnn.estimators.regressor import SafeSNNRegressor

__all__ = ["SafeSNNRegressor"]
