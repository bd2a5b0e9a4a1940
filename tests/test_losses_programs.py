"""Losses other than squared in the convex programs: two roads, bounds for every multiplier, corners."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.losses import Hinge, Huber, Logistic, Squared, SquaredHinge
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Dual
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, LipschitzRestriction, ReluGroupLasso, lam_max
from convexnn.restrictions.loss_bounds import admissible
from convexnn.restrictions.rows import distinct_rows
from convexnn.solvers import solve
from tests._families import few
from tests._instances import regression

TOL = 1e-6
LOSSES = {"huber": Huber(0.3), "squared_hinge": SquaredHinge(), "hinge": Hinge(), "logistic": Logistic()}


def l2(X, y, net, lam=1e-2, **options):
    return ReluGroupLasso(X, y, extract(net, X), lam, start=net, **options)


def gated(X, y, net, lam=1e-2, **options):
    return GatedGroupLasso(X, y, extract(net, X), lam, start=net, **options)


def joint(X, y, net, lam=1e-2, **options):
    return LipschitzProgram(X, y, extract(net, X), lam, start=net, **options)


def fixed(X, y, net, lam=1e-2, **options):
    return LipschitzRestriction.at(net, X, y, lam, **options)


PROGRAMS = {"l2": l2, "gated": gated, "joint": joint, "fixed": fixed}
each_program = pytest.mark.parametrize("build", PROGRAMS.values(), ids=PROGRAMS)
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


some_losses = pytest.mark.parametrize("loss", few(LOSSES, ["huber", "logistic"]))


def instance(loss, seed=0, n=30, d=3, p=8):
    """Data with rows repeated under the same and under other targets, and a network."""
    X, y, net = regression(seed, n, d, p)
    X, y = np.vstack([X, X[:6]]), np.r_[y, y[:3], -y[3:6]]
    return X, np.where(y > 0, 1.0, -1.0) if loss.binary else y, net


def weights(rng, y):
    """Positive weights, one row in five left out."""
    return (0.2 + rng.random(len(y))) * (rng.random(len(y)) > 0.2)


def solved(program, solver="interior_point", **options):
    """Solve; the evidence, recomputed from the data, must pass."""
    solution = solve(program, solver=solver, **options)
    assert solution.status == "optimal"
    assert solution.violation <= (0 if solver == "interior_point" else 1e-9)
    upper, lower = program.objective(solution.z), program.lower_bound(solution.dual)
    assert upper - lower <= TOL * max(upper, 1e-6 * program.scale) * (1 + 1e-6)
    return solution


# -- two roads ---------------------------------------------------------------------------------------
@each_program
@each_loss
@pytest.mark.parametrize("weighted", few({"weighted": True, "equal": False}))
def test_the_interior_point_agrees_with_clarabel(build, loss, weighted, rng):
    X, y, net = instance(loss)
    program = build(X, y, net, loss=loss, sample_weight=weights(rng, y) if weighted else None)
    ours, theirs = solved(program), solved(program, "clarabel")
    assert ours.iterations < 40
    # each interval [lower, objective] contains the optimum
    assert ours.lower_bound <= theirs.objective * (1 + 1e-9)
    assert theirs.lower_bound <= ours.objective * (1 + 1e-9)
    assert ours.objective <= program.objective(program.start)


@each_program
@each_loss
def test_cvxpy_states_the_objective(build, loss, rng):
    """At a point of ours the cvxpy objective, its other variables free, is ours: the loss and the best output bias."""
    X, y, net = instance(loss)
    program = build(X, y, net, loss=loss, lam=1e-9)
    U = 0.5 * program.start + 0.0
    problem = program.cvxpy_problem()
    variables = problem.var_dict
    point = U if "U" in variables else U / program._rescaled_outer()[:, None]
    name = "U" if "U" in variables else "W"
    fixed_there = cp.Problem(
        problem.objective, [*problem.constraints[1 if program.has_cones else 0 :], variables[name] == point]
    )
    assert fixed_there.solve(solver="CLARABEL") == pytest.approx(program.objective(U), rel=1e-6)


@each_program
@some_losses
def test_decoded_networks_are_never_worse_than_the_point(build, loss):
    X, y, net = instance(loss)
    program = build(X, y, net, loss=loss)
    solution = solved(program)
    decoded = program.decode(solution.z)
    predicted = program.structure().fitted(solution.z)
    shift = 0.0 if loss.binary else program.structure().y[0] - program.structure().targets[0]
    np.testing.assert_allclose(decoded(program.rows.X), predicted + shift, atol=1e-9)
    if build is not gated:
        assert program.network_objective(decoded) <= solution.objective * (1 + 1e-9)
    assert program.objective(program.start) <= program.network_objective(net) * (1 + 1e-9)


@pytest.mark.parametrize("build", [l2, joint], ids=["l2", "joint"])
def test_huber_with_a_large_threshold_is_the_squared_loss(build):
    X, y, net = instance(Huber())
    squared = solved(build(X, y, net))
    huber = solved(build(X, y, net, loss=Huber(1e3)))
    assert huber.objective == pytest.approx(squared.objective, rel=2e-6)
    # from below, it grows with the threshold
    values = [solved(build(X, y, net, loss=Huber(delta))).objective for delta in (0.1, 0.5, 2.0)]
    assert values[0] < values[1] < values[2] <= squared.objective * (1 + 2e-6)


# -- bounds for every multiplier ---------------------------------------------------------------------
@each_program
@each_loss
def test_any_dual_is_below_the_optimum(build, loss, rng):
    X, y, net = instance(loss)
    program = build(X, y, net, loss=loss)
    solution = solved(program)
    best, structure = solution.dual, program.structure()
    for noise in 10.0 ** rng.uniform(-9, 2, size=12):
        residual = best.residual * (1 + noise * rng.standard_normal(len(structure.y)))
        residual += 0.1 * noise * rng.standard_normal() * structure.weight
        rows = best.rows + noise * rng.standard_normal(best.rows.shape) * best.rows.mean()
        matrix = None
        if best.matrix is not None:
            matrix = best.matrix + noise * np.trace(best.matrix) * 1e-2 * rng.standard_normal(best.matrix.shape)
        bound = program.lower_bound(Dual(residual * rng.uniform(0.2, 3), rows, matrix))
        assert 0 <= bound <= solution.objective * (1 + 1e-12)


@each_loss
def test_unusable_duals_prove_nothing(loss):
    X, y, net = instance(loss)
    program = l2(X, y, net, loss=loss)
    s = program.structure()
    rows = np.zeros_like(s.S)
    assert program.lower_bound(Dual(np.full(len(s.y), np.nan), rows)) == -np.inf
    assert program.lower_bound(Dual(np.zeros(3), rows)) == -np.inf
    for wild in (np.full(len(s.y), 1e300), -1e300 * s.y, np.zeros(len(s.y)), 1e-300 * s.y):
        assert 0 <= program.lower_bound(Dual(wild, rows)) <= program.scale


@each_loss
def test_any_residual_is_moved_to_the_nearest_admissible_one(loss, rng):
    X, y, net = instance(loss)
    s = l2(X, y, net, loss=loss, sample_weight=rng.random(len(y))).structure()
    low, high = loss.slopes(s.y)
    for size in (1e-3, 1.0, 30.0):
        wanted = size * s.weight * rng.standard_normal(len(s.y))
        p = admissible(s, wanted)
        assert abs(p.sum()) <= 1e-15 * max(np.abs(p).sum(), np.abs(wanted).sum())
        assert (p / s.weight >= low - 1e-14).all()
        assert (p / s.weight <= high + 1e-14).all()
        np.testing.assert_allclose(admissible(s, p), p, atol=1e-15)
        for _ in range(50):  # p is nearest exactly when no admissible q lies closer in direction
            q = np.clip(rng.standard_normal(len(p)) * size, low, high) * s.weight
            up, down = q[q > 0].sum(), -q[q < 0].sum()
            q = np.where(q > 0, q * min(1, down / up), q * min(1, up / down))
            assert ((p - wanted) * (q - p) / s.weight).sum() >= -1e-13 * size**2


@each_loss
def test_residuals_without_digits_prove_nothing_false(loss, rng):
    """At 1e20 the clipped residuals cannot be moved to sum zero; a sum left over would prove too much."""
    patterns = ActivationPatterns(np.ones((3, 1), dtype=bool), np.ones(1))
    program = ReluGroupLasso([[0.0], [1.0], [2.0]], [1.0, -1.0, -1.0], patterns, 1e3, loss=loss)
    for _ in range(200):
        size = 10.0 ** rng.uniform(5, 25)
        residual = (size + rng.normal(size=3) * size * 10.0 ** rng.uniform(-17, -10)) * program.rows.weight
        p = admissible(program.structure(), residual)
        assert abs(p.sum()) <= 1e-15 * np.abs(p).sum()
        assert program.lower_bound(Dual(residual, np.zeros((3, 1)))) <= program.scale * (1 + 1e-12)  # that of lam = inf


# -- rows and weights --------------------------------------------------------------------------------
@each_loss
def test_repeating_a_row_is_raising_its_weight(loss):
    X, y, net = instance(loss)
    repeated = l2(np.vstack([X, X[:5]]), np.r_[y, y[:5]], net, loss=loss)
    weighted = l2(X, y, net, loss=loss, sample_weight=1.0 + (np.arange(len(y)) < 5))
    assert solved(repeated).objective == pytest.approx(solved(weighted).objective, rel=2e-6)


def test_rows_that_differ_in_the_target_alone_share_their_cone_row():
    X, y = np.array([[1.0], [0.0], [1.0], [1.0]]), np.array([1.0, 1.0, -1.0, 1.0])
    rows = distinct_rows(X, y, with_targets=True)
    np.testing.assert_array_equal(rows.X[:, 0], [0.0, 1.0, 1.0])
    np.testing.assert_array_equal(rows.y, [1.0, -1.0, 1.0])
    np.testing.assert_array_equal(rows.fresh, [True, True, False])
    np.testing.assert_allclose(rows.weight, [0.25, 0.25, 0.5])
    program = ReluGroupLasso(X, y, ActivationPatterns(np.ones((4, 1), dtype=bool), np.array([1])), 0.1, loss="hinge")
    np.testing.assert_array_equal(program.structure().S[:, 0], [1.0, 1.0, 0.0])
    # equal rows of X with different patterns are refused even where their targets differ
    split = ActivationPatterns(np.array([[True], [True], [False], [True]]), np.array([1]))
    with pytest.raises(InvalidInputError, match="repeated rows"):
        ReluGroupLasso(X, y, split, 0.1, loss="hinge")


# -- corners -----------------------------------------------------------------------------------------
@each_program
@pytest.mark.parametrize("loss", [SquaredHinge(), Hinge(), Logistic()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("label", [-1.0, 1.0])
def test_one_class_alone_costs_nothing(build, loss, label):
    X, _, net = instance(loss)
    program = build(X, np.full(len(X), label), net, loss=loss)
    solution = solved(program)
    assert solution.objective < 1e-40
    np.testing.assert_array_equal(solution.z, 0)
    assert (label * program.decode(solution.z)(X) >= 1).all()


@each_program
@pytest.mark.parametrize("lam", [1e-5, 1e-3])
def test_logistic_on_separable_data_has_a_finite_optimum(build, lam):
    X, _, net = regression(n=40, p=6)
    program = build(X, np.where(X[:, 0] > 0, 1.0, -1.0), net, lam, loss="logistic")
    solution = solved(program)
    assert solution.objective < program.scale
    assert np.isfinite(solution.z).all()


@some_losses
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_inputs_of_every_scale(loss, scale):
    X, y, net = instance(loss)
    shrunk = Network.shallow(net.W / scale, net.b, net.v, 0.0)
    for build in (l2, joint):
        solved(build(X * scale, y, shrunk, loss=loss))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_huber_keeps_its_shape_when_targets_and_threshold_are_scaled(scale):
    # F(scale y, scale delta, scale^2 lam for the squared Lipschitz bound) = scale^2 F
    X, y, net = instance(Huber())
    plain = solved(joint(X, y, net, loss=Huber(0.3)))
    scaled = solved(joint(X, scale * y, net, loss=Huber(0.3 * scale)))
    assert scaled.objective == pytest.approx(scale**2 * plain.objective, rel=2e-6)
    shifted = solved(joint(X, y + 1e4, net, loss=Huber(0.3)))
    assert shifted.objective == pytest.approx(plain.objective, rel=2e-6)


@some_losses
@pytest.mark.parametrize(("n", "d", "p"), [(2, 1, 1), (1, 2, 3), (5, 4, 9)])
def test_tiny_problems(loss, n, d, p):
    X, y, net = regression(3, n, d, p)
    y = np.where(y > np.median(y) - 1e-9, 1.0, -1.0) if loss.binary else y
    for build in PROGRAMS.values():
        solved(build(X, y, net, loss=loss))


@each_loss
def test_a_huge_weight_leaves_the_best_constant(loss):
    X, y, net = instance(loss)
    program = l2(X, y, net, 1e3, loss=loss)
    grid = np.linspace(-2, 2, 4001)
    values = [program.structure().weight @ loss.value(np.full(len(program.rows.y), c), program.rows.y) for c in grid]
    solution = solved(program)
    assert solution.objective == pytest.approx(program.scale, rel=1e-6)
    assert program.scale == pytest.approx(min(values), rel=1e-4)
    assert program.scale <= min(values) * (1 + 1e-12)


@each_loss
def test_stopped_early_it_is_never_worse_than_the_start(loss):
    X, y, net = instance(loss)
    for build in (l2, joint):
        program = build(X, y, net, loss=loss)
        for limit in (1, 3, 6):
            solution = solve(program, solver="interior_point", max_iter=limit)
            assert solution.violation == 0
            assert solution.lower_bound <= solution.objective <= program.objective(program.start)


def test_targets_that_do_not_fit_are_refused():
    X, y, net = regression()
    for name in ("hinge", "squared_hinge", "logistic"):
        with pytest.raises(InvalidInputError, match=r"targets -1 and \+1"):
            l2(X, y, net, loss=name)
        with pytest.raises(InvalidInputError, match="NaN"):
            l2(X, np.where(np.arange(len(y)) == 3, np.nan, np.sign(y)), net, loss=name)
        with pytest.raises(InvalidInputError, match=r"targets -1 and \+1"):
            lam_max(X, y, loss=name)
    with pytest.raises(InvalidInputError, match="several outputs"):
        l2(X, y, net, loss="multi_margin")
    with pytest.raises(InvalidInputError, match="expected one of"):
        l2(X, y, net, loss="absolute")


@each_loss
def test_lam_max_of_other_losses(loss):
    X, y, net = instance(loss)
    patterns = extract(net, X)
    for regularizer, program in (("l2", ReluGroupLasso), ("gated", GatedGroupLasso)):
        threshold = lam_max(X, y, patterns, regularizer=regularizer, loss=loss)
        above = program(X, y, patterns, threshold * (1 + 1e-6), loss=loss)
        zero = np.zeros((patterns.n_patterns, X.shape[1] + 1))
        dual = above.refine(zero, Dual(above.residual_multiplier(zero), np.zeros_like(above.structure().S)))
        np.testing.assert_allclose(above.lower_bound(dual), above.scale, rtol=1e-8)
        below = program(X, y, patterns, 0.95 * threshold, loss=loss)
        if not isinstance(loss, Hinge):  # a sufficient value only
            assert solved(below).objective < below.scale * (1 - 1e-5)
    lam = lam_max(X, y, loss=loss, fraction=0.1)
    program = LipschitzProgram(X, y, patterns, lam, loss=loss)
    assert 0.9 * program.scale <= solved(program).objective <= program.scale
    assert lam_max(X, y, loss="squared") == lam_max(X, y, loss=Squared())
