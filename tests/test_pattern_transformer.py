"""Gated inputs as features: linear models on them solve the gated programs and turn back into networks."""

import pickle

import numpy as np
import pytest
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn import ActivationPatternTransformer, Network, SafeSNNRegressor, extract, solve
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.patterns import sample
from convexnn.restrictions import GatedGroupLasso


def data(rng, n=40, d=3):
    X = rng.standard_normal((n, d))
    return X, np.abs(X[:, 0]) + 0.3 * X[:, 1]


def gates(**options):
    return ActivationPatternTransformer(**({"n_gates": 6, "random_state": 0} | options))


@parametrize_with_checks([gates(), gates(features="patterns"), gates(bias=False, kind="data")])
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_features_are_the_gated_inputs(rng):
    X, _ = data(rng)
    fitted = gates().fit(X)
    D = fitted.patterns(X).D
    np.testing.assert_array_equal(D, sample(X, 6, signs=1, random_state=0).D)
    augmented = np.hstack([X, np.ones((len(X), 1))])
    expected = np.hstack([D[:, [i]] * augmented for i in range(6)])
    np.testing.assert_array_equal(fitted.transform(X), expected)
    np.testing.assert_array_equal(
        gates(bias=False).fit(X).transform(X), expected.reshape(-1, 6, 4)[:, :, :3].reshape(len(X), -1)
    )
    np.testing.assert_array_equal(gates(features="patterns").fit(X).transform(X), D)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"features": "patterns"}])
def test_sparse_output_is_the_same_matrix(rng, options):
    X, _ = data(rng)
    X[0] = 0.0  # stored zeros
    found = gates(sparse_output=True, **options).fit(X).transform(X)
    assert issparse(found)
    assert found.format == "csr"
    np.testing.assert_array_equal(found.toarray(), gates(**options).fit(X).transform(X))


def test_gates_of_a_model(rng):
    X, y = data(rng)
    network = Network.shallow(rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(5), 0.2)
    taken = ActivationPatternTransformer(model=network).fit(X)
    np.testing.assert_array_equal(taken.patterns(X).D, extract(network, X).D)
    fitted = SafeSNNRegressor(4, start="random", random_state=0).fit(X, y)
    again = clone(ActivationPatternTransformer(model=fitted)).fit(X)  # a clone of the model would not be fitted
    np.testing.assert_array_equal(again.gates_, fitted.network_.W)
    with pytest.raises(InvalidInputError, match="3 inputs"):
        taken.fit(X[:, :2])
    with pytest.raises(UnsupportedModelError, match="tanh"):
        ActivationPatternTransformer(model=Network(network.layers, "tanh")).fit(X)


def test_ridge_solves_the_gated_program_with_squared_norms(rng):
    # normal equations of mean (sum_i D_i x'u_i + c - y)^2 + lam sum_i |u_i|^2, c not penalized
    X, y = data(rng)
    transformer, lam = gates().fit(X), 0.01
    D, augmented = transformer.patterns(X).D, np.hstack([X, np.ones((len(X), 1))])
    A = np.einsum("np,nd->npd", D, augmented).reshape(len(X), -1)
    centred = A - A.mean(axis=0)
    U = np.linalg.solve(centred.T @ centred / len(X) + lam * np.eye(A.shape[1]), centred.T @ (y - y.mean()) / len(X))
    model = Ridge(lam * len(X)).fit(transformer.transform(X), y)
    np.testing.assert_allclose(model.coef_, U, atol=1e-10)
    network = transformer.gated_network(model)
    np.testing.assert_allclose(network.U.ravel(), U, atol=1e-10)
    points = 2 * rng.standard_normal((50, 3))
    np.testing.assert_allclose(network(points), model.predict(transformer.transform(points)), atol=1e-12)


def test_reweighted_ridge_is_the_group_lasso(rng):
    # |u| = min over e > 0 of (|u|^2 / e + e) / 2: at the optimum of 2 lam sum |u_i| with e_i = |u_i|, ridge on columns
    # scaled by sqrt(e_i) with weight lam has the same solution
    X, y = data(rng)
    order = np.lexsort(X.T[::-1])  # that of the program
    X, y = X[order], y[order]
    transformer, lam = gates().fit(X), 0.02
    program = GatedGroupLasso(X, y, transformer.patterns(X), lam)
    solution = solve(program, tol=1e-9)
    units = [
        int(np.flatnonzero((program.patterns.D == column[:, None]).all(axis=0))[0])
        for column in transformer.patterns(X).D.T
    ]
    U = np.asarray(solution.z)[units]
    scale = np.repeat(np.sqrt(np.linalg.norm(U, axis=1)), 4)
    ridge = Ridge(lam * len(X), solver="svd").fit(transformer.transform(X) * scale, y)
    np.testing.assert_allclose((scale * ridge.coef_).reshape(U.shape), U, atol=1e-4)


def test_lasso_lies_between_two_gated_programs(rng):
    # |u|_2 <= |u|_1 <= sqrt(d + 1) |u|_2, so the optima with weights lam, lam (l1) and sqrt(d + 1) lam are ordered
    X, y = data(rng)
    transformer, lam = gates().fit(X), 0.02
    below, above = (
        solve(GatedGroupLasso(X, y, transformer.patterns(X), weight), tol=1e-7) for weight in (lam, 2.0 * lam)
    )
    model = Lasso(lam, tol=1e-8, max_iter=100_000).fit(transformer.transform(X), y)
    residual = model.predict(transformer.transform(X)) - y
    optimum = np.mean(residual**2) + 2 * lam * np.abs(model.coef_).sum()  # twice scikit-learn's objective
    assert below.lower_bound <= optimum * (1 + 1e-7)
    assert optimum <= above.objective * (1 + 1e-6)
    assert below.objective < above.objective


def test_a_linear_model_becomes_a_relu_network(rng):
    X, y = data(rng)
    transformer = gates().fit(X)
    model = Ridge(0.1).fit(transformer.transform(X), y)
    network = transformer.to_network(model, X)
    np.testing.assert_allclose(
        network(X)[:, 0] if network(X).ndim > 1 else network(X), model.predict(transformer.transform(X)), atol=1e-8
    )
    outside = transformer.gated_network(model).outside(X)
    assert outside.any()
    assert network.n_hidden[0] == outside.size + outside.sum()  # one unit in a cone, two elsewhere


def test_weights_in_their_cones_need_one_unit_each(rng):
    X, _ = data(rng)
    source = Network.shallow(rng.standard_normal((4, 3)), rng.standard_normal(4), np.array([1.0, -2.0, 0.5, -0.1]), 0.3)
    transformer = ActivationPatternTransformer(model=source).fit(X)
    model = Ridge(1.0).fit(transformer.transform(X), source(X))
    model.coef_ = (source.v[:, None] * np.column_stack([source.W, source.b])).ravel()  # the network itself
    model.intercept_ = source.c
    assert not transformer.gated_network(model).outside(X).any()
    found = transformer.to_network(model, X)
    assert found.n_hidden == (4,)
    points = 3 * rng.standard_normal((50, 3))
    np.testing.assert_allclose(found(points), source(points), atol=1e-12)  # and so everywhere


def test_classifiers_and_several_outputs(rng):
    X, y = data(rng)
    labels = np.digitize(y, [0.4, 1.0])
    transformer = gates().fit(X)
    for targets, model in ((labels, LogisticRegression()), (labels > 0, LogisticRegression())):
        model.fit(transformer.transform(X), targets)
        scores = model.decision_function(transformer.transform(X))
        np.testing.assert_allclose(transformer.gated_network(model)(X), scores, atol=1e-10)
        np.testing.assert_allclose(transformer.to_network(model, X)(X), scores, atol=1e-7)
    model = Ridge().fit(transformer.transform(X), np.column_stack([y, -y]))
    np.testing.assert_allclose(transformer.to_network(model, X)(X), model.predict(transformer.transform(X)), atol=1e-7)


def test_rows_do_not_depend_on_order_units_or_repetition(rng):
    X, _ = data(rng)
    first = gates().fit(X)
    again = gates().fit(np.repeat(X, 2, axis=0)[::-1])
    np.testing.assert_array_equal(first.gates_, again.gates_)
    scaled = gates().fit(X * [1e3, 1e-3, 2.0] + 5)
    np.testing.assert_array_equal(first.patterns(X).D, scaled.patterns(X * [1e3, 1e-3, 2.0] + 5).D)


def test_frames_pipelines_and_searches(rng):
    pd = pytest.importorskip("pandas")
    X, y = data(rng)
    frame = pd.DataFrame(X, columns=["age", "bmi", "bp"])
    out = gates(n_gates=2).set_output(transform="pandas").fit_transform(frame)
    assert list(out.columns) == [f"gate{i}:{name}" for i in range(2) for name in ("age", "bmi", "bp", "1")]
    columns = ColumnTransformer([("gates", gates(features="patterns"), ["age", "bp"])], remainder="passthrough")
    assert list(columns.fit(frame).get_feature_names_out()) == [
        *(f"gates__gate{i}" for i in range(6)),
        "remainder__bmi",
    ]
    pipeline = make_pipeline(StandardScaler(), gates(), Ridge(0.1))
    grid = {"activationpatterntransformer__n_gates": [1, 12]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(frame, y)
    assert search.best_params_ == {"activationpatterntransformer__n_gates": 12}
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(frame), search.predict(frame))
    with pytest.raises(ValueError, match="[Ss]parse"):
        gates(sparse_output=True).set_output(transform="pandas").fit_transform(frame)


def test_what_cannot_be_meant_is_said(rng):
    X, y = data(rng)
    with pytest.raises(InvalidInputError, match="features must be one of"):
        gates(features="steps").fit(X)
    with pytest.raises(InvalidInputError, match="positive integer"):
        gates(n_gates=0).fit(X)
    steps = gates(features="patterns").fit(X)
    with pytest.raises(InvalidInputError, match="sum of steps"):
        steps.gated_network(Ridge().fit(steps.transform(X), y))
    fitted = gates().fit(X)
    with pytest.raises(InvalidInputError, match="coef_"):
        fitted.gated_network(Ridge())
    with pytest.raises(InvalidInputError, match="3 coefficients an output; 6 gates of 3 inputs make 24"):
        fitted.gated_network(Ridge().fit(X, y))
    with pytest.raises(InvalidInputError, match="beyond"):
        fitted.transform(X * 1e200)
