"""PolynomialSNNClassifier and PolynomialSNNRegressor: the promises of their docstrings."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn.attacks import attack
from convexnn.estimators import PolynomialSNNClassifier, PolynomialSNNRegressor
from convexnn.exceptions import ConvexNNError
from convexnn.network import Network
from convexnn.restrictions import MulticlassPolynomialProgram, PolynomialProgram
from convexnn.threats import L2Ball, LInfBall

NAMES = np.array(["ash", "birch", "cedar"])


def blobs(seed=0, n=45, d=3, k=3, spread=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return rng.normal(size=(n, d)) + spread * np.eye(k, d)[y], NAMES[y]


def curve(seed=0, n=40, d=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, 0.5 * X[:, 0] ** 2 + X[:, 1]


def indices(y):
    return np.searchsorted(NAMES, y)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared_hinge", "hinge", "logistic"])
def test_two_classes_are_the_binary_program(loss):
    X, y = blobs(k=2)
    model = PolynomialSNNClassifier(0.3, loss=loss, lam=0.02).fit(X, y)
    program = PolynomialProgram(X, 2.0 * indices(y) - 1, lam=0.02, radius=0.3, loss=loss)
    assert program.network_objective(model.network_) == pytest.approx(model.objective_, rel=1e-8)
    assert model.lower_bound_ <= model.objective_ <= model.lower_bound_ * (1 + 1.1e-4)
    assert model.lower_bound_ == program.lower_bound(model.solution_.dual)
    assert model.solution_.scope == "global"
    assert model.solution_.global_gap == model.solution_.gap <= 1e-4
    reference = PolynomialSNNClassifier(0.3, loss=loss, lam=0.02, method="sdp", tol=1e-6).fit(X, y)
    assert model.lower_bound_ <= reference.objective_ * (1 + 1e-9)
    assert reference.lower_bound_ <= model.objective_ * (1 + 1e-9)
    assert list(model.classes_) == ["ash", "birch"]
    np.testing.assert_array_equal(model.predict(X), NAMES[(model.network_(X) > 0).astype(int)])
    assert not model.trivial_


@pytest.mark.parametrize("multi_class", ["multimargin", "ovr"])
def test_several_classes(multi_class):
    X, y = blobs()
    model = PolynomialSNNClassifier(0.3, lam=0.02, multi_class=multi_class).fit(X, y)
    assert model.lower_bound_ <= model.objective_ <= model.lower_bound_ * (1 + 1.1e-4)
    assert model.score(X, y) > 0.7
    assert model.decision_function(X).shape == (45, 3)
    np.testing.assert_array_equal(model.predict(X), NAMES[model.network_(X).argmax(axis=1)])
    if multi_class == "multimargin":
        program = MulticlassPolynomialProgram(X, indices(y), lam=0.02, radius=0.3, loss="squared_hinge")
        assert program.network_objective(model.network_) == pytest.approx(model.objective_, rel=1e-8)
    else:
        parts = [
            PolynomialProgram(X, np.where(y == name, 1.0, -1.0), lam=0.02, radius=0.3).network_objective(
                model.network_.select(c)
            )
            for c, name in enumerate(NAMES)
        ]
        assert np.mean(parts) == pytest.approx(model.objective_, rel=1e-8)


@pytest.mark.slow
def test_one_against_the_rest_does_not_depend_on_the_jobs():
    X, y = blobs(n=15)
    one = PolynomialSNNClassifier(0.3, multi_class="ovr").fit(X, y)
    two = PolynomialSNNClassifier(0.3, multi_class="ovr", n_jobs=2).fit(X, y)
    assert one.network_ == two.network_


def test_regression():
    X, y = curve()
    model = PolynomialSNNRegressor(0.2, lam=1e-3).fit(X, y)
    program = PolynomialProgram(X, y, lam=1e-3, radius=0.2, loss="squared")
    assert program.network_objective(model.network_) == pytest.approx(model.objective_, rel=1e-8)
    assert model.lower_bound_ <= model.objective_ <= model.lower_bound_ * (1 + 1.1e-4)
    assert model.score(X, y) > 0.8
    # targets of such a network are fitted by a small lam
    exact = model.network_(X)
    assert PolynomialSNNRegressor(lam=1e-5).fit(X, exact).score(X, exact) > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "classes", "regression"])
def test_standardized_programs_keep_the_raw_radius(rng, kind):
    X, y = curve() if kind == "regression" else blobs(k=2 if kind == "binary" else 3)
    units = np.array([1e-2, 1.0, 50.0])
    raw = X * units + 7
    estimator = PolynomialSNNRegressor if kind == "regression" else PolynomialSNNClassifier
    model = estimator(0.01, standardize=True).fit(raw, y)
    z = StandardScaler().fit(raw)
    # the worst case of the training loss in raw units, by attacks on the raw network, is below the loss of the program
    found = attack(model, raw, y, L2Ball(0.01), method="exact")
    reg = model.objective_ - _robust_loss(model, raw, y, found, kind)
    assert reg >= -1e-9
    # and it is attained: what is left is the regularizer of the network in scaled coordinates
    inner = model.network_.W * z.scale_
    np.testing.assert_allclose(np.linalg.norm(inner, axis=1), 1.0, rtol=1e-9)
    unit = y.std() if kind == "regression" else 1.0
    assert reg == pytest.approx(1e-2 * np.abs(model.network_.v).sum() / unit, rel=1e-3)


def _robust_loss(model, X, y, found, kind):
    if kind == "regression":
        return found.values.mean() / y.var()
    if kind == "binary":
        return (np.maximum(1 + found.values, 0) ** 2).mean()
    own, total = indices(y), 0.0
    for c, rival in ((c, rival) for c in range(3) for rival in range(3) if c != rival):
        mine = X[own == c]
        worst = attack(model.network_.margin(c, rival), mine, np.ones(len(mine), int), L2Ball(0.01), method="exact")
        total += (np.maximum(1 + worst.values, 0) ** 2).sum()
    return total / 3 / len(X)


@pytest.mark.slow
@pytest.mark.parametrize("standardize", [False, True])
def test_linf_objectives_are_above_attacks_in_the_box(standardize):
    X, y = blobs(k=2)
    X = X * [1.0, 3.0, 0.5]
    model = PolynomialSNNClassifier(0.2, norm=np.inf, standardize=standardize).fit(X, y)
    found = attack(model, X, y, LInfBall(0.2), method="pgd", random_state=0)
    regularizer = 1e-2 * np.abs(model.network_.v).sum()
    assert (np.maximum(1 + found.values, 0) ** 2).mean() <= model.objective_ - regularizer + 1e-9
    assert any("ellipsoid" in note for note in model.solution_.notes)
    plain = PolynomialSNNClassifier(0.2, standardize=standardize).fit(X, y)
    assert plain.objective_ < model.objective_  # the ball lies in the box


def test_probabilities():
    X, y = blobs()
    for multi_class in ("multimargin", "ovr"):
        model = PolynomialSNNClassifier(loss="logistic", multi_class=multi_class).fit(X, y)
        probabilities = model.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
        np.testing.assert_array_equal(probabilities.argmax(axis=1), model.decision_function(X).argmax(axis=1))
    two = PolynomialSNNClassifier(loss="logistic").fit(*blobs(k=2))
    f = two.decision_function(X)
    np.testing.assert_allclose(two.predict_proba(X)[:, 1], 1 / (1 + np.exp(-f)), rtol=1e-12)
    assert not hasattr(PolynomialSNNClassifier(), "predict_proba")
    with pytest.raises(AttributeError) as refusal:
        _ = PolynomialSNNClassifier().predict_proba
    assert "logistic" in str(refusal.value.__cause__)


def test_a_radius_without_robust_classifier_is_named():
    X, y = blobs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for radius in (50.0, 1e6):
            for multi_class in ("multimargin", "ovr"):
                model = PolynomialSNNClassifier(radius, multi_class=multi_class).fit(X, y)
                assert model.trivial_
                assert model.solution_.gap <= 1e-4
                assert any("radius" in note for note in model.solution_.notes)
    # balanced classes: the zero network with the loss (C - 1) / C is optimal
    model = PolynomialSNNClassifier(50.0).fit(X, y)
    assert model.objective_ == pytest.approx(2 / 3, rel=1e-4)
    assert model.lower_bound_ == pytest.approx(2 / 3, rel=1e-4)
    assert PolynomialSNNRegressor(1e6).fit(*curve()).solution_.gap <= 1e-4


def test_corners():
    X, y = blobs(n=20, k=2)
    own = indices(y)
    cases = {
        "constant columns": (X * [1, 0, 0] + [0, 3, 0], y),
        "one column": (X[:, :1], y),
        "two samples": (X[:2], y[:2]),
        "conflicting labels": (np.vstack([X[:2], X[:2]]), np.append(y[:2], y[1::-1])),
        "repeated rows": (np.repeat(X[:2], 5, axis=0), np.repeat(y[:2], 5)),
        "tiny": (1e-3 * X, y),
        "large": (10 * X, y),
        "booleans": (X, own == 1),
        "shifted integers": (X, own * 7 - 3),
    }
    for name, (inputs, labels) in cases.items():
        for standardize in (False, True):
            model = PolynomialSNNClassifier(0.1, standardize=standardize).fit(inputs, labels)
            assert model.solution_.gap <= 1e-4, name
            assert set(model.predict(inputs)) <= set(labels), name
    conflict = PolynomialSNNClassifier(lam=1e-4).fit(*cases["conflicting labels"])
    assert conflict.objective_ == pytest.approx(
        1.0, abs=1e-3
    )  # two opposite labels: the best mean of (1 -+ f)_+^2 is 1
    flat = PolynomialSNNRegressor(0.1, standardize=True).fit(X, np.full(20, 7.0))
    np.testing.assert_allclose(flat.predict(X), 7.0, atol=1e-9)


@pytest.mark.parametrize("estimator", [PolynomialSNNClassifier, PolynomialSNNRegressor])
@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"radius": -0.1}, "radius"),
        ({"radius": np.nan}, "radius"),
        ({"norm": 1}, "norm"),
        ({"lam": 0}, "lam"),
        ({"lam": "small"}, "lam"),
        ({"loss": "absolute"}, "loss"),
        ({"coefficients": (1.0, 2.0)}, "coefficients"),
        ({"coefficients": "relu"}, "coefficients"),
        ({"method": "adam"}, "method"),
        ({"tol": -1}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"time_limit": -1}, "time_limit"),
    ],
)
def test_bad_parameters_are_sentences(estimator, parameters, word):
    X, y = curve(n=12)
    with pytest.raises(ConvexNNError, match=word):
        estimator(**parameters).fit(X, y > 0 if estimator is PolynomialSNNClassifier else y)


def test_bad_data_are_sentences():
    X, y = blobs(n=12)
    for bad in (np.full(12, "ash"), y[:-1], np.linspace(0, 1, 12)):
        with pytest.raises(ValueError, match=r"one class|inconsistent|continuous"):
            PolynomialSNNClassifier().fit(X, bad)
    with pytest.raises(ConvexNNError, match="one class"):
        PolynomialSNNClassifier().fit(X, y, sample_weight=(y == "ash").astype(float))
    with pytest.raises(ConvexNNError, match="multi_class"):
        PolynomialSNNClassifier(multi_class="crammer").fit(X, y)
    with pytest.raises(ConvexNNError, match="margin loss"):
        PolynomialSNNClassifier(loss="squared").fit(X, y)
    with pytest.raises(ConvexNNError, match="regressor"):
        PolynomialSNNRegressor(loss="hinge").fit(X, np.arange(12.0))
    with pytest.raises(ConvexNNError, match="overflows"):
        PolynomialSNNClassifier().fit(X * 1e160, y)
    for bad in ({"ash": -1.0}, {"oak": 1.0}, {"ash": 0, "birch": 0}, "even"):
        with pytest.raises(ConvexNNError, match="class_weight"):
            PolynomialSNNClassifier(class_weight=bad).fit(X, y)


@pytest.mark.slow
def test_weights_equal_repetitions_and_rows_have_no_order(rng):
    X, y = blobs(n=30)
    weight = rng.integers(0, 3, 30)
    repeated = np.repeat(np.arange(30), weight)
    order = rng.permutation(30)
    for options in ({}, {"standardize": True}, {"class_weight": "balanced"}, {"multi_class": "ovr"}):
        model = PolynomialSNNClassifier(0.2, **options)
        first = model.fit(X, y, sample_weight=weight).decision_function(X)
        np.testing.assert_allclose(model.fit(X[repeated], y[repeated]).decision_function(X), first, atol=1e-9)
        second = model.fit(X, y).decision_function(X)
        np.testing.assert_allclose(model.fit(X[order], y[order]).decision_function(X), second, atol=1e-12)


def test_class_weights_are_sample_weights():
    X, y = blobs(n=30)
    weight = {"ash": 3.0, "birch": 1.0, "cedar": 0.5}
    one = PolynomialSNNClassifier(0.2, class_weight=weight).fit(X, y)
    two = PolynomialSNNClassifier(0.2).fit(X, y, sample_weight=[weight[label] for label in y])
    assert one.network_ == two.network_
    alone = PolynomialSNNClassifier(0.2, class_weight={"ash": 1e4}).fit(X, y)
    assert (alone.predict(X) == "ash").mean() >= 0.9


def test_pickle_clone_torch_and_files(tmp_path):
    torch = pytest.importorskip("torch")
    X, y = blobs()
    model = PolynomialSNNClassifier(0.2, standardize=True).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    outputs = model.to_torch()(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(outputs, model.decision_function(X), rtol=1e-10, atol=1e-10)
    assert Network.load(model.network_.save(tmp_path / "network.npz")) == model.network_
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


@pytest.mark.slow
def test_pipelines_searches_and_frames():
    pd = pytest.importorskip("pandas")
    X, y = blobs()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = PolynomialSNNClassifier(0.2).fit(frame, y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    np.testing.assert_array_equal(model.predict(frame), PolynomialSNNClassifier(0.2).fit(X, y).predict(X))
    pipeline = make_pipeline(StandardScaler(), PolynomialSNNClassifier(0.2))
    search = GridSearchCV(pipeline, {"polynomialsnnclassifier__lam": [1e-2, 1e3]}, cv=2).fit(frame, y)
    assert search.best_params_ == {"polynomialsnnclassifier__lam": 1e-2}
    assert cross_val_score(PolynomialSNNRegressor(), *curve(), cv=2).min() > 0.5


def test_a_time_limit_keeps_the_best_network_and_an_honest_gap():
    X, y = blobs(n=300, d=8)
    model = PolynomialSNNClassifier(0.3, lam=1e-4, tol=1e-9, time_limit=1e-3).fit(X, y)
    program = MulticlassPolynomialProgram(X, indices(y), lam=1e-4, radius=0.3, loss="squared_hinge")
    assert program.network_objective(model.network_) == pytest.approx(model.objective_, rel=1e-8)
    assert model.lower_bound_ <= model.objective_ <= 2 / 3 * (1 + 1e-12)  # never worse than the zero network


@pytest.mark.parametrize("multi_class", ["multimargin", "ovr"])
def test_the_scope_is_global_only_where_the_gap_was_reached(multi_class):
    X, y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 3
    rough = PolynomialSNNClassifier(0.1, multi_class=multi_class, lam=1e-4, tol=1e-9, max_iter=1).fit(X, y).solution_
    good = PolynomialSNNClassifier(0.1, multi_class=multi_class, lam=0.05, tol=1e-3).fit(X, y).solution_
    for found, tol in ((rough, 1e-9), (good, 1e-3)):
        assert found.scope == ("global" if found.gap <= tol else "patterns")
        assert found.global_gap == found.gap
    assert (rough.scope, good.scope) == ("patterns", "global")
