"""Region bounds of tanh and logistic units, of chains of layers, and the gap that the solver reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn.activations import LeakyReLU, ReLU, Sigmoid, Tanh
from convexnn.certificates.region import region_bound
from convexnn.certificates.region_lower import attained
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.propagation.query import Query
from convexnn.regions.chain import chain_bound
from convexnn.regions.chain_solver import best_chain
from convexnn.regions.folding import folded_query
from convexnn.regions.newton import _optimized, best_majorants
from convexnn.regions.primal_dual import Limits, minimize
from convexnn.regions.program import Program
from convexnn.regions.region import BALL, BOX, Region, ellipsoid, rotated_box
from convexnn.regions.ridges import Units, ridges
from convexnn.threats import L2Ball

SMOOTH = [Tanh(), Sigmoid()]


def unit_region(kind, d):
    return Region(np.zeros(d), np.ones(d), kind)


def random_network(rng, d, h, activation="relu", bias=0.3):
    W = rng.standard_normal((h, d)) * np.sqrt(2 / (d + h))
    return Network.shallow(W, bias * rng.standard_normal(h), rng.standard_normal(h), 0.2, activation)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("size", [0.1, 3.0, 1e3])
def test_parabolas_lie_above_smooth_units_and_touch_them(rng, activation, size):
    U = size * rng.standard_normal((4, 2))
    W = np.vstack([U, -2.0 * U[:2]])  # two groups of two, two of one
    b, c = size * rng.standard_normal(6), rng.standard_normal(6)
    units = Units(W, b, c, 0.0, BALL, activation, groups=np.array([0, 1, 2, 3, 0, 1]))
    for cells, far in ((5, None), (256, 1e-4)):
        parts = ridges(units, cells=cells)
        assert (parts.lower[:, 0] == -parts.reach).all()
        assert (parts.upper[:, -1] == parts.reach).all()
        assert (parts.lower[:, 1:] == parts.upper[:, :-1]).all()
        share = np.linspace(0, 1, 41)[:, None, None]
        a = (parts.lower + share * (parts.upper - parts.lower)).astype(np.longdouble)
        phi = np.zeros_like(a)
        for i, g in enumerate(units.groups):
            s = a[:, g] * np.longdouble([1, 1, 1, 1, -2, -2][i]) + np.longdouble(b[i])
            value = np.tanh(s) if isinstance(activation, Tanh) else (1 + np.tanh(s / 2)) / 2
            phi[:, g] += np.longdouble(c[i]) * value
        above = (parts.curves * a + parts.slopes) * a + parts.intercepts - phi
        assert above.min() >= 0
        assert far is None or above.max() <= far * np.abs(c).sum()


@pytest.mark.parametrize("activation", [Tanh(), pytest.param(Sigmoid(), marks=pytest.mark.slow)])
def test_smooth_networks_are_bounded_closely(rng, activation):
    network = random_network(rng, 6, 18, activation)
    for region in (L2Ball(1.0), rotated_box(rng.standard_normal(6), 0.2 * rng.standard_normal((6, 7)))):
        found = region_bound(network, region)
        assert found.method == "region_paired"
        assert found.lower <= found.check(network) == found.bound
        assert found.bound <= region_bound(network, region, method="alpha_crown").bound + 1e-6
    ball = region_bound(network, L2Ball(0.5))  # hardly bent there: nothing is lost
    assert ball.bound - ball.lower <= 1e-3 * (1 + abs(ball.lower))
    for wrong in ({"method": "sdp"}, {"arithmetic": "exact"}, {"method": "chain"}):
        with pytest.raises(InvalidInputError):
            region_bound(network, L2Ball(1.0), **wrong)


def deep_query(rng, kind, activation=None, sizes=(3, 5, 4, 1)):
    layers = tuple(
        (rng.standard_normal((m, n)) / np.sqrt(n), 0.3 * rng.standard_normal(m))
        for n, m in zip(sizes[:-1], sizes[1:], strict=True)
    )
    network = Network(layers, activation or ReLU())
    return network, folded_query(network, unit_region(kind, sizes[0]), np.ones(1))[0]


@pytest.mark.parametrize("kind", [BALL, BOX])
@pytest.mark.parametrize("activation", [ReLU(), LeakyReLU(0.2)])
def test_any_multipliers_of_a_chain_are_valid(rng, kind, activation):
    network, query = deep_query(rng, kind, activation)
    top = attained(network, unit_region(kind, 3))
    best = best_chain(query)
    assert top <= chain_bound(query, best.multiplier) <= best.value + 1e-4 * (1 + abs(best.value))
    assert best.gap <= 1e-5 * (1 + abs(best.value))
    for scale in (1e-3, 1.0, 1e6):
        for _ in range(5):
            worse = {k: v + scale * rng.standard_normal(v.shape) for k, v in best.multiplier.items()}
            assert chain_bound(query, worse) >= top
    dominant = {**best.multiplier, "rho": 1e3 + best.multiplier["rho"]}
    assert top <= chain_bound(query, dominant) < np.inf
    assert chain_bound(query, {**best.multiplier, "nu": np.full(9, np.nan)}) == np.inf
    for broken in ({}, {**best.multiplier, "lam": np.zeros(2)}, {**best.multiplier, "rho": np.zeros((2, 2))}):
        with pytest.raises(CertificateError):
            chain_bound(query, broken)


def moment_problem(query: Query):
    """The primal program of several ReLU layers, written out."""
    import cvxpy as cp

    network, r = query.network, query.network.n_inputs
    P = cp.Variable((1 + r + sum(network.n_hidden),) * 2, symmetric=True)
    X = P[1 : 1 + r, 1 : 1 + r]
    constraints = [P >> 0, P[0, 0] == 1, cp.trace(X) <= 1 if query.inputs.has_ball else cp.diag(X) <= 1]
    before, start = slice(1, 1 + r), 1 + r
    for (W, b), h in zip(network.layers[:-1], network.n_hidden, strict=True):
        own = slice(start, start + h)
        z, a = P[0, own], W @ P[0, before] + b
        products = cp.diag(P[own, before] @ W.T) + cp.multiply(b, z)
        constraints += [z >= 0, z >= a, cp.diag(P[own, own]) == products]
        before, start = own, start + h
    W, b = network.layers[-1]
    return cp.Problem(cp.Maximize((W @ P[0, before] + b)[0]), constraints)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BALL, BOX])
def test_the_chain_is_the_program_of_several_layers_and_arrow_is_not_above_it(rng, kind):
    network, query = deep_query(rng, kind)
    best = best_chain(query)
    assert moment_problem(query).solve(solver="CLARABEL") == pytest.approx(best.value, abs=2e-6)
    chain = region_bound(network, unit_region(kind, 3), method="chain")
    assert chain.check(network) == chain.bound
    assert chain.lower <= region_bound(network, unit_region(kind, 3), method="arrow").bound <= chain.bound + 1e-5
    shallow = random_network(rng, 3, 6)
    one = region_bound(shallow, unit_region(kind, 3), method="chain").bound
    assert one == pytest.approx(region_bound(shallow, unit_region(kind, 3), method="sdp").bound, abs=1e-6)


def verified_gap(units):
    """Value of the majorants over the value of the moments, the latter by Scarf's formula alone."""
    parts = ridges(units, tight=False)
    rows, size = _optimized(parts)
    program = Program(parts, rows, size)
    with np.errstate(all="ignore"):
        found = minimize(program, program.start(), Limits(1e-8), 1e-4)
    X = found.moments.big / found.moments.big[0, 0]
    mean, second = X[1:, 0], X[1:, 1:]
    total = np.trace(second)
    if total > 1.0:  # back into the ball, the covariance stays semidefinite
        mean, second = mean / np.sqrt(total), second / total
    assert np.linalg.eigvalsh(second - np.outer(mean, mean))[0] >= -1e-12
    m = units.weights @ mean + units.biases
    s = np.einsum("gi,ij,gj->g", units.weights, second, units.weights)
    s = s + 2.0 * units.biases * (units.weights @ mean) + units.biases**2
    c = units.outer
    lower = float(np.where(c > 0, 0.5 * c * (m + np.sqrt(s)), c * np.maximum(m, 0.0)).sum() + units.offset)
    return found, program.value(found.unknowns) * size + parts.offset, lower


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_the_gap_is_that_of_scarf(rng, bias):
    """Any moments in the ball bound the program from below by the largest mean of a ReLU with two known moments."""
    network = random_network(rng, 20, 60, bias=bias)
    units = Units(network.W, network.b, network.v, 0.0, BALL)
    found, value, lower = verified_gap(units)
    assert found.status == "optimal"
    assert lower <= value <= lower + 1e-6 * abs(lower)
    best = best_majorants(ridges(units, tight=False))
    assert lower <= best.bound <= lower + 1e-5 * abs(lower)
    assert best.value - best.gap <= value + 1e-12


@pytest.mark.slow
def test_two_hundred_inputs_are_solved_to_the_end():
    network = random_network(np.random.default_rng(0), 200, 600, bias=0.1)
    found, value, lower = verified_gap(Units(network.W, network.b, network.v, 0.0, BALL))
    assert found.status == "optimal"
    assert lower <= value <= lower + 1e-6 * abs(lower)


@pytest.mark.parametrize("kind", [BALL, BOX])
def test_rescaled_units_have_the_same_bound(rng, kind):
    """relu(s a) = s relu(a): bounds of the same function, weights from 1e-8 to 1e8."""
    network = random_network(rng, 4, 10)
    s = 10.0 ** rng.uniform(-8, 8, 10)
    W = np.vstack([s[:, None] * network.W, np.zeros((2, 4)), 1e-14 * network.W[:1], 1e-300 * network.W[1:2]])
    b = np.concatenate([s * network.b, [-1.0, 0.0], [-1e8], [-1e-8]])  # and four dead units
    scaled = Network.shallow(W, b, np.concatenate([network.v / s, [1e8, 1.0, 1e8, 1e3]]), 0.2)
    for method in ("sdp", "sdp_tight", "paired"):
        plain, other = (region_bound(net, unit_region(kind, 4), method=method) for net in (network, scaled))
        assert other.bound == pytest.approx(plain.bound, rel=1e-6)


def trained(region, units):
    """A network trained on the unit sphere of radius 1.3, proved negative on the ball."""
    from convexnn.training import train_safe_region

    def draw(n, rng):
        return 1.3 * region.sample_surface(n, rng)

    return train_safe_region(region, draw, steps=60, hidden_units=units, random_state=0).network


@pytest.mark.slow
def test_a_trained_network_shifted_by_too_little_is_refused():
    region = ellipsoid(np.zeros(5), np.ones(5))
    network = trained(region, 15)
    bare = Network.shallow(network.W, network.b, network.v, 0.0)
    found = region_bound(bare, region, arithmetic="exact")
    for spare, safe in ((1e-6, True), (-1e-6, False)):
        shifted = Network.shallow(network.W, network.b, network.v, -found.bound - spare)
        claim = replace(found, fingerprint=shifted.fingerprint(), bound=0.0, lower=-np.inf)
        if safe:
            assert claim.check(shifted) < 0
            assert region_bound(shifted, region, arithmetic="exact").bound < 0
        else:
            with pytest.raises(CertificateError, match="not the claimed"):
                claim.check(shifted)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["random", "trained", "scaled", "tanh"])
def test_no_bound_is_below_ten_thousand_points_and_an_ascent(rng, case):
    d = 6
    regions = (ellipsoid(np.zeros(d), np.ones(d)), rotated_box(np.zeros(d), 0.4 * rng.standard_normal((d, d))))
    network = random_network(rng, d, 18, "tanh" if case == "tanh" else "relu")
    if case == "trained":
        network = trained(regions[0], 18)
    if case == "scaled":
        s = 10.0 ** rng.uniform(-6, 6, 18)
        network = Network.shallow(s[:, None] * network.W, s * network.b, network.v / s, 0.2)
    for region in regions:
        X = np.vstack([region.sample(5000, rng), region.sample_surface(5000, rng)])
        found = max(float(network(X).max()), attained(network, region, n=256, steps=60))
        methods = ["paired", "sdp_tight", "crown", *(["sdp", "chain", "arrow", "lp"] if case != "tanh" else [])]
        for method in methods:
            assert region_bound(network, region, method=method).bound >= found


def test_a_union_of_balls_and_boxes_by_every_shallow_method(rng):
    network = random_network(rng, 3, 6)
    union = [ellipsoid(np.zeros(3), np.full(3, 0.4)), rotated_box(np.ones(3), np.full(3, 0.2)), L2Ball(0.1)]
    for method in ("sdp", "paired", "chain", "crown"):
        found = region_bound(network, union, method=method)
        alone = [region_bound(network, one, method=method).bound for one in union]
        assert found.bound == max(alone)
        assert found.check(network) == found.bound
    boxes = [union[1], rotated_box(-np.ones(3), np.eye(3))]
    facets = region_bound(network, boxes, method="facets", arithmetic="exact")
    assert facets.lower <= facets.check(network) == facets.bound


@pytest.mark.parametrize("activation", ["relu", pytest.param("tanh", marks=pytest.mark.slow)])
def test_splits_close_the_gap_and_any_tree_is_valid(rng, activation):
    network = random_network(rng, 3, 8, activation)
    for region in (ellipsoid(np.zeros(3), np.ones(3)), rotated_box(np.zeros(3), 0.5 * rng.standard_normal((3, 3)))):
        found, paired = (region_bound(network, region, method=name, tol=1e-4) for name in ("splits", "paired"))
        assert found.lower <= found.check(network) == found.bound <= paired.bound + 1e-4 * (1 + abs(paired.bound))
        assert found.details["status"] == "optimal"
        assert found.bound - found.lower <= 1e-3 * (1 + abs(found.lower))
    tree = found.multiplier["0/tree"]
    for broken in (tree[:-1], np.vstack([tree, tree]), tree + 100.0, np.full_like(tree, np.nan), tree[:, :1]):
        worse = replace(found, multiplier={**found.multiplier, "0/tree": broken})
        with pytest.raises(CertificateError):
            worse.check(network)
    for key in ("curvature", "slope", "rho"):
        numbers = found.multiplier[f"0/{key}"]
        worse = replace(
            found, bound=1e9, multiplier={**found.multiplier, f"0/{key}": rng.standard_normal(numbers.shape)}
        )
        assert found.lower <= worse.check(network)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "seed"), [(5, 0), (10, 0)])
def test_splits_close_networks_of_five_and_ten_inputs(d, seed):
    network = random_network(np.random.default_rng(seed), d, 2 * d, bias=0.1)
    found = region_bound(network, L2Ball(1.0), method="splits", tol=1e-4)
    assert found.details["status"] == "optimal"
    assert found.lower <= found.check(network) <= found.lower + 1e-3 * (1 + abs(found.lower))
