"""SafeRegionClassifier: the theorem on the region, labels and weights, refusals, and scikit-learn's own checks."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from convexnn import Box, L2Ball, LInfBall, SafeRegionClassifier, as_network
from convexnn.certificate import Certificate
from convexnn.datasets import make_adversarial_spheres
from convexnn.estimators.safe_region_fit import proved_regions, samples
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.regions import Polytope, ellipsoid, rotated_box
from convexnn.regions.region import as_region


# Quick tests fit a handful of networks between them: every fit ends with a proof.
def small(region=None, **options):
    defaults = {"hidden_units": 8, "max_iter": 60, "batch_size": 64, "random_state": 0}
    return SafeRegionClassifier(L2Ball(1.0) if region is None else region, **(defaults | options))


@pytest.fixture(scope="module")
def spheres():
    return make_adversarial_spheres(200, 3, radius=1.6, random_state=0)


@pytest.fixture(scope="module")
def fitted(spheres):
    return small().fit(*spheres)


def points(region, rng, n=500):
    return np.vstack([region.sample(n, rng), region.sample_surface(n, rng)])


TURN = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
REGIONS = [
    ("pairs", ellipsoid(np.zeros(3), np.ones(3))),
    pytest.param("dense", ellipsoid(np.zeros(3), np.ones(3)), marks=pytest.mark.slow),
    pytest.param("auto", ellipsoid([0.5, 0.0, -1.0], 0.3 * TURN * [1.0, 2.0, 3.0]), marks=pytest.mark.slow),
    pytest.param("facets", rotated_box(np.zeros(3), 0.6 * np.ones(3)), marks=pytest.mark.slow),
    ("auto", rotated_box([0.1, 0.0, 0.2], 0.5 * TURN)),
]


@pytest.mark.parametrize(("method", "region"), REGIONS)
def test_no_point_of_the_region_scores_above_the_proved_bound(method, region, rng) -> None:
    X = region.center + (points(region, rng, 50) - region.center) * rng.choice([0.5, 2.0], size=(100, 1))
    y = np.where(region.contains(X), "in", "out")
    model = small(region, method=method, safe_class="in").fit(X, y)
    assert model.region_bound_ < 0
    assert model.check() == model.region_bound_
    assert model.region_certificate_.quantity == "region maximum"
    rounding = 1e-13  # of evaluations in float64; the bound is about real numbers
    assert model.decision_function(points(region, rng)).max() <= model.region_bound_ + rounding
    assert (model.predict(points(region, rng)) == "in").all()
    assert 0 <= model.start_accuracy_ <= 1
    assert model.training_.lower <= model.region_bound_ + rounding


@pytest.mark.slow
def test_two_hidden_layers_and_leaky_units_are_proved(spheres, rng) -> None:
    region, found = as_region(L2Ball(1.0), 3), {}
    for name, options in (("deep", {"hidden_layers": (6, 4)}), ("leaky", {"activation": "leaky_relu"})):
        model = small(hidden_units=None if name == "deep" else 8, **options).fit(*spheres)
        assert model.check() == model.region_bound_ < 0
        assert model.decision_function(points(region, rng)).max() <= model.region_bound_ + 1e-13
        found[name] = model.network_
    assert found["deep"].n_hidden == (6, 4)
    assert found["leaky"].activation.slope > 0


def test_two_hidden_layers_are_refused_for_boxes(spheres) -> None:
    with pytest.raises(InvalidInputError, match="hidden_layers"):
        small(LInfBall(0.5), hidden_units=None, hidden_layers=(4, 3)).fit(*spheres)
    with pytest.raises(InvalidInputError, match="hidden_layers and hidden_units"):
        small(hidden_layers=(4,)).fit(*spheres)


@pytest.mark.slow
def test_a_union_is_safe_on_every_member(rng) -> None:
    union = [ellipsoid([2.0, 0.0], [1.0, 1.0]), ellipsoid([-2.0, 0.0], [1.0, 0.5])]
    X = rng.uniform(-6, 6, (300, 2))
    accept = ~(union[0].contains(X, 0.2) | union[1].contains(X, 0.2))
    model = small(union).fit(X, accept)
    assert len(model.region_certificates_) == 2
    assert model.region_bound_ == max(one.bound for one in model.region_certificates_) < 0
    for region in union:
        assert not model.predict(points(region, rng)).any()


@pytest.mark.slow
def test_a_box_and_a_ball_of_threats_are_regions(spheres) -> None:
    X, y = spheres
    cube = small(Box([-0.2, -0.2, 0.0], [0.2, 0.3, 0.4]), safe_class=0).fit(X[y == 1], y[y == 1])
    assert cube.check() < 0
    assert small(LInfBall(0.5)).fit(X, y).check() < 0


def test_a_polytope_is_a_region(tmp_path) -> None:
    """The triangle ``{x >= 0, x_0 + x_1 <= 1}`` has three facets: three units accept what lies outside."""
    rng = np.random.default_rng(3)
    corner = Polytope(np.vstack([-np.eye(2), np.ones((1, 2))]), [0.0, 0.0, 1.0])
    X = rng.uniform(-1.0, 2.0, (200, 2))
    y = np.where(corner.contains(X), "in", "out")
    plain = small(corner, hidden_units=3, safe_class="in", max_iter=0)
    model = clone(plain).set_params(batch_size=32).fit(X, y)
    assert model.get_params()["region"] == corner
    assert "Polytope" in repr(model)
    assert model.check() == model.region_bound_ < 0
    vertices = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    grid = corner.sample(500, rng)
    assert model.decision_function(np.vstack([vertices, grid])).max() <= model.region_bound_ + 1e-13
    assert model.start_accuracy_ < 0.7
    assert model.score(X, y) > 0.97
    assert proved_regions(model.region_certificate_) == (corner,)
    again = Certificate.load(model.region_certificate_.save(tmp_path / "proof.npz"))  # without pickle
    network = Network.load(model.safe_network_.save(tmp_path / "net.npz"))
    assert again.check(network) < 0
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).decision_function(X), network(X))
    for region, method, named in (
        ([corner, corner], "auto", "alone"),
        (Polytope(np.vstack([-np.eye(3), np.ones((1, 3))]), [0.0, 0.0, 0.0, 1.0]), "auto", "3 coordinates"),
        (corner, "pairs", "polytope came"),
    ):
        with pytest.raises(InvalidInputError, match=named):
            clone(plain).set_params(region=region, method=method).fit(X, y)


@pytest.mark.slow
def test_the_safe_class_may_be_the_second(spheres) -> None:
    X, y = spheres
    flipped = small(safe_class="z").fit(X, np.where(y == 0, "z", "a"))
    plain = small().fit(X, y)
    np.testing.assert_array_equal(flipped.classes_, ["a", "z"])
    assert flipped.safe_class_ == "z"
    np.testing.assert_array_equal(flipped.decision_function(X), -plain.decision_function(X))
    np.testing.assert_array_equal(flipped.predict(X) == "z", plain.predict(X) == 0)
    np.testing.assert_array_equal(as_network(flipped)(X), flipped.decision_function(X))
    assert flipped.region_certificate_.check(flipped.safe_network_) < 0
    with pytest.raises(CertificateError):
        flipped.region_certificate_.check(flipped.network_)


@pytest.mark.slow
def test_samples_inside_are_not_needed(spheres) -> None:
    X, y = spheres
    outer = small(safe_class=0).fit(X[y == 1], y[y == 1])
    np.testing.assert_array_equal(outer.classes_, [0, 1])
    # samples of the safe class inside the region change nothing: the proof covers them
    np.testing.assert_array_equal(outer.decision_function(X), small().fit(X, y).decision_function(X))
    assert outer.score(X, y) > 0.7


@pytest.mark.slow
def test_weights_equal_repetitions_and_order_does_not_matter(spheres, rng) -> None:
    X, y = spheres
    weight = rng.integers(0, 3, len(X))
    shuffled = rng.permutation(np.repeat(np.arange(len(X)), weight))
    weighted = small(max_iter=20).fit(X, y, sample_weight=weight)
    repeated = small(max_iter=20).fit(X[shuffled], y[shuffled])
    np.testing.assert_array_equal(weighted.decision_function(X), repeated.decision_function(X))


def test_draws_follow_the_weights(rng) -> None:
    X, accept = np.arange(6.0)[:, None], np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    sampler, labels = samples(X, accept, np.array([1.0, 2.0, 5.0, 3.0, 1.0, 0.0]))
    assert labels is None
    rows, drawn = sampler(800, rng)
    found = [int(((rows[:, 0] == k) & (drawn == accept[k])).sum()) for k in range(6)]
    np.testing.assert_allclose(found, [100, 200, 500, 600, 200, 0], atol=1)  # 800 a class, shares 1/8 ... 3/4, 1/4


@pytest.mark.slow
def test_samples_that_can_never_be_accepted_are_counted(spheres) -> None:
    X, y = spheres
    odd = y.copy()
    odd[np.flatnonzero(y == 0)[:7]] = 1
    with pytest.warns(UserWarning, match="7 of 107 samples of class 1 lie in the region"):
        model = small(max_iter=5).fit(X, odd)
    assert model.n_unreachable_ == 7
    assert model.check() < 0
    with pytest.raises(InvalidInputError, match="All 100 samples"):
        small(L2Ball(3.0)).fit(X, y)


BAD = [
    ({"region": None}, "A region is needed"),
    ({"region": "ball"}, "region"),
    ({"region": []}, "at least one"),
    ({"region": ellipsoid(np.zeros(4), np.ones(4))}, "4 coordinates"),
    ({"region": [L2Ball(1.0), LInfBall(0.5)]}, "box"),
    ({"method": "magic"}, "method"),
    ({"method": "pairs", "region": LInfBall(0.5)}, "box"),
    ({"method": "facets"}, "box"),
    ({"hidden_units": 0}, "hidden_units"),
    ({"hidden_units": 2.5}, "hidden_units"),
    ({"max_iter": -1}, "max_iter"),
    ({"batch_size": 0}, "batch_size"),
    ({"learning_rate": 0.0}, "learning_rate"),
    ({"negative_weight": -1.0}, "negative_weight"),
    ({"time_limit": -1.0}, "time_limit"),
    ({"safe_class": 5}, "safe_class"),
]


@pytest.mark.parametrize(("options", "named"), BAD)
def test_bad_settings_are_named(options, named, spheres) -> None:
    options = {"region": L2Ball(1.0), **options}
    with pytest.raises(InvalidInputError, match=named):
        SafeRegionClassifier(**options).fit(*spheres)


def test_bad_labels_are_named(spheres) -> None:
    X, y = spheres
    with pytest.raises(InvalidInputError, match="one class only"):
        small().fit(X, np.zeros(len(X)))
    with pytest.raises(InvalidInputError, match="one class only"):
        small(safe_class=0).fit(X, np.zeros(len(X), dtype=int))
    with pytest.raises(InvalidInputError, match="cannot be sorted"):
        small(safe_class="in").fit(X, np.zeros(len(X), dtype=int))
    with pytest.raises(InvalidInputError, match="3 classes came"):
        small().fit(X, np.arange(len(X)) % 3)


def test_the_certificate_is_about_this_network_alone(fitted, spheres, tmp_path) -> None:
    saved = fitted.region_certificate_.save(tmp_path / "region.npz")
    again = Certificate.load(saved)
    (region,) = proved_regions(again)
    assert region == as_region(L2Ball(1.0), 3)
    assert again.check(fitted.safe_network_) <= again.bound < 0
    *hidden, (W, b) = fitted.safe_network_.layers
    raised = type(fitted.safe_network_)((*hidden, (W, b - 2 * fitted.region_bound_)), "relu")
    with pytest.raises(CertificateError):
        again.check(raised)


def test_copies_agree(fitted, spheres) -> None:
    X, y = spheres
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    assert again.check() == fitted.region_bound_
    same = clone(fitted).fit(X, y)
    np.testing.assert_array_equal(same.decision_function(X), fitted.decision_function(X))


def test_an_early_end_is_safe_and_said(spheres) -> None:
    with pytest.warns(ConvergenceWarning, match="time limit"):
        model = small(time_limit=0.0).fit(*spheres)
    assert model.check() < 0


@pytest.mark.slow
def test_in_a_pipeline_the_region_is_in_scaled_units(spheres, rng) -> None:
    X, y = spheres
    model = make_pipeline(StandardScaler(), small(L2Ball(0.4), safe_class=0, max_iter=10)).fit(
        X[y == 1] * 7.0, y[y == 1]
    )
    region = ellipsoid(model[0].mean_, 0.4 * model[0].scale_)  # the ball in raw units
    raw = points(region, rng)
    assert (model.predict(raw) == 0).all()
    np.testing.assert_allclose(as_network(model)(raw), model.decision_function(raw), atol=1e-9)


def test_a_certificate_about_another_region_is_refused(fitted, spheres, monkeypatch) -> None:
    X, y = spheres
    monkeypatch.setattr("convexnn.estimators.safe_region.trained", lambda *arguments: fitted.training_)
    with pytest.raises(CertificateError, match="another region"):
        small(L2Ball(1.1)).fit(X, y)
    assert small().fit(X, y).check() == fitted.check()


@pytest.mark.slow
def test_grid_search_over_the_width(spheres) -> None:
    search = GridSearchCV(small(max_iter=30), {"hidden_units": [2, 9]}, cv=2).fit(*spheres)
    assert search.best_params_["hidden_units"] == 9
    assert search.best_estimator_.check() < 0


@pytest.mark.slow
def test_spheres_are_learned_in_ten_dimensions() -> None:
    X, y = make_adversarial_spheres(4000, 10, random_state=0)
    model = SafeRegionClassifier(L2Ball(1.0), max_iter=400, random_state=0).fit(X, y)
    X_test, y_test = make_adversarial_spheres(4000, 10, random_state=1)
    assert model.score(X_test, y_test) > 0.98
    assert model.score(X_test[y_test == 0], y_test[y_test == 0]) == 1.0
    assert model.start_accuracy_ < 0.9


@parametrize_with_checks(
    [SafeRegionClassifier(L2Ball(0.1), hidden_units=10, max_iter=40, learning_rate=0.05, random_state=0)]
)
@pytest.mark.slow
def test_sklearn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random labels put samples into the region
        check(estimator)
