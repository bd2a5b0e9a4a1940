"""Verdicts on given networks: never a contradiction, the truth where it can be enumerated, all kinds of models."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from relu_truth import exact_max

from convexnn import Box, CertifyOptions, L2Ball, LInfBall, Network, SafeSNNClassifier, certify
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.propagation import Query
from convexnn.verification import Verdict, methods
from convexnn.verification.registry import METHODS, is_there

SMALL = CertifyOptions(steps=10, restarts=2)


def random_network(rng, sizes, activation="relu"):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return Network([(rng.normal(size=(o, i)) / np.sqrt(i), 0.3 * rng.normal(size=o)) for i, o in pairs], activation)


def labels_of(network, X):
    outputs = network(X)
    return (outputs > 0).astype(int) if outputs.ndim == 1 else outputs.argmax(axis=1)


def case(seed, sizes=None, activation="relu"):
    """A random network, samples (some of a wrong label) and a threat set."""
    rng = np.random.default_rng(seed)
    sizes = sizes or (2 + seed % 2, *[3, 4][: 1 + seed % 2], (1, 3)[seed // 2 % 2])
    network = random_network(rng, sizes, activation)
    X = rng.normal(size=(4, sizes[0]))
    y = labels_of(network, X)
    y[0] = (y[0] + (seed % 3 == 0)) % max(network.n_outputs, 2)
    radius = (0.05, 0.3, 1.0)[seed % 3]
    low, high = X.min(axis=0) - 0.1, X.max(axis=0) + 0.1
    threats = (L2Ball(radius), LInfBall(radius), L2Ball(radius, clip=(low, high)), LInfBall(radius, clip=(-1.0, 9.0)))
    threat = threats[seed % 4]
    X = np.clip(X, -1.0, 9.0) if seed % 4 == 3 else X
    return network, X, labels_of(network, X) if seed % 4 == 3 else y, threat


def truth(network, X, y, threat):
    return np.array([exact_max(Query.of_rivals(network, x, int(t), threat)).max() for x, t in zip(X, y, strict=True)])


@cache
def truth_of_case(seed):
    return truth(*case(seed))


def assert_sound(network, X, y, threat, report, exact):
    for verdict, value in zip(report.verdicts, exact, strict=True):
        assert verdict.lower <= value + 1e-6 * (1 + abs(value))
        assert verdict.margin >= value - 1e-6 * (1 + abs(value))
        if verdict.status == "certified":
            assert value < 1e-6
        if verdict.status == "falsified":
            assert value > -1e-6
            point = verdict.counterexample[None]
            assert threat.contains(point, X[verdict.index][None], 0.0).all()
            assert labels_of(network, point)[0] != y[verdict.index] or verdict.lower == 0.0
    report.check(network, X, y)


@pytest.mark.parametrize("seed", [0, 2, 3, 4, 6, 9])
def test_verdicts_are_the_truth_on_small_networks(seed):
    network, X, y, threat = case(seed)
    report = certify(network, X, y, threat, options=SMALL, random_state=seed)
    exact = truth_of_case(seed)
    assert_sound(network, X, y, threat, report, exact)
    clear = np.abs(exact) > 1e-3
    wanted = np.where(exact < 0, "certified", "falsified")
    assert (np.array(report.statuses) == wanted)[clear].all(), str(report)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 5, 7, 8, *range(10, 60)])
def test_verdicts_are_the_truth_on_more_networks(seed):
    test_verdicts_are_the_truth_on_small_networks(seed)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "quadratic"])
def test_every_method_is_sound(method):
    if not is_there(method):
        pytest.skip(f"{method} is not there")
    for seed in (0, 2, 9):
        network, X, y, threat = case(seed)
        options = CertifyOptions(steps=5, restarts=1, early_stop=seed % 2 == 0)
        report = certify(network, X, y, threat, method=method, options=options, keep_evidence=True, random_state=0)
        assert_sound(network, X, y, threat, report, truth_of_case(seed))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "leaky_relu", "polynomial", "identity"])
@pytest.mark.parametrize("hidden", [(4,), (4, 3)])
def test_other_activations_are_never_contradicted(activation, hidden):
    rng = np.random.default_rng(5)
    network = random_network(rng, (3, *hidden, 3), activation)
    X = rng.normal(size=(3, 3))
    y = labels_of(network, X)
    for threat in (L2Ball(0.01), LInfBall(0.5), Box(-1.0, 1.0)):
        report = certify(network, X, y, threat, options=SMALL, random_state=0)
        assert report.counts["certified"] or not isinstance(threat, L2Ball), str(report)
        for x, t, verdict in zip(X, y, report.verdicts, strict=True):
            points = threat.sample(np.repeat(x[None], 200, axis=0), rng)
            worst = Query.of_rivals(network, x, int(t), threat).values(points).max()
            assert worst <= verdict.margin
            assert verdict.status != "certified" or worst < 0


def test_margins_are_never_below_an_attack_and_methods_are_ordered():
    network, X, y, threat = case(5, (3, 6, 5, 3))
    options = CertifyOptions(early_stop=False)
    margins = {
        name: certify(network, X, y, threat, method=name, options=options, random_state=0)
        for name in ("ibp", "crown", "lp")
    }
    assert (margins["crown"].margins <= margins["ibp"].margins + 1e-9).all()
    assert (margins["lp"].margins <= margins["crown"].margins + 1e-6).all()
    assert all((report.lower <= report.margins).all() for report in margins.values())


def test_a_misclassified_sample_is_its_own_counterexample():
    network = Network.shallow(np.eye(2), np.zeros(2), np.eye(2))
    report = certify(network, [[2.0, 1.0], [2.0, 1.0]], [0, 1], LInfBall(0.1))
    assert report.statuses == ["certified", "falsified"]
    assert np.array_equal(report.counterexamples[1], [2.0, 1.0])
    assert report.verdicts[1].method == "clean"
    assert (report.clean_accuracy, report.robust_accuracy, report.certified_accuracy) == (0.5, 0.5, 0.5)


def test_radius_zero_is_the_clean_prediction():
    network = Network.shallow(np.eye(2), np.zeros(2), np.eye(2))
    for threat in (LInfBall(0.0), L2Ball(0.0), L2Ball(0.0, clip=(0.0, 3.0))):
        report = certify(network, [[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]], [0, 0, 0], threat)
        assert report.statuses == ["certified", "falsified", "falsified"]  # the last one is a tie


def test_one_sample_one_output_and_a_box():
    # f = relu(x) - 1 is positive for x > 1 only
    network = Network.shallow([[1.0]], [0.0], [1.0], -1.0)
    assert certify(network, [[0.0]], [0], Box(-5.0, 0.9)).statuses == ["certified"]
    report = certify(network, [[0.0]], [0], Box(-5.0, 1.1))
    assert report.statuses == ["falsified"]
    assert 1.0 <= report.counterexamples[0, 0] <= 1.1


def test_a_sample_outside_of_the_clip_is_no_counterexample_itself():
    # f = x - 1; the sample 2 is labelled 0 and misclassified, but every allowed point is below 0.5
    network = Network.shallow([[1.0], [-1.0]], [0.0, 0.0], [1.0, -1.0], -1.0)
    report = certify(network, [[2.0]], [0], LInfBall(1.8, clip=(0.0, 0.5)))
    assert report.statuses == ["certified"]
    assert report.clean_accuracy == 0.0
    with pytest.raises(InvalidInputError, match="Sample 0.*empty"):
        certify(network, [[2.0]], [0], LInfBall(0.1, clip=(0.0, 0.5)))


def test_dead_and_active_units_and_huge_radii():
    network = Network.shallow([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [-1e3, 1e3, 0.0], np.ones((2, 3)), [1.0, 0.0])
    assert certify(network, [[0.0, 0.0]], [0], L2Ball(50.0)).statuses == ["certified"]  # both outputs differ by 1
    assert certify(network, [[0.0, 0.0]], [1], L2Ball(1e6)).statuses == ["falsified"]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_verdicts_do_not_depend_on_units(scale):
    network, X, y, threat = case(4, (3, 5, 3))
    (W, b), (V, c) = network.layers
    scaled = Network([(W / scale, b), (V * scale, c * scale)])
    threat, other = LInfBall(0.2), LInfBall(0.2 * scale)
    one = certify(network, X, y, threat, options=SMALL, random_state=0)
    two = certify(scaled, scale * X, y, other, options=SMALL, random_state=0)
    assert one.statuses == two.statuses


def iris():
    from sklearn.datasets import load_iris

    X, target = load_iris(return_X_y=True)
    return X[:100:5], np.array(["setosa", "versicolor"])[target[:100:5]]


def assert_labels_are_kept(model, X, names):
    report = certify(model, X, names, LInfBall(1e-4), options=SMALL)
    assert report.classes == ("setosa", "versicolor")
    assert report.clean_accuracy == np.mean(model.predict(X) == names) == report.certified_accuracy
    assert set(report.to_columns()["label"]) == {"setosa", "versicolor"}
    with pytest.raises(InvalidInputError, match="class labels"):
        certify(model, X, np.full(len(X), "virginica"), LInfBall(0.1))


def test_scikit_learn_networks_and_pipelines_keep_their_labels():
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, names = iris()
    mlp = MLPClassifier((5,), solver="lbfgs", max_iter=30, random_state=0, tol=1.0)
    for model in (mlp, make_pipeline(StandardScaler(), mlp)):
        assert_labels_are_kept(model.fit(X, names), X, names)


@pytest.mark.slow
def test_torch_modules_and_our_estimators_are_taken():
    import torch

    X, names = iris()
    ours = SafeSNNClassifier(4, regularizer="l2", random_state=0, max_iter=5, tol=1e-1).fit(X, names)
    assert_labels_are_kept(ours, X, names)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).double()
    y = module(torch.tensor(X)).argmax(1).numpy()
    assert certify(module, X, y, L2Ball(1e-6)).certified_accuracy == 1.0


def test_bad_input_is_refused_in_words():
    from sklearn.neural_network import MLPRegressor

    network, X, y, threat = case(1, (3, 4, 3))
    regressor = MLPRegressor(hidden_layer_sizes=(2,), solver="lbfgs", max_iter=5, tol=1.0).fit(X, X[:, 0])
    for arguments, pattern in (
        ((network, X * np.nan, y, threat), "NaN"),
        ((network, X[:, :2], y, threat), "3 inputs"),
        ((network, X, y + 7, threat), "class labels"),
        ((network, X, y[:2], threat), "one row per row"),
        ((network, X, y, "l2"), "threat must be"),
        ((regressor, X, y, threat), "needs a classifier"),
    ):
        with pytest.raises(InvalidInputError, match=pattern):
            certify(*arguments)
    for options, pattern in (
        ({"method": "magic"}, "Unknown method 'magic'"),
        ({"method": ()}, "Unknown method"),
        ({"time_limit": -1}, "Time limits"),
        ({"random_state": -3}, "random_state"),
    ):
        with pytest.raises(InvalidInputError, match=pattern):
            certify(network, X, y, threat, **options)
    with pytest.raises(UnsupportedModelError):
        certify(object(), X, y, threat)
    with pytest.raises(InvalidInputError, match="steps"):
        CertifyOptions(steps=0)


def test_what_a_method_refuses_is_the_reason():
    network, X, y, _ = case(1, (3, 4, 3), "tanh")
    report = certify(network, X, y, L2Ball(1e-3), method="lp")
    for verdict in report.verdicts:
        assert np.isinf(verdict.margin)
        assert verdict.status == "unknown"
        assert "lp: " in verdict.reason


def test_time_limits_leave_samples_unknown_with_the_reason():
    network, X, y, _ = case(1, (3, 8, 3))
    y = labels_of(network, X)
    report = certify(network, X, y, L2Ball(0.01), time_limit=0.0)
    assert set(report.statuses) == {"unknown"}
    assert {verdict.reason for verdict in report.verdicts} == {"time limit"}
    report = certify(network, X, y, L2Ball(0.01), method="crown", sample_time_limit=0.0)
    assert {verdict.reason for verdict in report.verdicts} == {"time limit of the sample"}


def test_verdicts_cannot_contradict_themselves():
    good = {"index": 0, "label": 0, "clean": -1.0, "method": "crown"}
    for bad in (
        {"status": "certified", "margin": 0.0, "lower": -1.0},
        {"status": "certified", "margin": -1.0, "lower": -0.5},
        {"status": "falsified", "margin": 1.0, "lower": 0.5},
        {"status": "falsified", "margin": 1.0, "lower": -0.5, "counterexample": np.zeros(2)},
        {"status": "unknown", "margin": 1.0, "lower": -0.5, "counterexample": np.zeros(2)},
        {"status": "perhaps", "margin": 1.0, "lower": -0.5},
    ):
        with pytest.raises(CertificateError, match="sample 0"):
            Verdict(**good, **bad)


def test_methods_are_listed_with_what_they_refuse():
    table = methods()
    assert set(table) == set(METHODS)
    assert all(table[name].sentence.endswith(".") and table[name].refuses for name in table)
    assert not table["milp"].rigorous
    assert all(name in str(table) for name in table)
