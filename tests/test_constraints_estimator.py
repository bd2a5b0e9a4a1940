"""The regressor with ``monotonic_cst`` and ``constraints``: fitted guarantees, feature names, clones, grid searches."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from convexnn.certificate import Certificate
from convexnn.constraints import Convex, FixedValue, Monotone, UpperBound, guarantees
from convexnn.estimators import SafeSNNClassifier, SafeSNNRegressor, SafeSNNRegressorCV
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.threats import Box


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (30, 2))
    return X, 2 * X[:, 0] ** 2 - X[:, 1] + 0.1 * rng.standard_normal(30)


def model(**settings: object) -> SafeSNNRegressor:
    return SafeSNNRegressor(4, regularizer="l2", lam=1e-3, start="random", random_state=0, **settings)


def test_monotonic_cst_is_guaranteed_by_name_and_number() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=["dose", "age"])
    by_name = model(monotonic_cst={"dose": 1, "age": -1}).fit(frame, y)
    by_number = model(monotonic_cst=[1, -1]).fit(X, y)
    assert by_name.guarantees_.hold
    assert [item.constraint for item in by_name.guarantees_] == [Monotone(0), Monotone(1, -1)]
    np.testing.assert_array_equal(by_name.predict(frame), by_number.predict(X))
    slopes = by_name.network_.gradient(np.random.default_rng(1).standard_normal((500, 2)) * 3)
    assert slopes[:, 0].min() >= 0
    assert slopes[:, 1].max() <= 0
    assert by_name.constrained_.lower_bound <= by_name.objective_


@pytest.mark.slow
def test_clone_and_grid_search() -> None:
    X, y = data()
    asked = model(constraints=(Convex(), FixedValue([0.0, 0.0], 0.0)))
    assert clone(asked).get_params()["constraints"] == asked.constraints
    search = GridSearchCV(asked, {"lam": [1e-3, 1e-1], "monotonic_cst": [None, [1, 0]]}, cv=2).fit(X, y)
    best = search.best_estimator_
    assert best.guarantees_.hold
    assert best.predict([[0.0, 0.0]])[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_the_default_regularizer_keeps_them_too() -> None:
    X, y = data()
    rising = SafeSNNRegressor(4, lam=1e-3, start="random", random_state=0, monotonic_cst=[1, -1]).fit(X, y)
    assert rising.guarantees_.hold
    assert rising.constrained_.lower_bound <= rising.objective_ <= rising.start_objective_
    heavy = clone(rising).set_params(lam=1.0).fit(X, y)
    assert heavy.lipschitz_.bound < 0.9 * rising.lipschitz_.bound  # what the weight is about
    flags = SafeSNNClassifier(4, lam=1e-3, start="random", random_state=0, monotonic_cst=[1, 0]).fit(X, y > 0)
    assert flags.guarantees_.hold


def test_without_constraints_nothing_is_claimed() -> None:
    X, y = data()
    assert len(model().fit(X, y).guarantees_) == 0


def test_what_does_not_go_together_is_refused() -> None:
    X, y = data()
    with pytest.raises(InvalidInputError, match="pass regularizer='l2' or 'lipschitz'"):
        SafeSNNRegressor(4, regularizer="gated", monotonic_cst=[1, 0]).fit(X, y)
    with pytest.raises(InvalidInputError, match="2 features"):
        model(monotonic_cst=[1]).fit(X, y)


def test_settings_that_constraints_would_not_follow_are_refused() -> None:
    X, y = data()
    for solver in ("interior_point", "first_order"):
        with pytest.raises(InvalidInputError, match=f"solver='{solver}'.*'auto' is 'clarabel'"):
            model(monotonic_cst=[1, 0], solver=solver).fit(X, y)
    with pytest.raises(InvalidInputError, match="pattern_search=2"):
        model(monotonic_cst=[1, 0], pattern_search=2).fit(X, y)


def asked_cv(**settings: object) -> SafeSNNRegressorCV:
    return SafeSNNRegressorCV(4, regularizer="l2", lams=[1e-1, 1e-3], cv=2, start="random", random_state=0, **settings)


def test_settings_survive_clones_and_are_refused_where_nothing_follows_them() -> None:
    X, y = data()
    for made in (asked_cv(), SafeSNNClassifier(4, regularizer="l2", start="random", random_state=0)):
        asked = clone(made).set_params(monotonic_cst=[1, 0], constraints=(Convex(),))
        assert clone(asked).get_params()["constraints"] == (Convex(),)
        with pytest.raises(InvalidInputError, match="pass regularizer='l2'"):
            asked.set_params(regularizer="gated").fit(X, y > 0)
    three = SafeSNNClassifier(4, regularizer="l2", start="random", random_state=0, monotonic_cst=[1, 0])
    with pytest.raises(InvalidInputError, match="two classes"):
        three.fit(X, np.arange(len(X)) % 3)


def test_nothing_of_an_earlier_fit_is_left_and_names_are_asked_for_where_they_were_lost() -> None:
    X, y = data()
    shape = {"regularizer": "l2", "start": "random", "random_state": 0}
    for fitted in (SafeSNNRegressor(3, **shape), SafeSNNClassifier(3, **shape)):
        fitted.set_params(constraints=(Convex(),)).fit(X, y > 0 if isinstance(fitted, SafeSNNClassifier) else y)
        assert fitted.n_iter_ == len(fitted.constrained_.programs) > 0
        fitted.set_params(constraints=None).fit(X, y > 0 if isinstance(fitted, SafeSNNClassifier) else y)
        assert fitted.constrained_ is None
        assert not len(fitted.guarantees_)
    with pytest.raises(InvalidInputError, match="the class Convex"):
        model(constraints=Convex).fit(X, y)
    with pytest.raises(InvalidInputError, match="set_output"):
        model(monotonic_cst={"age": 1}).fit(X, y)


@pytest.mark.slow
def test_every_scored_network_is_trained_with_the_constraints_and_so_is_the_final_one() -> None:
    """Two roads: scores are those of the regressor with these constraints, fitted on each fold by hand."""
    X, y = data()
    start = model().fit(X, y).network_
    folds = KFold(2)
    chosen = asked_cv(monotonic_cst=[1, -1]).set_params(start=start, cv=folds).fit(X, y)
    assert chosen.guarantees_.hold
    chosen.guarantees_.check(chosen.network_)
    slopes = chosen.network_.gradient(np.random.default_rng(1).standard_normal((500, 2)) * 3)
    assert slopes[:, 0].min() >= 0 >= slopes[:, 1].max()
    alone = model(monotonic_cst=[1, -1]).set_params(start=start, lam=chosen.lam_).fit(X, y)
    np.testing.assert_array_equal(alone.predict(X), chosen.predict(X))
    for i, (train, test) in enumerate(folds.split(X)):
        for k, lam in enumerate(chosen.lams_):
            hand = model(monotonic_cst=[1, -1]).set_params(start=start, lam=lam).fit(X[train], y[train])
            error = np.mean((hand.predict(X[test]) - y[test]) ** 2)
            assert chosen.cv_results_[f"split{i}_test_score"][k] == pytest.approx(-error, rel=1e-12)
    cut = asked_cv(monotonic_cst=[1, -1], time_limit=1e-6).set_params(start=start).fit(X, y)
    assert cut.guarantees_.hold
    assert np.isnan(cut.cv_results_["mean_test_score"][1])


@pytest.mark.slow
def test_scores_of_two_classes_are_monotone(tmp_path) -> None:
    """The score, so the probability of the second class, on 400 segments; what is stored proves it again."""
    rng = np.random.default_rng(2)
    X = rng.uniform(-1, 1, (60, 2))
    y = np.where(np.sin(5 * X[:, 0]) > X[:, 1], "yes", "no")
    for loss in ("logistic", "squared_hinge"):
        plain = SafeSNNClassifier(6, regularizer="l2", loss=loss, lam=1e-3, start="random", random_state=0)
        free, asked = plain.fit(X, y), clone(plain).set_params(monotonic_cst=[1, 0]).fit(X, y)
        low = rng.uniform(-3, 3, (400, 2))
        high = low + rng.exponential(1.0, (400, 1)) * [1.0, 0.0]
        assert (free.decision_function(high) < free.decision_function(low) - 1e-6).any()
        assert (asked.decision_function(high) >= asked.decision_function(low) - 1e-12).all()
        assert asked.guarantees_.hold
        assert not len(free.guarantees_)
        assert asked.constrained_.lower_bound <= asked.objective_ * (1 + 1e-12)
        assert asked.constrained_.free_lower_bound <= free.objective_
        assert asked.score(X, y) > 0.6
        stored = Network.load(asked.network_.save(tmp_path / "net.npz"))
        assert guarantees(stored, Monotone(0)).hold
        if loss == "logistic":
            rise = asked.predict_proba(high)[:, 1] - asked.predict_proba(low)[:, 1]
            assert rise.min() >= -1e-12


@pytest.mark.slow
def test_an_upper_bound_goes_through_the_estimators(tmp_path) -> None:
    """Fitted, stored without pickle, proved again; corners of the box, where a convex function is largest, keep it."""
    X, y = data()
    box = Box([0.0, 0.0], [1.0, 1.0])
    fitted = model(constraints=(UpperBound(box, 1.0), Convex())).fit(X, y)
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert fitted.predict(corners).max() <= 1.0 + 1e-12
    (bound,) = (item for item in fitted.guarantees_ if item.certificate is not None)
    network = Network.load(fitted.network_.save(tmp_path / "net.npz"))
    again = Certificate.load(bound.certificate.save(tmp_path / "proof.npz"))
    assert again.check(network) <= 1.0
