"""SafeSNNRegressorCV: the scores are those of the path, the final fit is that of SafeSNNRegressor."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn.estimators import SafeSNNRegressor, SafeSNNRegressorCV
from convexnn.exceptions import InvalidInputError
from convexnn.paths import path
from convexnn.restrictions import lam_max
from convexnn.threats import L2Ball
from tests._families import few
from tests._instances import regression


def small(**parameters):
    return SafeSNNRegressorCV(
        **({"hidden_units": 6, "n_lams": 5, "cv": 3, "start": "random", "random_state": 0} | parameters)
    )


@parametrize_with_checks(
    [SafeSNNRegressorCV(40, regularizer="l2", n_lams=2, lam_ratio=1e-2, cv=2, start="random", random_state=0)]
)
@pytest.mark.slow
def test_sklearn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.mark.slow
def test_scores_are_those_of_the_path():
    X, y, net = regression(n=40)
    lams = [1.0, 0.1, 0.01]
    model = small(start=net, lams=lams, cv=KFold(3)).fit(X, y)
    for i, (train, test) in enumerate(KFold(3).split(X)):
        found = path(X[train], y[train], net, lams=lams)
        errors = ((found.predict(X[test]) - y[test]) ** 2).mean(axis=1)
        np.testing.assert_allclose(model.cv_results_[f"split{i}_test_score"], -errors, rtol=1e-4)
    assert model.lam_ == lams[int(np.argmax(model.cv_results_["mean_test_score"]))]
    assert model.best_score_ == model.cv_results_["mean_test_score"].max()


@pytest.mark.parametrize("regularizer", few(["lipschitz", "l2", "gated"]))
def test_the_final_fit_is_the_regressor_s(regularizer):
    X, y, net = regression(n=40)
    model = small(start=net, regularizer=regularizer).fit(X, y)
    alone = SafeSNNRegressor(start=net, regularizer=regularizer, lam=model.lam_).fit(X, y)
    assert model.objective_ == alone.objective_
    np.testing.assert_array_equal(model.predict(X), alone.predict(X))
    assert model.objective_ <= model.start_objective_
    assert (np.diff(model.lams_) < 0).all()
    assert model.lams_[model.best_index_] == model.lam_


@pytest.mark.slow
def test_the_grid_starts_where_something_can_be_gained():
    X, y, _ = regression(n=40)
    model = small(n_lams=3, lam_ratio=1e-2, cv=2).fit(X, y)
    np.testing.assert_allclose(model.lams_, lam_max(X, y) * np.array([1.0, 0.1, 0.01]))


@pytest.mark.slow
def test_one_standard_error_takes_a_larger_weight():
    X, y, net = regression(n=60, seed=3)
    best, sparse = (small(start=net, n_lams=8, rule=rule).fit(X, y) for rule in ("best", "one_standard_error"))
    assert sparse.lam_ >= best.lam_
    scores, index = sparse.cv_results_["mean_test_score"], best.best_index_
    error = sparse.cv_results_["std_test_score"][index] / np.sqrt(2)  # three folds
    assert sparse.best_score_ >= scores[index] - error
    assert (scores[: sparse.best_index_] < scores[index] - error).all()
    assert sparse.lipschitz_.bound <= best.lipschitz_.bound * (1 + 1e-6)


@pytest.mark.slow
def test_copies_never_straddle_a_split_and_order_does_not_matter(rng):
    X, y, net = regression(n=20)
    counts = rng.integers(1, 4, 20)
    order = rng.permutation(counts.sum())
    weighted = small(start=net, n_lams=3).fit(X, y, sample_weight=counts)
    repeated = small(start=net, n_lams=3).fit(np.repeat(X, counts, axis=0)[order], np.repeat(y, counts)[order])
    assert weighted.lam_ == pytest.approx(repeated.lam_)
    np.testing.assert_allclose(
        weighted.cv_results_["mean_test_score"], repeated.cv_results_["mean_test_score"], rtol=1e-3
    )


@pytest.mark.slow
def test_scoring_is_scikit_learn_s():
    X, y, net = regression(n=30)
    named = small(start=net, n_lams=3, scoring="neg_mean_absolute_error").fit(X, y)
    absolute = small(start=net, n_lams=3, scoring=lambda model, X, y: -mean_absolute_error(y, model.predict(X)))
    called = absolute.fit(X, y)
    np.testing.assert_allclose(named.cv_results_["mean_test_score"], called.cv_results_["mean_test_score"])


@pytest.mark.slow
def test_jobs_do_not_matter():
    X, y, net = regression(n=30)
    serial, parallel = (small(start=net, n_jobs=jobs, n_lams=3).fit(X, y) for jobs in (None, 2))
    np.testing.assert_array_equal(serial.cv_results_["mean_test_score"], parallel.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(serial.predict(X), parallel.predict(X))


@pytest.mark.slow
def test_splits_may_be_given_as_indices():
    X, y, net = regression(n=30)
    groups = np.arange(30) % 5
    model = small(start=net, n_lams=2, cv=list(GroupKFold(5).split(X, y, groups))).fit(X, y)
    assert sum(name.startswith("split") for name in model.cv_results_) == 5


@pytest.mark.slow
def test_in_a_pipeline_with_evidence():
    X, y, _ = regression(n=40)
    model = make_pipeline(StandardScaler(), small()).fit(100 * X + 5, y)
    final = model[-1]
    Z = model[0].transform(100 * X + 5)
    assert final.attack(Z, y, L2Ball(0.1)).values.mean() <= final.certify(Z, y, L2Ball(0.1)).certified.mean()


def test_constant_targets_give_the_constant():
    X, _, net = regression(n=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = small(start=net).fit(X, np.full(20, 3.0))
    assert model.cv_results_["mean_test_score"][0] == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize(
    "parameters",
    [
        {"lams": [0.0]},
        {"lams": []},
        {"n_lams": 0},
        {"lam_ratio": 2.0},
        {"rule": "median"},
        {"cv": 1},
        {"hidden_units": 0},
        {"regularizer": "l1"},
        {"scope": "everything"},
        {"scope": "global", "global_tol": 0.0},
        {"pattern_search": 1.5},
        {"time_limit": float("nan")},
        {"cv": KFold(8), "scoring": "r2"},  # one row per fold
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_unusable_parameters_are_sentences(parameters):
    X, y, _ = regression(n=8)
    with pytest.raises(InvalidInputError):
        small(**parameters).fit(X, y)


def test_the_chosen_weight_is_fitted_to_a_global_gap():
    X, y, net = regression(n=15, d=1)
    model = small(start=net, regularizer="l2", lams=[0.1, 0.02], scope="global", global_tol=1e-2).fit(X, y)
    assert model.solution_.scope == "global"
    assert model.global_bound_ <= model.objective_ <= model.global_bound_ * (1 + 1.1e-2)
    assert small(start=net, lams=[0.1]).fit(X, y).global_gap_ == np.inf


def test_scorers_without_weights_see_repeated_rows():
    """Copies of a row are merged before the folds, hence weights, which a function of three arguments does not take."""
    X, y, net = regression(n=20)
    X, y = np.vstack([X, X[:5]]), np.r_[y, y[:5]]
    named = small(start=net, lams=[0.1]).fit(X, y)
    called = small(start=net, lams=[0.1], scoring=lambda m, X, y: -np.mean((m.predict(X) - y) ** 2)).fit(X, y)
    assert called.best_score_ == pytest.approx(named.best_score_)
    assert called.best_score_ < 0


def test_numpy_integers_are_numbers_of_folds():
    X, y, net = regression(n=20)
    numbers = [small(start=net, lams=[0.1], cv=cv).fit(X, y).best_score_ for cv in (3, np.int64(3))]
    assert numbers[0] == numbers[1]


def test_a_time_limit_leaves_honest_scores():
    X, y, net = regression(n=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = small(start=net, time_limit=1e-6, n_lams=20).fit(X, y)
    assert np.isfinite(model.best_score_)
    assert np.isnan(model.cv_results_["mean_test_score"]).any()
    assert model.objective_ <= model.start_objective_
