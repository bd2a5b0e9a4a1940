"""scikit-learn's own checks of the polynomial estimators; there is no list of expected failures."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn.estimators import PolynomialSNNClassifier, PolynomialSNNRegressor


@parametrize_with_checks(
    [
        PolynomialSNNClassifier(),
        PolynomialSNNClassifier(0.1, loss="logistic", multi_class="ovr", standardize=True),
        PolynomialSNNRegressor(0.2, standardize=True),
    ]
)
@pytest.mark.slow
def test_sklearn_checks(estimator, check):
    check(estimator)
