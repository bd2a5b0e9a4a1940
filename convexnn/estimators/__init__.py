"""scikit-learn estimators: thin shells over the functions of the package."""

from convexnn.estimators.classifier import SafeSNNClassifier
from convexnn.estimators.pattern_features import ActivationPatternTransformer
from convexnn.estimators.polynomial_classifier import PolynomialSNNClassifier
from convexnn.estimators.polynomial_regressor import PolynomialSNNRegressor
from convexnn.estimators.regressor import SafeSNNRegressor
from convexnn.estimators.regressor_cv import SafeSNNRegressorCV
from convexnn.estimators.safe_region import SafeRegionClassifier

__all__ = [
    "ActivationPatternTransformer",
    "PolynomialSNNClassifier",
    "PolynomialSNNRegressor",
    "SafeRegionClassifier",
    "SafeSNNClassifier",
    "SafeSNNRegressor",
    "SafeSNNRegressorCV",
]
