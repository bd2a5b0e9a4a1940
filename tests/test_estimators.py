"""SafeSNNRegressor: the scikit-learn contract and the promises of its docstring."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn.estimators import SafeSNNRegressor
from convexnn.exceptions import ConvexNNError, InvalidInputError, SolverError, UnsupportedModelError
from convexnn.network import Network
from convexnn.refinement import TrainingObjective
from convexnn.threats import L2Ball
from convexnn.training.gradient import AdamTrainer

REGULARIZERS = ["lipschitz", "l2", "gated"]


def data(rng, n=40, d=3):
    X = rng.standard_normal((n, d))
    return X, np.sin(2 * X[:, 0]) + 0.5 * X[:, 1]


class Brief(AdamTrainer):
    """The trained start, over after thirty epochs: what scikit-learn checks is how data reach it."""

    name = "brief"

    def __repr__(self):  # ids of tests hold it: no address
        return "Brief()"

    def run(self, session):
        session.descend(30)


def small(**parameters):
    return SafeSNNRegressor(**({"hidden_units": 10, "random_state": 0} | parameters))


# Every check must pass: there is no list of expected failures.
@parametrize_with_checks(
    [
        SafeSNNRegressor(hidden_units=8, random_state=0, start=Brief()),
        SafeSNNRegressor(hidden_units=40, regularizer="l2", lam=1e-3, random_state=0, start="random"),
    ]
)
@pytest.mark.slow
def test_sklearn_checks(estimator, check):
    with warnings.catch_warnings():
        # degenerate checks (one sample, constant data) legitimately end with "start comes back unchanged"
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_the_numbers_are_the_network_s_own(rng, regularizer):
    X, y = data(rng)
    model = small(regularizer=regularizer, lam=1e-3).fit(X, y)
    objective = TrainingObjective(X, y, None, regularizer, 1e-3)
    assert objective(model.network_) == pytest.approx(model.objective_, rel=1e-9)
    assert model.objective_ <= model.start_objective_
    values = [row["objective"] for row in model.history_]
    assert values[0] == model.start_objective_
    assert values == sorted(values, reverse=True)
    assert model.solution_.gap <= 1e-6
    assert model.solution_.lower_bound <= model.solution_.objective
    # the program adds a ridge of 1e-7 on the merged biases to the stated objective, nothing else
    assert model.objective_ <= model.solution_.objective * (1 + 1e-9)
    assert model.lipschitz_.check(model.network_) <= model.lipschitz_.bound * (1 + 1e-9)
    np.testing.assert_array_equal(model.predict(X), model.network_(X))
    assert model.n_iter_ >= 1


@pytest.mark.slow
def test_methods_and_starts(rng):
    X, y = data(rng)
    joint = small().fit(X, y)
    alternating = small(method="alternating").fit(X, y)
    assert joint.start_objective_ == alternating.start_objective_
    assert joint.objective_ <= alternating.objective_ * (1 + 1e-6)
    for start in ("sgd", "random"):
        model = small(start=start).fit(X, y)
        assert model.objective_ < model.start_objective_
        assert model.objective_ < np.var(y)


def test_starts_from_given_models(rng):
    torch = pytest.importorskip("torch")
    from sklearn.neural_network import MLPRegressor

    X, y = data(rng)
    network = Network.shallow(rng.standard_normal((6, 3)), rng.standard_normal(6), rng.standard_normal(6))
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = MLPRegressor(hidden_layer_sizes=(7,), max_iter=20, random_state=0).fit(X, y)
    for start, units in ((network, 6), (module, 5), (mlp, 7)):
        model = SafeSNNRegressor(start=start).fit(X, y)
        assert model.network_.n_hidden == (units,)
        assert model.objective_ <= model.start_objective_
    with pytest.raises(UnsupportedModelError, match="Softmax"):
        SafeSNNRegressor(start=torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Softmax(dim=1))).fit(X, y)
    with pytest.raises(InvalidInputError, match="inputs"):
        SafeSNNRegressor(start=network).fit(X[:, :2], y)


def test_attack_is_below_certificate(rng):
    X, y = data(rng)
    model = small().fit(X, y)
    threat = L2Ball(0.2)
    attacked, certified = model.attack(X, y, threat, random_state=0), model.certify(X, y, threat)
    assert (certified.clean <= attacked.values * (1 + 1e-12)).all()
    assert (attacked.values <= certified.certified).all()


@pytest.mark.slow
def test_fit_is_repeatable_and_ignores_row_order(rng):
    X, y = data(rng)
    first = small(start=Brief()).fit(X, y).predict(X)
    np.testing.assert_array_equal(first, small(start=Brief()).fit(X, y).predict(X))
    order = rng.permutation(len(X))
    np.testing.assert_array_equal(first, small(start=Brief()).fit(X[order], y[order]).predict(X))


@pytest.mark.slow
def test_weights_equal_repetitions(rng):
    X, y = data(rng, n=30)
    weight = rng.integers(0, 3, 30)
    repeated = np.repeat(np.arange(30), weight)
    weighted = small(start=Brief()).fit(X, y, sample_weight=weight).predict(X)
    np.testing.assert_allclose(weighted, small(start=Brief()).fit(X[repeated], y[repeated]).predict(X), atol=1e-7)


def test_global_random_state_is_left_alone(rng):
    X, y = data(rng, n=20)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    small().fit(X, y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_pickle_and_clone(rng):
    X, y = data(rng, n=30)
    model = small().fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.lipschitz_.check(again.network_) == model.lipschitz_.check(model.network_)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_a_clone_keeps_a_fitted_start(rng):
    from sklearn.frozen import FrozenEstimator
    from sklearn.neural_network import MLPRegressor

    X, y = data(rng, n=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = MLPRegressor(hidden_layer_sizes=(4,), max_iter=20, random_state=0).fit(X, y)
    network = Network.from_sklearn(mlp)
    for start in (network, mlp, FrozenEstimator(mlp), small(lam=0.1).fit(X, y)):
        model = clone(SafeSNNRegressor(start=start))
        assert not hasattr(model, "network_")
        expected = SafeSNNRegressor(start=start).fit(X, y)
        assert model.fit(X, y).network_ == expected.network_
    frozen = [FrozenEstimator(mlp)]  # a search clones the values of its grid: only a frozen model stays fitted there
    search = GridSearchCV(SafeSNNRegressor(), {"start": [network, *frozen]}, cv=2, error_score="raise").fit(X, y)
    assert np.ptp(search.cv_results_["mean_test_score"]) < 1e-6


@pytest.mark.slow
def test_pipeline_grid_search_and_workers(rng):
    X, y = data(rng)
    X = X * [1.0, 50.0, 1e-3] + 10
    pipeline = make_pipeline(StandardScaler(), small(start="random"))
    search = GridSearchCV(pipeline, {"safesnnregressor__lam": [1e-3, 1e-1]}, cv=2, n_jobs=2).fit(X, y)
    assert search.best_params_["safesnnregressor__lam"] in (1e-3, 1e-1)
    brief = small(start=Brief())
    serial = cross_val_score(brief, X, y, cv=2)
    np.testing.assert_array_equal(serial, cross_val_score(brief, X, y, cv=2, n_jobs=2))


def test_data_frames(rng):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X, y = data(rng, n=30)
    reference = small().fit(X, y).predict(X)
    for frame in (pd.DataFrame(X, columns=["a", "b", "c"]), pl.DataFrame(X, schema=["a", "b", "c"])):
        model = small().fit(frame, y)
        assert list(model.feature_names_in_) == ["a", "b", "c"]
        np.testing.assert_array_equal(model.predict(frame), reference)


def test_to_torch_agrees(rng):
    torch = pytest.importorskip("torch")
    X, y = data(rng, n=30)
    model = small().fit(X, y)
    outputs = model.to_torch()(torch.from_numpy(X))[:, 0].detach().numpy()
    np.testing.assert_allclose(outputs, model.predict(X), rtol=1e-12, atol=1e-12)
    assert model.to_torch(torch.float32)[0].weight.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_corners(rng, regularizer):
    X, y = data(rng, n=30)
    start = Brief() if regularizer == "lipschitz" else "random"  # a trained start of a corner costs more than all else
    cases = {
        "one sample": (X[:1], y[:1]),
        "more units than samples": (X[:4], y[:4]),
        "constant target": (X, np.full(30, 7.0)),
        "constant columns": (X * [1, 0, 0] + 1, y),
        "one column": (X[:, :1], y),
        "large target": (X, 1e6 * y + 1e7),
        "tiny features": (1e-6 * X, y),
        "repeated rows": (np.repeat(X[:3], 10, axis=0), y),
    }
    for name, (inputs, targets) in cases.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = small(regularizer=regularizer, start=start).fit(inputs, targets)
        assert np.isfinite(model.predict(inputs)).all(), name
        assert model.objective_ <= model.start_objective_, name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constant = small(regularizer=regularizer, start=start).fit(X, np.full(30, 7.0))
    np.testing.assert_allclose(constant.predict(X), 7.0, atol=1e-2)


def test_huge_lam_gives_the_mean(rng):
    X, y = data(rng)
    model = small(lam=1e6).fit(X, y)
    # the only network of zero slope that minimizes the squared error is the mean of y
    np.testing.assert_allclose(model.predict(X), y.mean(), atol=1e-3)


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"hidden_units": 0}, "hidden_units"),
        ({"hidden_units": 2.5}, "hidden_units"),
        ({"regularizer": "l1"}, "regularizer"),
        ({"method": "x"}, "method"),
        ({"lam": 0}, "lam"),
        ({"lam": np.inf}, "lam"),
        ({"start": "lbfgs"}, "lbfgs"),
        ({"solver": "cplex"}, "cplex"),
        ({"tol": -1}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"time_limit": -1}, "time_limit"),
        ({"pattern_search": -1}, "pattern_search"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_parameters_are_sentences(rng, parameters, word):
    X, y = data(rng, n=12)
    with pytest.raises(ConvexNNError, match=word):
        small(**parameters).fit(X, y)


def test_bad_data_are_sentences(rng):
    X, y = data(rng, n=12)
    for bad in (np.where(X > 1, np.nan, X), np.where(X > 1, np.inf, X), X[:, 0], X[:0]):
        with pytest.raises(ValueError, match=r"."):
            small().fit(bad, y[: len(bad)])
    with pytest.raises(ValueError, match="inconsistent"):
        small().fit(X, y[:-1])
    for scaled in ((X * 1e160, y), (X, y * 1e160)):
        with pytest.raises(InvalidInputError, match="overflows; rescale"):
            small().fit(*scaled)
    for weight in (-np.ones(12), np.zeros(12), np.ones(3), np.full(12, np.nan), np.full(12, 1e308)):
        with pytest.raises(ValueError, match="sample_weight"):
            small().fit(X, y, sample_weight=weight)


def test_unlicensed_mosek(rng):
    from convexnn.solvers import available_solvers

    if available_solvers()["mosek"].usable:
        pytest.skip("MOSEK is licensed here")
    X, y = data(rng, n=12)
    with pytest.raises(SolverError, match=r"(?i)mosek"):
        small(solver="mosek").fit(X, y)


def test_time_limit_still_returns_a_network(rng):
    X, y = data(rng, n=200, d=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SafeSNNRegressor(50, time_limit=0.05, random_state=0).fit(X, y)
    assert model.objective_ <= model.start_objective_
