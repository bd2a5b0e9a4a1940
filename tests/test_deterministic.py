"""One seed, one result: for any number of jobs, any number of threads, and however often."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, cross_val_score

from convexnn import (
    ActivationPatternTransformer,
    L2Ball,
    LInfBall,
    PolynomialSNNClassifier,
    SafeSNNClassifier,
    SafeSNNRegressor,
    SafeSNNRegressorCV,
    attack,
    certify,
    pattern_search,
    pretrain,
    robustness_table,
)

FAST = {"hidden_units": 4, "start": "random", "regularizer": "l2", "random_state": 0, "tol": 1e-4}


def data(rng, n=30):
    X = rng.standard_normal((n, 3))
    return X, np.abs(X[:, 0]) + 0.3 * X[:, 1]


def both(run):
    """Results of one job and of three at the same time."""
    with parallel_config(backend="threading"):
        return run(1), run(3)


def same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_searches_and_folds_do_not_depend_on_jobs(rng):
    X, y = data(rng)

    def grid(jobs):
        search = GridSearchCV(SafeSNNRegressor(**FAST), {"lam": [1e-3, 1e-1]}, cv=2, n_jobs=jobs).fit(X, y)
        return search.cv_results_["mean_test_score"], search.predict(X)

    def folds(jobs):
        model = SafeSNNRegressorCV(**FAST, n_lams=2, cv=2, n_jobs=jobs).fit(X, y)
        return model.cv_results_["mean_test_score"], model.predict(X)

    same(*both(grid))
    same(*both(folds))


def test_certificates_and_tables_do_not_depend_on_jobs(rng):
    X, y = data(rng, 12)
    model = SafeSNNClassifier(**FAST).fit(X, y > 0.5)

    def report(jobs):
        found = certify(model, X, y > 0.5, LInfBall(0.1), n_jobs=jobs, random_state=0)
        return found.margins, np.array([verdict.status for verdict in found.verdicts])

    def table(jobs):
        found = robustness_table({"net": model}, X, y > 0.5, [0.1], steps=3, restarts=2, random_state=0, n_jobs=jobs)
        return found.attacked, found.certified

    same(*both(report))
    same(*both(table))


@pytest.mark.slow
def test_one_class_against_the_rest_does_not_depend_on_jobs(rng):
    X, y = data(rng)
    labels = np.digitize(y, [0.5, 1.0])
    same(
        *both(
            lambda jobs: [PolynomialSNNClassifier(multi_class="ovr", tol=1e-3, n_jobs=jobs).fit(X, labels).predict(X)]
        )
    )


def test_attacks_and_searches_repeat_and_leave_the_global_generators_alone(rng):
    X, y = data(rng, 15)
    model = SafeSNNRegressor(**FAST).fit(X, y)
    before = np.random.get_state()[1].copy()
    for run in (
        lambda: attack(model, X, y, L2Ball(0.2), random_state=3, restarts=2).X_adv,
        lambda: pattern_search(model, X, y, regularizer="l2", rounds=2, random_state=3).network(X),
        lambda: ActivationPatternTransformer(5, random_state=3).fit_transform(X),
    ):
        np.testing.assert_array_equal(run(), run())
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.slow
def test_training_repeats_and_leaves_torch_s_generator_alone(rng):
    torch = pytest.importorskip("torch")
    X, y = data(rng)
    state = torch.random.get_rng_state().clone()
    first, second = (pretrain(X, y, hidden_units=5, random_state=4).network for _ in range(2))
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
def test_processes_give_the_same_numbers(rng):
    X, y = data(rng)
    model = SafeSNNRegressor(hidden_units=4, random_state=0)
    np.testing.assert_array_equal(cross_val_score(model, X, y, cv=2), cross_val_score(model, X, y, cv=2, n_jobs=2))


def test_many_threads_predict_the_same(rng):
    X, y = data(rng)
    models = [
        SafeSNNRegressor(**FAST).fit(X, y),
        PolynomialSNNClassifier(tol=1e-3).fit(X, y > 0.5),
        SafeSNNClassifier(**FAST).fit(X, y > 0.5),
    ]
    for model in models:
        known = dict(vars(model))
        expected = model.predict(X)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _, model=model: model.predict(X), range(40)))
        assert all(np.array_equal(each, expected) for each in found)
        assert vars(model).keys() == known.keys()
        assert all(vars(model)[name] is value for name, value in known.items())  # predicting changes nothing


@pytest.mark.slow
def test_many_threads_ask_for_certified_radii(rng):
    X, y = data(rng, 12)
    labels = np.digitize(y, [0.5, 1.0])
    expected = SafeSNNClassifier(**FAST).fit(X, labels).certified_radius(X, labels)
    model = SafeSNNClassifier(**FAST).fit(X, labels)  # its bounds of margins are not computed yet
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda norm: model.certified_radius(X, labels, norm), [2, np.inf, 2, 2, np.inf]))
    for k in (0, 2, 3):
        np.testing.assert_allclose(found[k], expected)
    np.testing.assert_array_equal(found[1], found[4])
