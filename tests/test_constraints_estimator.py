"""The regressor with ``monotonic_cst`` and ``constraints``: fitted guarantees, feature names, clones, grid searches."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from convexnn.constraints import Convex, FixedValue, Monotone
from convexnn.estimators import SafeSNNRegressor
from convexnn.exceptions import InvalidInputError


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


def test_without_constraints_nothing_is_claimed() -> None:
    X, y = data()
    assert len(model().fit(X, y).guarantees_) == 0


def test_what_does_not_go_together_is_refused() -> None:
    X, y = data()
    with pytest.raises(InvalidInputError, match="pass regularizer='l2'"):
        SafeSNNRegressor(4, monotonic_cst=[1, 0]).fit(X, y)
    with pytest.raises(InvalidInputError, match="2 features"):
        model(monotonic_cst=[1]).fit(X, y)


def test_settings_that_constraints_would_not_follow_are_refused() -> None:
    X, y = data()
    with pytest.raises(InvalidInputError, match="pass regularizer='l2'"):
        SafeSNNRegressor(4, constraints=(Convex(),)).fit(X, y)
    for solver in ("interior_point", "first_order"):
        with pytest.raises(InvalidInputError, match=f"solver='{solver}'.*'auto' is 'clarabel'"):
            model(monotonic_cst=[1, 0], solver=solver).fit(X, y)
    with pytest.raises(InvalidInputError, match="pattern_search=2"):
        model(monotonic_cst=[1, 0], pattern_search=2).fit(X, y)
