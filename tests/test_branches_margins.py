"""Rare ways through margins, distances and tables of robustness: quadratic models, rounding, sets, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn import Box, L2Ball, LInfBall, Network, region_bound
from convexnn.activations import Polynomial
from convexnn.certificates.classification import certify_classification
from convexnn.certificates.distance import certified_radius, distance_to_boundary
from convexnn.certificates.distance_sdp import distance_by_sdp
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.quadratic_margins import certify_quadratic
from convexnn.certificates.region_polytope import certified_polytope
from convexnn.certificates.robustness import robustness_table
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.quadratic.form import QuadraticForm
from convexnn.regions import Polytope
from convexnn.restrictions.robust_relu_dual import into_ball


def quadratic(rng, d=2, m=4, k=1) -> Network:
    W, b, V = rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal((k, m))
    return Network.shallow(W, b, V, np.zeros(k), Polynomial(0.3, 0.5, 0.1))


def test_a_margin_below_rounding_has_a_distance_and_no_proof():
    parabola = Network.shallow([[1.0]], [0.0], [1.0], -1.0, Polynomial(1.0, 0.0, 0.0))  # x^2 - 1
    for margin, proved in ((1e-6, True), (1e-14, False)):
        X = [[1.0 + margin]]
        assert distance_to_boundary(parabola, X, [1])[0] == pytest.approx(margin, rel=1e-1)
        assert bool(certified_radius(parabola, X, [1])[0] > 0) is proved
    form = QuadraticForm.of_network(parabola)
    np.testing.assert_array_equal(distance_by_sdp(form, [[2.0], [0.5]], [-1.0, 1.0]), 0.0)  # on the wrong side


def test_radii_grow_to_the_ball_only_where_the_ball_was_asked_about(rng):
    net = Network.shallow(rng.standard_normal((6, 2)), rng.standard_normal(6), rng.standard_normal(6), 0.0)
    X = rng.standard_normal((40, 2))
    y = (net(X) > 0).astype(int)
    whole, clipped = (certify_classification(net, X, y, LInfBall(0.05, clip)) for clip in (None, (-9.0, 9.0)))
    boxed = certify_classification(net, X, y, Box(-0.05 * np.ones(2), 0.05 * np.ones(2)))
    assert whole.certified.any()
    assert (whole.radii[whole.certified] >= 0.05).all()
    assert (clipped.radii <= whole.radii).all()
    np.testing.assert_array_equal(clipped.radii, boxed.radii)
    with pytest.raises(InvalidInputError, match="threat must be"):
        certify_classification(net, X, y, 0.05)


def test_deep_classifiers_are_bounded_by_their_lipschitz_constants_alone(rng):
    """One input and positive weights: for x > 0 the output is x times the product of the matrices."""
    W = [np.abs(rng.standard_normal(shape)) for shape in ((3, 1), (2, 3), (1, 2))]
    net = Network([(A, np.zeros(len(A))) for A in W])
    slope, radius = float((W[2] @ W[1] @ W[0]).item()), 0.25
    found = certify_classification(net, [[1.0], [4.0]], [0, 1], L2Ball(radius))
    worst = np.array([slope * (1.0 + radius), -slope * (4.0 - radius)])  # largest wrong minus right over the ball
    assert (worst * (1.0 - 1e-12 * np.sign(worst)) <= found.margins).all()
    assert (found.margins <= found.clean + radius * spectral_product(W) * (1.0 + 1e-9)).all()
    assert found.certified.tolist() == [False, bool(found.margins[1] < 0)]


def spectral_product(matrices) -> float:
    return float(np.prod([np.linalg.norm(A, 2) for A in matrices]))


def test_certificates_about_other_regions_describe_no_polytope(rng):
    net = Network.shallow(rng.standard_normal((4, 2)), rng.standard_normal(4), rng.standard_normal(4), 0.0)
    square = Polytope(np.vstack([np.eye(2), -np.eye(2)]), np.ones(4))
    found = region_bound(net, square, method="facets")
    assert certified_polytope(found).n_inputs == 2
    with pytest.raises(CertificateError, match="is about no polytope"):
        certified_polytope(lipschitz(net))
    wide = Network.shallow(rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal(4), 0.0)
    with pytest.raises(CertificateError, match="2 coordinates, the network 3 inputs"):
        replace(found, fingerprint=wide.fingerprint()).check(wide)


def test_branching_decides_what_multipliers_leave_open(rng):
    """An offset inside of the gap between relaxation and truth: the relaxation cannot tell, branching can."""
    net, X, threat = quadratic(rng, d=5, m=9), rng.uniform(-1, 1, (40, 5)), LInfBall(0.8)
    loose, exact = (certify_quadratic(net, X, np.ones(40), threat, method=name) for name in ("diagonal", "exact"))
    gap = loose.margins - exact.margins
    assert (gap >= -1e-9).all()
    i = int(np.argmax(gap))
    assert gap[i] > 1e-3
    middle = exact.margins[i] + 0.5 * gap[i]
    moved = Network.shallow(net.W, net.b, net.v, [middle], net.activation)  # margins of the label 1 fall by this
    plain, decided = (certify_quadratic(moved, X[[i]], [1], threat, method=name) for name in ("diagonal", "auto"))
    assert not plain.certified[0]
    assert not plain.broken[0]
    assert decided.certified[0]
    assert decided.reached[0] <= decided.margins[0] < 0 < plain.margins[0]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_tables_of_quadratic_models_are_exact_in_l2_and_bounds_in_linf(rng, task):
    net, X = quadratic(rng), rng.standard_normal((6, 2))
    y = net(X) + 0.1 if task == "regression" else np.where(net(X) > 0, 1.0, -1.0)
    tables = {norm: robustness_table({"q": net}, X, y, [0.1, 0.3], norm=norm, task=task) for norm in ("l2", "linf")}
    for table in tables.values():
        assert (table.attacked <= table.certified).all()
        assert np.isinf(table.lipschitz).all()
    np.testing.assert_allclose(tables["l2"].attacked, tables["l2"].certified, rtol=1e-4, atol=1e-6)
    assert (tables["l2"].certified <= tables["linf"].certified + 1e-12).all()  # the ball is in the box
    if task == "classification":
        l2, linf = (tables[norm].certified_radii for norm in ("l2", "linf"))
        assert (linf <= l2).all()
        np.testing.assert_allclose(linf * np.sqrt(2), l2, rtol=1e-9)


def test_tables_of_smooth_models_and_certificates_of_other_norms(rng):
    net = Network.shallow(rng.standard_normal((4, 2)), np.zeros(4), rng.standard_normal(4), 0.0, "tanh")
    X = rng.standard_normal((5, 2))
    given = {"X": X, "y": net(X) + 0.2, "radii": [0.1], "task": "regression"}
    table = robustness_table({"net": net}, **given)
    assert (table.attacked <= table.certified).all()
    assert "net; l2 radii 0.1; 5 samples" in repr(table)
    with pytest.raises(InvalidInputError, match=r"bounds lipschitz \(linf\)"):
        robustness_table({"net": net}, **given, certificates={"net": lipschitz(net, norm=np.inf)})
    with pytest.raises(InvalidInputError, match="norm must be one of"):
        robustness_table({"net": net}, **given, norm="l7")
    with pytest.raises(InvalidInputError, match="No models"):
        robustness_table({}, **given)


def test_a_ball_of_no_size_is_the_sample(rng):
    net, X = quadratic(rng), rng.standard_normal((4, 2))
    y = (net(X) > 0).astype(int)
    found = certify_quadratic(net, X, y, L2Ball(0.0))
    np.testing.assert_allclose(found.margins, found.clean, atol=1e-12)


@pytest.mark.parametrize("norm", [2.0, np.inf])
def test_attacks_of_any_length_end_in_the_ball_and_short_ones_stay(rng, norm):
    unit = rng.standard_normal((30, 3))
    unit /= np.linalg.norm(unit, norm, axis=1, keepdims=True)
    for size in (0.0, 1e-300, 0.1, 0.99, 1.01, 1e200):
        moved = into_ball(0.5 * size * unit, 0.5, norm)
        assert (np.linalg.norm(moved, norm, axis=1) <= 0.5).all()
        if size < 1.0:
            np.testing.assert_allclose(moved, 0.5 * size * unit, rtol=1e-12)
