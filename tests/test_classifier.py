"""SafeSNNClassifier: the scikit-learn contract and the promises of its docstring."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn.estimators import SafeSNNClassifier
from convexnn.exceptions import InvalidInputError, SolverError, UnsupportedModelError
from convexnn.network import Network
from convexnn.refinement import TrainingObjective
from convexnn.threats import L2Ball
from convexnn.training import SAMTrainer
from tests._families import few

CONVEX = ("lipschitz", "l2", "gated")
REGULARIZERS = (*CONVEX, "adversarial", "margin")
LOSSES = ("squared_hinge", "logistic", "hinge")
CLASSES = (2, 3)


def data(rng, k=2, n=30, d=3):
    X = rng.standard_normal((n, d))
    score = np.column_stack([np.sin(2 * X[:, 0]) + 0.5 * X[:, 1], X[:, 1] ** 2 - 0.8, -X[:, 0] - X[:, 2]])[:, :k]
    return X, score.argmax(axis=1)


def small(**parameters):
    """Sampled gates as a start: fast, and far from good."""
    return SafeSNNClassifier(**({"hidden_units": 4, "start": "random", "random_state": 0} | parameters))


def cheap(k, **parameters):
    """Where the regularizer does not matter: weight decay is the fastest with three classes."""
    return small(**({} if k == 2 else {"regularizer": "l2"}), **parameters)


def targets(y, k):
    return np.where(y > 0, 1.0, -1.0) if k == 2 else np.where(np.eye(k)[y] > 0, 1.0, -1.0)


# Every check must pass: there is no list of expected failures.
@parametrize_with_checks(
    [
        SafeSNNClassifier(hidden_units=8, random_state=0, start="random"),
        SafeSNNClassifier(hidden_units=4, regularizer="l2", lam=1e-3, loss="logistic", random_state=0, start="random"),
        SafeSNNClassifier(
            hidden_units=4, regularizer="margin", radius=0.1, random_state=0, start="random", max_iter=20
        ),
        SafeSNNClassifier(hidden_units=4, regularizer="adversarial", random_state=0, start="random", max_iter=20),
    ]
)
@pytest.mark.slow
def test_sklearn_checks(estimator, check):
    with warnings.catch_warnings():
        # degenerate checks legitimately end with "start comes back unchanged"
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.mark.parametrize("k", CLASSES)
@pytest.mark.parametrize("regularizer", CONVEX)
@pytest.mark.parametrize("loss", few(LOSSES))
def test_the_numbers_are_the_networks_own(rng, regularizer, loss, k):
    X, y = data(rng, k)
    model = small(regularizer=regularizer, loss=loss, lam=1e-2).fit(X, y)
    objective = TrainingObjective(X, targets(y, k), None, regularizer, 1e-2, loss)
    assert objective(model.network_) == pytest.approx(model.objective_, rel=1e-9)
    assert model.objective_ < model.start_objective_
    values = [row["objective"] for row in model.history_]
    assert values[0] == model.start_objective_
    assert values == sorted(values, reverse=True)
    assert values[-1] == model.objective_
    assert model.solution_.gap <= 1e-6
    assert model.objective_ <= model.solution_.objective * (1 + 1e-6)
    assert len(model.solution_.z) == model.patterns_.n_patterns
    assert model.lipschitz_.check(model.network_) <= model.lipschitz_.bound * (1 + 1e-9)
    assert model.n_iter_ >= 1


@pytest.mark.slow
@pytest.mark.parametrize("k", CLASSES)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_never_worse_at_any_stage(rng, regularizer, k):
    X, y = data(rng, k)
    model = small(regularizer=regularizer, radius=0.1, max_iter=100).fit(X, y)
    values = [model.start_objective_, *(row["objective"] for row in model.history_)]
    assert values == sorted(values, reverse=True)
    assert model.objective_ == values[-1] < model.start_objective_
    assert {"stage", "objective", "seconds"} == set(model.history_[0])


@pytest.mark.parametrize("k", CLASSES)
def test_shapes_and_predictions(rng, k):
    X, y = data(rng, k)
    names = np.array(["ant", "bee", "cow"])[:k]
    model = cheap(k, loss="logistic").fit(X, names[y])
    scores = model.decision_function(X)
    assert scores.shape == ((len(X),) if k == 2 else (len(X), k))
    np.testing.assert_array_equal(scores, model.network_(X))
    np.testing.assert_array_equal(model.classes_, names)
    best = (scores > 0).astype(int) if k == 2 else scores.argmax(axis=1)
    np.testing.assert_array_equal(model.predict(X), names[best])
    assert model.score(X, names[y]) == np.mean(names[best] == names[y])
    P = model.predict_proba(X)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    np.testing.assert_array_equal(P.argmax(axis=1), best)
    assert not hasattr(cheap(k, loss="hinge").fit(X, y), "predict_proba")


def test_probabilities_far_out_do_not_vanish(rng):
    X, y = data(rng, 3)
    model = cheap(3, loss="logistic").fit(X, y)
    P = model.predict_proba(1e6 * X)
    assert np.isfinite(P).all()
    np.testing.assert_allclose(P.sum(axis=1), 1)


@pytest.mark.parametrize("k", CLASSES)
def test_rows_repeated_weighted_permuted_and_renamed(rng, k):
    X, y = data(rng, k, n=30)
    counts = rng.integers(0, 3, len(X))
    order = rng.permutation(int(counts.sum()))
    weighted = cheap(k).fit(X, y, sample_weight=counts)
    repeated = cheap(k).fit(np.repeat(X, counts, axis=0)[order], np.repeat(y, counts)[order])
    assert weighted.network_ == repeated.network_
    renamed = cheap(k).fit(X, np.array(["a", "b", "c"])[y], sample_weight=counts)
    assert renamed.network_ == weighted.network_


@pytest.mark.parametrize("k", CLASSES)
@pytest.mark.slow
def test_class_weights_are_sample_weights(rng, k):
    X, y = data(rng, k)
    weights = {0: 3.0, 1: 0.5}
    own = cheap(k, class_weight=weights).fit(X, y)
    assert own.network_ == cheap(k).fit(X, y, sample_weight=np.array([3.0, 0.5, 1.0])[y]).network_
    balanced, weighted = cheap(k, class_weight="balanced").fit(X, y), cheap(k).fit(X, y, 1 / np.bincount(y)[y])
    assert balanced.objective_ == pytest.approx(weighted.objective_, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", CLASSES)
def test_starts(rng, k):
    torch = pytest.importorskip("torch")
    X, y = data(rng, k)
    mlp = MLPClassifier((5,), max_iter=30, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp.fit(X, y)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, k))
    for start in (mlp, module):
        model = small(start=start).fit(X, y)
        assert model.objective_ < model.start_objective_
        assert model.network_.n_outputs == (1 if k == 2 else k)
    given = small(start=mlp).fit(X, y)
    objective = TrainingObjective(X, targets(y, k), None, "lipschitz", 1e-2, "squared_hinge")
    assert given.start_objective_ == pytest.approx(objective(Network.from_sklearn(mlp)), rel=1e-9)
    assert clone(given).start is mlp
    with pytest.raises(InvalidInputError, match="classes"):
        small(start=mlp).fit(X, y + 5)


@pytest.mark.slow
@pytest.mark.parametrize("k", CLASSES)
def test_trained_starts(rng, k):
    X, y = data(rng, k, n=25)
    # a thousand steps with LipSDP of three outputs take ten seconds: test_trainers has several outputs with fewer
    words = ("adam", "sam", "adversarial", "lipschitz") if k == 2 else ("adversarial",)
    for start in (*words, SAMTrainer(rho=0.1, base="sgd")):
        model = small(start=start, radius=0.1, hidden_units=4).fit(X, y)
        assert model.objective_ < model.start_objective_


def test_a_two_output_module_is_the_difference_of_its_scores(rng):
    X, y = data(rng)
    net = Network.shallow(rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal((2, 4)), [0.1, 0.2])
    model = small(start=net).fit(X, y)
    expected = TrainingObjective(X, targets(y, 2), None, "lipschitz", 1e-2, "squared_hinge")(net.margin(1, 0))
    assert model.start_objective_ == pytest.approx(expected, rel=1e-9)


def test_methods_of_two_classes(rng):
    X, y = data(rng)
    joint, alternating = small().fit(X, y), small(method="alternating").fit(X, y)
    searched = small(pattern_search=1).fit(X, y)
    assert joint.objective_ <= alternating.objective_ * (1 + 1e-6)
    assert searched.objective_ < joint.objective_
    with pytest.raises(InvalidInputError, match="one output"):
        small(method="alternating").fit(*data(rng, 3))


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", CONVEX)
def test_more_classes_are_searched_too(rng, regularizer):
    X, y = data(rng, 3)
    plain, searched = (small(regularizer=regularizer, pattern_search=rounds).fit(X, y) for rounds in (0, 2))
    values = [row["objective"] for row in searched.history_]
    assert values == sorted(values, reverse=True)
    assert searched.objective_ == values[-1] < plain.objective_
    assert len(searched.solution_.z) == searched.patterns_.n_patterns


def test_clone_pickle_pipeline_grid_and_frames(rng):
    pd = pytest.importorskip("pandas")
    X, y = data(rng)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = small().fit(frame, y)
    np.testing.assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.decision_function(frame), model.decision_function(frame))
    np.testing.assert_array_equal(model.certified_radius(frame, y), again.certified_radius(frame, y))
    with pytest.raises(NotFittedError):
        clone(model).predict(frame)
    grid = GridSearchCV(make_pipeline(StandardScaler(), small()), {"safesnnclassifier__lam": [1e-2, 10.0]}, cv=2)
    assert grid.fit(X, y).best_params_ == {"safesnnclassifier__lam": 1e-2}


def test_time_limit_keeps_the_best_network():
    X, y = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SafeSNNClassifier(20, time_limit=0.05, random_state=0).fit(X, y)
    assert model.objective_ <= model.start_objective_


@pytest.mark.parametrize("k", CLASSES)
def test_to_torch_gives_the_same_scores(rng, k):
    torch = pytest.importorskip("torch")
    X, y = data(rng, k)
    model = cheap(k).fit(X, y)
    with torch.no_grad():
        scores = model.to_torch()(torch.as_tensor(X)).numpy()
    np.testing.assert_allclose(scores.reshape(model.decision_function(X).shape), model.decision_function(X), atol=1e-12)


@pytest.mark.parametrize(
    "parameters",
    [
        {"radius": -0.1},
        {"radius": np.nan},
        {"norm": 1},
        {"lam": 0},
        {"hidden_units": 0},
        {"loss": "squared"},
        {"loss": "multi_margin"},
        {"regularizer": "l1"},
        {"method": "direct"},
        {"start": "magic"},
        {"class_weight": {7: 1.0}},
        {"regularizer": "margin", "radius": 0.1, "pattern_search": 2},
        {"regularizer": "margin", "max_iter": 0},
        {"regularizer": "margin", "tol": -1.0},
        {"regularizer": "adversarial", "max_iter": 1.5},
        {"time_limit": "1"},
        {"lam": "1"},
    ],
)
def test_settings_that_cannot_be_meant(rng, parameters):
    X, y = data(rng)
    with pytest.raises(InvalidInputError):
        small(**parameters).fit(X, y)


def test_data_that_cannot_be_used(rng):
    X, y = data(rng)
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(InvalidInputError, match="one class"):
        small().fit(X, np.zeros(len(X), dtype=int))
    with pytest.raises(ValueError, match="NaN"):
        small().fit(np.where(X > 2, np.nan, X) + np.nan, y)
    with pytest.raises(TypeError, match="[Ss]parse"):
        small().fit(sparse.csr_array(X), y)
    with pytest.raises(ValueError, match="continuous"):
        small().fit(X, X[:, 0])
    with pytest.raises(UnsupportedModelError, match="one a class"):
        small(start=Network.shallow([[1.0] * 3], [0.0], [1.0])).fit(*data(rng, 3))
    with pytest.raises(SolverError):
        small(solver="mosek").fit(X, y)
    model = small().fit(X, y)
    with pytest.raises(InvalidInputError, match="none of the fitted classes"):
        model.certify(X, y + 7, L2Ball(0.1))
    with pytest.raises(InvalidInputError, match="rows"):
        model.certified_radius(X, y[1:])
    with pytest.raises(InvalidInputError, match="norm"):
        model.certified_radius(X, y, norm=1)
    with pytest.raises(InvalidInputError, match="threat"):
        model.certify(X, y, 0.1)


@pytest.mark.parametrize("k", CLASSES)
@pytest.mark.parametrize("regularizer", few(REGULARIZERS, 2))
def test_conflicting_duplicates_and_constant_columns(rng, regularizer, k):
    X, y = data(rng, k, n=24)
    X = np.column_stack([X, np.full(len(X), 5.0)])
    X, y = np.vstack([X, X[:6]]), np.r_[y, (y[:6] + 1) % k]
    model = small(regularizer=regularizer, radius=0.1, max_iter=60).fit(X, y)
    assert model.objective_ < model.start_objective_
    same = np.flatnonzero(model.certify(X, y, L2Ball(0.01)).certified)
    assert not {i for i in range(6)} & {i - 24 for i in same if i >= 24} & set(same), "one input, two labels"
    np.testing.assert_array_equal(model.predict(X[:6]), model.predict(X[24:]))
