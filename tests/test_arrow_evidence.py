"""The check of arrow multipliers: rigorous for any numbers, exact over the rationals, cheap in what rounding costs."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import LeakyReLU
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.arrow import SDP
from convexnn.relaxations.arrow.certifier import propose_sdp
from convexnn.relaxations.arrow.evidence import Reader, linear_bounds
from convexnn.relaxations.arrow.targets import Strengthening
from convexnn.rigorous import is_psd_exact, lack_of_definiteness
from convexnn.threats import L2Ball, LInfBall
from tests._arrow_instances import SETS, random_query, sampled_maximum

CORRUPTIONS = {
    "noise": lambda rng, a: a + rng.standard_normal(a.shape) * np.abs(a).max(initial=0.0),
    "negated": lambda rng, a: -a,
    "zero": lambda rng, a: 0.0 * a,
    "huge": lambda rng, a: 1e9 * a,
    "tiny": lambda rng, a: 1e-9 * a,
    "shuffled": lambda rng, a: rng.permutation(a),
    "overflow": lambda rng, a: a * 1e300,
    "nan": lambda rng, a: np.where(np.arange(len(a)) == 0, np.nan, a),
    "inf": lambda rng, a: np.where(np.arange(len(a)) == len(a) - 1, np.inf, a),
    "minus inf": lambda rng, a: np.where(np.arange(len(a)) == 0, -np.inf, a),
    "t far too low": lambda rng, a: a - np.eye(1, len(a))[0] * 1e3,
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("triangle", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_corrupted_multipliers_never_prove_too_much(rng, kind, triangle):
    for widths, activation in (((4, 6, 2), LeakyReLU(0.1)), ((3, 5, 4, 2), "relu")):
        query = random_query(rng, widths, kind, activation, radius=1.0, rows=2)
        signs = tuple(np.zeros(n, dtype=np.int8) for n in query.network.n_hidden)
        signs[0][0] = 1
        query = query.with_signs(signs)
        low, evidence = sampled_maximum(rng, query), propose_sdp(query, Effort(tol=1e-6), extra=Strengthening(triangle))
        good = SDP.check(query, evidence.multiplier)
        assert np.all(good >= low)
        for corrupt in CORRUPTIONS.values():
            for chosen in (("y",), ("nu",), ("y", "nu")):
                with np.errstate(all="ignore"):
                    bad = {
                        key: corrupt(rng, value) if key.endswith(chosen) else value
                        for key, value in evidence.multiplier.items()
                    }
                found = SDP.check(query, bad)
                assert np.all(found >= low - 1e-12)
                assert np.all(found <= linear_bounds(query, crown_bounds(query)))


def test_multipliers_of_other_rows_and_other_samples_are_valid_here(rng):
    query = random_query(rng, (4, 6, 3), "ball", radius=1.0, rows=3)
    evidence = propose_sdp(query, Effort(tol=1e-6))
    turned = {f"row{(int(key[3]) + 1) % 3}{key[4:]}": value for key, value in evidence.multiplier.items()}
    low = sampled_maximum(rng, query)
    assert np.all(SDP.check(query, turned) >= low)


def test_wrong_shapes_are_refused(rng):
    query = random_query(rng, (4, 6, 2), "box", radius=1.0)
    good = dict(propose_sdp(query, Effort()).multiplier)
    for bad in (
        {**good, "row0/y": good["row0/y"][:-1]},
        {**good, "row0/y": good["row0/y"][None]},
        {**good, "row0/nu": np.ones(9)},
        {**good, "row0/nu": np.float64(1.0)},
        {"row0/y": good["row0/y"]},
    ):
        with pytest.raises(CertificateError):
            SDP.check(query, bad)
    np.testing.assert_array_equal(SDP.check(query, {}), linear_bounds(query, crown_bounds(query)))


@pytest.mark.parametrize("kind", SETS)
def test_rounding_costs_less_than_a_millionth(rng, kind):
    for scale in (1e-3, 1.0, 1e3):
        query = random_query(rng, (6, 9, 7, 2), kind, radius=0.8, scale=scale)
        evidence = propose_sdp(query, Effort(tol=1e-6))
        price = SDP.check(query, evidence.multiplier) - evidence.details["proposals"]
        assert np.abs(price).max() <= 1e-7 * max(1.0, np.abs(evidence.details["proposals"]).max())


def exact_slack(query, relaxation, v, row):
    """S over the rationals for a network with one hidden layer, from its weights; nothing is taken from the forms."""
    (W, b), (V, c) = query.network.layers
    forms, chart = relaxation.forms, relaxation.chart
    half, centre = ([Fraction(float(x)) for x in ends] for ends in (chart.half, chart.centre))
    bounds, p = crown_bounds(query), relaxation.p
    scale = [Fraction(float(s)) for s in forms.scale]
    place = {int(j): k for k, j in enumerate(forms.unit)}
    F = lambda x: Fraction(float(x))  # noqa: E731
    n = p + len(half)
    rows = []  # scaled pre-activations of all units as affine forms
    for j in range(len(b)):
        form = [F(b[j]) + sum(F(w) * x for w, x in zip(W[j], centre, strict=True))] + [Fraction(0)] * (p - 1)
        rows.append(form + [F(w) * h for w, h in zip(W[j], half, strict=True)])
    objective = [Fraction(0)] * n
    weights = [sum(F(w) * F(V[k, j]) for k, w in enumerate(query.weights[row])) for j in range(len(b))]
    objective[0] = F(query.offset[row]) + sum(F(w) * F(x) for w, x in zip(query.weights[row], c, strict=True))
    for j, weight in enumerate(weights):
        if j in place:
            objective[1 + place[j]] += weight * scale[place[j]]
        elif bounds.lower[0][j] >= 0:
            objective = [o + weight * s for o, s in zip(objective, rows[j], strict=True)]
    Z = [[Fraction(0)] * n for _ in range(n)]

    def add(y, left, right):
        for i, x in left.items():
            for j, z in right.items():
                Z[i][j] += y * x * z / 2
                Z[j][i] += y * x * z / 2

    y = [F(value) for value in v]
    add(y[0], {0: 1}, {0: 1})
    for j, k in place.items():
        r = {i: s / scale[k] for i, s in enumerate(rows[j])}
        r[1 + k] -= 1
        add(y[1 + k], {0: 1}, r)
        add(y[1 + forms.m + k], {1 + k: 1}, r)
        add(y[1 + 2 * forms.m + k], {1 + k: 1}, {1 + k: Fraction(1), 0: -F(forms.upper[k])})
    nu = y[relaxation.n_rows :] * (len(half) if chart.is_ball else 1)
    add(-1, {0: 1}, dict(enumerate(objective)))
    return [
        [Z[i][j] - sum(Z[i][p + k] * Z[j][p + k] / nu[k] for k in range(len(half))) for j in range(p)] for i in range(p)
    ]


@pytest.mark.parametrize("kind", ["box", "ball"])
def test_the_rounded_matrix_argument_holds_over_the_rationals(rng, kind):
    for _ in range(3):
        query = random_query(rng, (3, 4, 2), kind, radius=1.0)
        bounds = crown_bounds(query)
        multiplier = propose_sdp(query, Effort(tol=1e-6), bounds).multiplier
        reader = Reader.of(query, bounds, triangle=False)
        relaxation = reader.relaxation
        for lowered in (0.0, 1e-3):  # the second matrix is indefinite and has to be repaired
            y, nu = multiplier["row0/y"] - lowered * np.eye(1, relaxation.n_rows)[0], multiplier["row0/nu"]
            v = np.concatenate([y, nu])
            added = Fraction(reader.bound(0, y, nu)) - sum(Fraction(float(x)) for x in relaxation.cost * v)
            assert abs(added) < Fraction(1, 10**6) + Fraction(lowered) * Fraction(reader.reach)
            shift = added / Fraction(reader.reach) if added > 0 else added  # 1 <= |h|**2 <= reach
            S = exact_slack(query, relaxation, v, 0)
            assert is_psd_exact([[x + (shift if i == j else 0) for j, x in enumerate(row)] for i, row in enumerate(S)])
            assert lowered == 0.0 or not is_psd_exact(S)


def test_one_unit_by_hand():
    # f = relu(x) on [-1, 1]: the maximum 1 is attained, and -f has the maximum 0
    network = Network(((np.ones((1, 1)), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))), "relu")
    query = Query(network, InputSet.box([-1.0], [1.0]), np.array([[1.0], [-1.0]]), np.zeros(2))
    found = SDP.check(query, propose_sdp(query, Effort(tol=1e-8)).multiplier)
    np.testing.assert_allclose(found, [1.0, 0.0], atol=1e-6)
    assert found[0] >= 1.0
    assert found[1] >= 0.0


def test_sets_without_width_and_networks_without_kinks(rng):
    query = random_query(rng, (4, 5, 3, 2), "box", rows=2)
    x = query.inputs.centre
    for inputs in (InputSet.around(x, L2Ball(0.0)), InputSet.around(x, LInfBall(0.0))):
        point = replace(query, inputs=inputs)
        found = SDP.check(point, propose_sdp(point, Effort()).multiplier)
        np.testing.assert_allclose(found, point.values(x[None])[0], atol=1e-9)
        assert np.all(found >= point.values(x[None])[0] - 1e-15)
    (W, _), last = query.network.layers[0], query.network.layers[1:]
    active = replace(query, network=Network(((W, np.full(5, 50.0)), *last[:-1], last[-1]), "relu"))
    dead = replace(query, network=Network(((W, np.full(5, -50.0)), *last[:-1], last[-1]), "relu"))
    linear = replace(query, network=Network(query.network.layers, "identity"))
    for case in (active, dead, linear):
        found = SDP.check(case, propose_sdp(case, Effort(tol=1e-7)).multiplier)
        assert np.all(found >= sampled_maximum(rng, case))
    np.testing.assert_allclose(
        SDP.check(linear, propose_sdp(linear, Effort()).multiplier), sampled_maximum(rng, linear), atol=1e-9
    )


def test_an_empty_side_is_minus_infinity(rng):
    query = random_query(rng, (4, 5, 2), "box")
    active = replace(query, network=Network(((query.network.W, np.full(5, 50.0)), query.network.layers[1]), "relu"))
    side = active.with_signs((np.array([-1, 0, 0, 0, 0], dtype=np.int8),))
    np.testing.assert_array_equal(SDP.check(side, propose_sdp(side, Effort()).multiplier), [-np.inf])


@pytest.mark.parametrize("radius", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("kind", SETS)
def test_radii_of_all_sizes(rng, kind, radius):
    query = random_query(rng, (3, 5, 4, 2), kind, radius=1.0)
    threat = {"box": LInfBall(radius), "ball": L2Ball(radius), "clipped": L2Ball(radius, clip=(-radius, 1.0))}[kind]
    query = replace(query, inputs=InputSet.around(query.inputs.centre, threat))
    evidence = propose_sdp(query, Effort())
    found = SDP.check(query, evidence.multiplier)
    assert not evidence.status.startswith("failed")
    assert np.all(found >= sampled_maximum(rng, query))
    assert np.all(found <= linear_bounds(query, crown_bounds(query)))


def test_duplicate_units_and_constant_inputs(rng):
    query = random_query(rng, (4, 4, 2), "box", radius=1.0)
    (W, b), (V, c) = query.network.layers
    low, high = query.inputs.lower.copy(), query.inputs.upper.copy()
    low[1] = high[1] = 0.3
    twice = Network(((np.vstack([W, W]), np.concatenate([b, b])), (np.hstack([V, V]) / 2.0, c)), "relu")
    plain = replace(query, inputs=InputSet.box(low, high))
    doubled = replace(plain, network=twice)
    values = [SDP.check(case, propose_sdp(case, Effort(tol=1e-7)).multiplier) for case in (plain, doubled)]
    np.testing.assert_allclose(values[1], values[0], atol=1e-5)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1.0, 1e150])
def test_lack_of_definiteness_is_proved_by_exact_arithmetic(rng, scale):
    for n in (1, 2, 5, 9):
        E = rng.standard_normal((n, max(n - 1, 1)))
        for shift in (0.0, 1e-13, 1e-3, -1e-3, 1.0):
            G = scale * (E @ E.T - shift * np.eye(n))
            G = 0.5 * (G + G.T)
            lack = lack_of_definiteness(G)
            exact = [[Fraction(x) for x in row] for row in G.tolist()]
            assert is_psd_exact([[x + Fraction(lack) * (i == j) for j, x in enumerate(r)] for i, r in enumerate(exact)])
            lowest = max(0.0, -np.linalg.eigvalsh(G)[0])
            assert lowest <= lack <= lowest * (1.0 + 1e-9) + 1e-11 * n * scale
            assert lack_of_definiteness(G, 0.5 * scale) >= lack + 0.5 * scale
    assert lack_of_definiteness(np.array([[np.nan]])) == lack_of_definiteness(np.eye(2), np.inf) == math.inf
    assert lack_of_definiteness(np.zeros((0, 0))) == 0.0


@pytest.mark.parametrize("kind", SETS)
def test_numbers_near_the_ends_of_float64_neither_raise_nor_lie(rng, kind):
    for scale in (1e-300, 1e-80, 1e80, 1e160):
        query = random_query(rng, (4, 6, 5, 2), kind, radius=1.0, scale=scale)
        evidence = propose_sdp(query, Effort())
        found = SDP.check(query, evidence.multiplier)
        if scale < 1e100:
            assert evidence.status == "optimal"
            assert found >= sampled_maximum(rng, query, 200)
        else:  # the second layer overflows
            assert evidence.status.startswith("failed")
            assert found == [np.inf]
