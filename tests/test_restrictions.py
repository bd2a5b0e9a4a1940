"""The convex training programs: two roads, evidence, inequalities, symmetries, corners."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InfeasibleStartError, InvalidInputError, UnsupportedModelError
from convexnn.lipsdp import maximize, t_from_multiplier
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Dual, Program
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, LipschitzRestriction, ReluGroupLasso
from convexnn.restrictions.cones import least_distance, project
from convexnn.restrictions.lipschitz_fixed import spread
from convexnn.restrictions.lipschitz_joint import RIDGE, lipsdp_rows
from convexnn.restrictions.multipliers import stationarity
from convexnn.restrictions.rows import distinct_rows
from convexnn.restrictions.spectral import conjugate, split
from convexnn.restrictions.units import merge
from convexnn.solvers import solve


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
each_relu_program = pytest.mark.parametrize("build", [l2, joint, fixed], ids=["l2", "joint", "fixed"])


each_solver = pytest.mark.parametrize("solver", ["clarabel", "interior_point"])


def instance(seed: int = 0, n: int = 40, d: int = 3, m: int = 6):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = np.sin(X[:, 0]) + 0.3 * X[:, -1] ** 2 + 0.1 * rng.normal(size=n)
    net = Network.shallow(rng.normal(size=(m, d)), rng.normal(size=m), rng.normal(size=m) / m, 0.1)
    return X, y, net


def optimum(program, tol=1e-6):
    solution = solve(program, solver="clarabel", tol=tol)
    assert solution.gap <= tol
    assert solution.violation <= 1e-12
    return solution


def random_feasible(program, rng):
    """A point in the cones: the start with every unit stretched at random."""
    return program.start * rng.uniform(0, 3, size=(len(program.start), 1))


# -- two roads and evidence -----------------------------------------------------------------------------


@each_program
@pytest.mark.parametrize("lam", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_cvxpy_value_lies_between_our_bounds(build, lam, seed):
    program = build(*instance(seed), lam)
    problem = program.cvxpy_problem()
    problem.solve(solver="CLARABEL")
    z, dual = program.read_cvxpy(problem)
    upper, lower = program.objective(z, dual), program.lower_bound(dual)
    assert isinstance(program, Program)
    assert program.violation(z) <= 1e-12
    assert lower <= upper
    assert upper - lower <= 1e-6 * upper
    assert problem.value == pytest.approx(upper, rel=1e-6)


@each_program
@pytest.mark.parametrize("seed", [0, 1])
def test_both_solvers_agree_within_their_verified_gaps(build, seed):
    program = build(*instance(seed), 1e-2)
    generic, own = optimum(program), solve(program, solver="interior_point")
    assert own.is_optimal
    assert own.lower_bound <= generic.objective
    assert generic.lower_bound <= own.objective


@each_program
@pytest.mark.parametrize("x_scale", [1e-3, 1e3])
@pytest.mark.parametrize("y_scale", [1e-3, 1e3])
def test_units_of_the_data_do_not_matter(build, x_scale, y_scale):
    X, y, net = instance()
    scaled = Network.shallow(net.W / x_scale, net.b, y_scale * net.v, 0.0)
    lam = 1e-2 * (x_scale**2 if build in (joint, fixed) else y_scale)
    solution = solve(build(x_scale * X, y_scale * y, scaled, lam), solver="interior_point")
    assert solution.is_optimal
    if build in (joint, fixed):  # LipSDP scales like y / x; the norms of (6) see weights and bias together
        expected = y_scale**2 * optimum(build(X, y, net)).objective
        assert solution.objective == pytest.approx(expected, rel=3e-6)


def test_labels_and_variables_of_the_reference():
    X, y, net = instance()
    assert set(joint(X, y, net).cvxpy_problem().var_dict) == {"U", "c", "q"}
    assert set(fixed(X, y, net).cvxpy_problem().var_dict) == {"W", "c", "L2"}
    assert {constraint.label for constraint in joint(X, y, net).cvxpy_problem().constraints} == {"cones", "lmi"}
    assert {constraint.label for constraint in l2(X, y, net).cvxpy_problem().constraints} == {"cones"}
    assert gated(X, y, net).cvxpy_problem().constraints == []


def test_terms_add_up_and_the_ridge_is_named():
    program = joint(*instance())
    terms = program.terms(program.start)
    assert set(terms) == {"loss", "regularizer", "ridge"}
    assert math.fsum(terms.values()) == program.objective(program.start)
    assert terms["ridge"] == pytest.approx(RIDGE * np.sum(program.start[:, -1] ** 2))


def test_the_multiplier_in_a_dual_only_tightens_the_objective():
    program = joint(*instance())
    solution = optimum(program)
    assert program.objective(solution.z, solution.dual) <= program.objective(solution.z)
    rng = np.random.default_rng(3)
    wild = rng.normal(size=solution.dual.matrix.shape)
    other = Dual(solution.dual.residual, solution.dual.rows, wild @ wild.T)
    exact = program.objective(solution.z)
    assert program.objective(solution.z, other) == pytest.approx(exact, rel=1e-8)


# -- lower bounds: valid for every dual -----------------------------------------------------------------


@each_program
def test_lower_bound_of_any_dual_is_below_the_optimum(build):
    program = build(*instance(2), 1e-2)
    solution = optimum(program)
    rng = np.random.default_rng(0)
    n, p = program.structure().S.shape
    size = program.structure().n_weights + p + 1
    for trial in range(60):
        noise = rng.normal(size=(size, size))
        scale = 10.0 ** rng.uniform(-6, 1)
        near = Dual(
            solution.dual.residual + scale * rng.normal(size=n) * np.abs(solution.dual.residual).max(),
            solution.dual.rows + scale * rng.normal(size=(n, p)),
            None
            if trial % 5 == 0
            else (solution.dual.matrix if trial % 2 and build in (joint, fixed) else noise @ noise.T),
        )
        assert program.lower_bound(near) <= solution.objective * (1 + 1e-12)


@each_program
def test_sabotaged_duals_loosen_but_never_lie(build):
    program = build(*instance(1), 1e-2)
    solution = optimum(program)
    good = solution.dual
    matrix = np.eye(program.structure().n_weights + len(solution.z) + 1) if good.matrix is None else good.matrix
    sabotaged = [
        Dual(-good.residual, good.rows, good.matrix),
        Dual(1e6 * good.residual, good.rows, good.matrix),
        Dual(good.residual, -good.rows, good.matrix),
        Dual(good.residual, 0 * good.rows, good.matrix),
        Dual(0 * good.residual, 0 * good.rows, 0 * matrix),
        Dual(good.residual, good.rows, -matrix),
        Dual(good.residual, good.rows, 1e-300 * matrix),
        Dual(good.residual, good.rows, matrix[::-1].copy()),
        Dual(1e200 * good.residual, 1e200 * good.rows, 1e200 * matrix),
    ]
    for dual in sabotaged:
        assert program.lower_bound(dual) <= solution.objective * (1 + 1e-12)


@each_program
def test_unreadable_duals_prove_nothing(build):
    program = build(*instance(1), 1e-2)
    n, p = program.structure().S.shape
    rows, residual = np.zeros((n, p)), np.zeros(n)
    assert program.lower_bound(Dual(np.full(n, np.nan), rows)) == -math.inf
    assert program.lower_bound(Dual(residual, np.full((n, p), np.inf))) == -math.inf
    assert program.lower_bound(Dual(residual[1:], rows)) == -math.inf
    assert program.lower_bound(Dual(residual, rows, np.eye(2))) == -math.inf
    assert program.lower_bound(Dual(residual, rows)) >= 0


def test_refined_rows_never_prove_less():
    for build in (l2, joint, fixed):
        program = build(*instance(4), 1e-2)
        solution = optimum(program)
        blunt = Dual(solution.dual.residual, 0 * solution.dual.rows, solution.dual.matrix)
        assert program.lower_bound(program.refine(solution.z, blunt)) >= program.lower_bound(blunt)
        # the rows alone, refitted from nothing, prove the optimum again
        assert program.lower_bound(program.refine(solution.z, blunt)) >= solution.objective * (1 - 1e-5)


def test_roundoff_of_stationarity_is_enclosed(rng):
    # long multipliers that cancel, against exact rational arithmetic
    s = joint(*instance(n=12, d=2, m=2)).structure()
    rows = np.abs(rng.normal(size=s.S.shape)) * 1e12
    p = rng.normal(size=12)
    Z, error = stationarity(s, p, rows)
    exact = [[Fraction(0)] * 3 for _ in range(2)]
    total = sum(map(Fraction, p))
    for k in range(12):
        centred = Fraction(p[k]) - Fraction(s.weight[k]) * total
        for i in range(2):
            factor = Fraction(s.S[k, i]) * Fraction(rows[k, i]) - centred * Fraction(s.D[k, i])
            for a in range(3):
                exact[i][a] += factor * Fraction(s.X[k, a])
    distance = np.array([[abs(float(Fraction(Z[i, a]) - exact[i][a])) for a in range(3)] for i in range(2)])
    assert (distance <= error).all()
    assert error.max() <= 1e-14 * 12 * np.abs(rows).sum()


def test_conjugate_inequality_on_random_points():
    rng = np.random.default_rng(5)
    for _ in range(50):
        p, d, lam, theta = 4, 3, 10.0 ** rng.uniform(-3, 3), rng.uniform(0, 2)
        U, Z, first = rng.normal(size=(p, d)), rng.normal(size=(p, d)), rng.normal(size=d)
        root = rng.normal(size=(d, d))
        q = rng.dirichlet(np.ones(p + 1))
        B = np.vstack([U.sum(axis=0), U])
        P = split(Z, first)
        free = lam * maximize(B).lower ** 2
        frozen = lam * np.linalg.eigvalsh(0.25 * B.T @ (B / q[:, None]))[-1]
        shift = rng.normal(size=(p, d))  # the value with an error covers every shift up to it
        error = np.vstack([np.zeros(d), np.abs(shift)])
        for M in (None, root @ root.T, np.outer(root[0], root[0])):
            assert free >= theta * np.vdot(Z, U) - theta**2 * conjugate(P, M, lam, None) - 1e-9
            assert frozen >= theta * np.vdot(Z, U) - theta**2 * conjugate(P, M, lam, q) - 1e-9
            shifted = theta * np.vdot(Z + shift, U)
            assert free >= shifted - theta**2 * conjugate(P, M, lam, None, error) - 1e-9
            assert frozen >= shifted - theta**2 * conjugate(P, M, lam, q, error) - 1e-9


# -- inequalities between programs ----------------------------------------------------------------------


@each_program
def test_start_is_feasible_and_no_worse_than_its_network(build):
    for seed in range(5):
        X, y, net = instance(seed)
        program = build(X, y, net)
        assert program.violation(program.start) <= 1e-12
        assert program.objective(program.start) <= program.network_objective(net) * (1 + 1e-9)
        assert optimum(program).objective <= program.objective(program.start)


@each_relu_program
def test_decoded_network_is_no_worse_than_its_point(build):
    rng = np.random.default_rng(0)
    for seed in range(3):
        program = build(*instance(seed))
        for z in (random_feasible(program, rng), optimum(program).z, 0 * program.start):
            assert program.network_objective(program.decode(z)) <= program.objective(z) * (1 + 1e-9)


def test_joint_is_below_the_restriction_and_gated_below_relu():
    for seed in range(3):
        X, y, net = instance(seed)
        assert optimum(joint(X, y, net)).objective <= optimum(fixed(X, y, net)).objective * (1 + 1e-6)
        assert optimum(gated(X, y, net)).objective <= optimum(l2(X, y, net)).objective * (1 + 1e-6)


def test_gated_bound_does_not_depend_on_signs():
    X, y, net = instance()
    D = extract(net, X).D
    values = [optimum(GatedGroupLasso(X, y, ActivationPatterns(D, s * np.ones(6)), 1e-2)).objective for s in (1, -1)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@each_relu_program
def test_more_patterns_never_hurt(build):
    X, y, net = instance()
    other = instance(9)[2]
    if build is fixed:
        pytest.skip("(12) has one multiplier a pattern: another set is another restriction")
    few, many = extract(net, X), extract(net, X).union(extract(other, X))
    program = type(build(X, y, net))
    assert optimum(program(X, y, many, 1e-2)).objective <= optimum(program(X, y, few, 1e-2)).objective * (1 + 1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_restriction_with_the_joint_multiplier_is_the_joint_program(seed):
    X, y, net = instance(seed)
    best = optimum(joint(X, y, net))
    q = spread(lipsdp_rows(best.z))
    restriction = LipschitzRestriction(X, y, extract(net, X), 1e-2, multiplier=q)
    assert optimum(restriction).objective == pytest.approx(best.objective, rel=1e-6)


def test_copies_of_a_pattern_do_not_help_the_joint_program():
    # docs/theory/joint_program.md, Proposition 3: units of one cone can be summed
    X, y, net = instance()
    once = extract(net, X)
    twice = once.union(once)
    assert len(twice) == 2 * len(once)
    single, double = (LipschitzProgram(X, y, patterns, 1e-2) for patterns in (once, twice))
    assert double.patterns.n_patterns == 2 * single.patterns.n_patterns
    assert optimum(double).objective == pytest.approx(optimum(single).objective, rel=1e-6)


# -- networks and points --------------------------------------------------------------------------------


@each_program
def test_decoded_network_predicts_what_the_point_predicts(build):
    program = build(*instance(3))
    solution = optimum(program)
    network, s = program.decode(solution.z), program.structure()
    mean = s.weight @ s.y
    # centred predictions plus the mean target: the best output bias
    np.testing.assert_allclose(network(program.rows.X), s.predict(solution.z) + mean, atol=1e-9)


@each_relu_program
def test_lift_undoes_decode(build):
    program = build(*instance(3))
    rng = np.random.default_rng(1)
    for z in (random_feasible(program, rng), optimum(program).z):
        np.testing.assert_allclose(program.lift(program.decode(z)), z, atol=1e-12 * np.abs(z).max())


def test_lift_finds_cones_of_permuted_and_repeated_units():
    X, y, net = instance()
    program = l2(X, y, net)
    order = np.r_[[3, 1, 5, 0], [3, 2, 4]]  # unit 3 twice: the copies are summed
    mixed = Network.shallow(net.W[order], net.b[order], net.v[order] * np.where(order == 3, 0.5, 1), 0.7)
    np.testing.assert_allclose(program.lift(mixed), program.start, atol=1e-15)


@each_program
def test_ties_are_feasible_and_solved(build):
    # integer data and weights: many rows lie exactly on the boundary of a unit
    rng = np.random.default_rng(0)
    X = rng.integers(-2, 3, size=(60, 3)).astype(float)
    y = X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=60)
    W, b = rng.integers(-1, 2, size=(6, 3)).astype(float), rng.integers(-1, 2, size=6).astype(float)
    net = Network.shallow(W, b, rng.normal(size=6))
    assert (X @ W.T + b == 0).sum() > 20
    program = build(X, y, net)
    assert program.violation(program.start) <= 1e-15
    assert program.objective(program.start) <= program.network_objective(net) * (1 + 1e-9)
    assert optimum(program).objective <= program.objective(program.start)
    assert solve(program, solver="interior_point").is_optimal


def test_lift_refuses_a_foreign_pattern_by_number():
    X, y, net = instance()
    foreign = Network.shallow(-net.W[:1], -net.b[:1], net.v[:1])
    for build in (l2, joint, fixed, gated):
        with pytest.raises(InvalidInputError, match="unit 0 .* pattern"):
            build(X, y, net).lift(foreign)


def test_units_are_balanced():
    program = l2(*instance())
    network = program.decode(optimum(program).z)
    inner = np.linalg.norm(np.hstack([network.W, network.b[:, None]]), axis=1)
    np.testing.assert_allclose(inner, np.abs(network.v), rtol=1e-12)


def test_restriction_keeps_the_outer_weights():
    X, y, net = instance()
    program = fixed(X, y, net)
    np.testing.assert_array_equal(np.abs(program.decode(optimum(program).z).v), np.abs(net.v))


def test_zero_units_come_back_as_zero_units():
    X, y, net = instance()
    for build in (l2, joint):
        network = build(X, y, net).decode(np.zeros((6, 4)))
        assert not network.W.any()
        assert not network.v.any()
        assert network.c == pytest.approx(y.mean())


def test_programs_refuse_other_networks():
    X, y, net = instance()
    program = joint(X, y, net)
    with pytest.raises(UnsupportedModelError, match="tanh"):
        program.lift(Network.shallow(net.W, net.b, net.v, 0.0, "tanh"))
    with pytest.raises(UnsupportedModelError, match="2 output"):
        program.lift(Network.shallow(net.W, net.b, np.vstack([net.v, net.v])))
    with pytest.raises(InvalidInputError, match="takes 2 inputs"):
        program.lift(Network.shallow(net.W[:, :2], net.b, net.v))


# -- the gated decomposition ----------------------------------------------------------------------------


def test_cone_decomposition_gives_a_relu_network_with_two_units_a_gate():
    for seed in range(4):
        program = gated(*instance(seed, n=60, m=8))
        solution = optimum(program)
        network, s = program.decode(solution.z), program.structure()
        assert network.n_hidden[0] <= 16
        expected = s.raw_predict(solution.z) + s.intercept(solution.z)
        np.testing.assert_allclose(network(program.rows.X), expected, atol=1e-9)
        # a relaxation: decoding costs weight decay, never loss
        assert program.network_objective(network) >= solution.objective * (1 - 1e-9)


def test_a_gate_without_interior_is_named():
    X = np.array([[0.0], [1.0], [2.0]])  # on a line no unit is active at both ends and not between
    program = GatedGroupLasso(X, [0.0, 1.0, 0.0], ActivationPatterns([[True], [False], [True]]), 1e-3)
    with pytest.raises(InvalidInputError, match="gate 0"):
        program.decode(np.array([[1.0, 0.3]]))


def test_projection_and_least_distance_satisfy_their_optimality_conditions(rng):
    for _ in range(20):
        G, u = rng.normal(size=(12, 4)), rng.normal(size=4)
        G = G * np.sign(G @ np.ones(4))[:, None]  # the cone holds the vector of ones
        near = project(G, u)
        assert (G @ near).min() >= -1e-12
        assert abs(near @ (u - near)) <= 1e-12  # Moreau: the residual is polar and orthogonal
        h = rng.uniform(0, 1, size=12)
        short = least_distance(G, h)
        assert (G @ short - h).min() >= -1e-9
        ones = np.ones(4) * np.max(h / (G @ np.ones(4)))
        assert np.linalg.norm(short) <= np.linalg.norm(ones) * (1 + 1e-9)
    assert least_distance(np.array([[1.0], [-1.0]]), np.ones(2)) is None


# -- the restriction (12): T, |v|, dead units -----------------------------------------------------------


def test_smallest_l2_of_the_matrix_inequality_is_the_reduced_form(rng):
    # F1: M(W, v, T, L) >= 0 exactly when L^2 >= lambda_max(1/4 sum b_i b_i'/q_i) (and q_0 > 0)
    W, v = rng.normal(size=(4, 3)), rng.normal(size=4)
    q = rng.dirichlet(np.ones(5))
    t = t_from_multiplier(v, q)
    B = np.vstack([v @ W, v[:, None] * W])
    least = np.linalg.eigvalsh(0.25 * B.T @ (B / q[:, None]))[-1]

    def smallest_eigenvalue(square):
        TW = np.diag(t) @ W
        M = np.block(
            [
                [square * np.eye(3), -TW.T, np.zeros((3, 1))],
                [-TW, 2 * np.diag(t), v[:, None]],
                [np.zeros((1, 3)), v[None], np.ones((1, 1))],
            ]
        )
        return np.linalg.eigvalsh(M)[0]

    assert smallest_eigenvalue(least * (1 + 1e-9)) >= -1e-9
    assert smallest_eigenvalue(least * (1 - 1e-3)) < -1e-6


def test_zero_units_do_not_return_their_share_of_the_multiplier():
    # q is fixed in (12): the value at a point with a zero unit still divides by the q of the others only
    X, y, net = instance()
    program = LipschitzRestriction(X, y, extract(net, X), 1e-2, multiplier=np.full(7, 1 / 7), start=net)
    z = program.start.copy()
    z[:3] = 0.0
    B = lipsdp_rows(z)
    expected = 1e-2 * np.linalg.norm(B / (2 * np.sqrt(1 / 7)), 2) ** 2
    assert program.terms(z)["regularizer"] == pytest.approx(expected, rel=1e-12)
    assert program.terms(z)["regularizer"] > 1e-2 * maximize(B).upper ** 2


def test_t_and_q_say_the_same():
    X, y, net = instance()
    patterns, nu = extract(net, X), np.abs(net.v)
    q = spread(lipsdp_rows(merge(net)))
    by_q = LipschitzRestriction(X, y, patterns, 1e-2, outer_weights=nu, multiplier=q)
    by_t = LipschitzRestriction(X, y, patterns, 1e-2, outer_weights=nu, multiplier=t_from_multiplier(nu, q))
    np.testing.assert_allclose(by_t.q, by_q.q, rtol=1e-8)
    assert optimum(by_t).objective == pytest.approx(optimum(by_q).objective, rel=1e-6)
    rescaled = LipschitzRestriction(X, y, patterns, 1e-2, multiplier=q)  # Lemma 5: |v| does not matter
    assert optimum(rescaled).objective == pytest.approx(optimum(by_q).objective, rel=1e-6)


def test_small_t_is_infeasible_in_words():
    X, y, net = instance()
    nu = np.abs(net.v)
    with pytest.raises(InfeasibleStartError, match="q_0"):  # Lemma 6
        LipschitzRestriction(X, y, extract(net, X), 1e-2, outer_weights=nu, multiplier=0.1 * nu**2)


def test_dead_units_stay_zero():
    X, y, net = instance()
    v = net.v.copy()
    v[2] = 0.0
    W = net.W.copy()
    W[4] = 0.0  # a constant unit: the output bias takes it over
    start = Network.shallow(W, net.b, v, net.c)
    program = fixed(X, y, start)
    np.testing.assert_array_equal(program.units, [0, 1, 3, 5])
    assert program.objective(program.start) <= program.network_objective(start) * (1 + 1e-9)
    network = program.decode(optimum(program).z)
    assert network.n_hidden == (6,)
    assert not network.W[[2, 4]].any()
    np.testing.assert_allclose(program.lift(network), optimum(program).z, atol=1e-12)
    with pytest.raises(InvalidInputError, match="unit 2 .* dead"):
        program.lift(net)
    # in the joint program such a unit can revive
    assert optimum(LipschitzProgram(X, y, extract(start, X), 1e-2)).objective <= optimum(program).objective * (1 + 1e-6)


def test_opposite_units_leave_the_sum_free():
    # u and -u: b_0 = 0 and its best multiplier is zero; the restriction still gives it a share
    X, y, net = instance()
    W, b = np.vstack([net.W[:1], net.W[:1]]), np.r_[net.b[0], net.b[0]]
    program = fixed(X, y, Network.shallow(W, b, [1.0, -1.0]))
    assert program.q[0] > 0
    assert program.objective(program.start) <= program.network_objective(Network.shallow(W, b, [1.0, -1.0])) * (
        1 + 1e-9
    )


@pytest.mark.parametrize(
    ("multiplier", "outer_weights", "sentence"),
    [
        (np.ones(3), np.ones(6), "multiplier must hold 6"),
        (np.ones(6), None, "needs outer_weights"),
        (np.full(7, np.nan), None, "multiplier must hold"),
        (np.full(7, 1.0), None, "sums to 7"),
        (np.full(7, 1 / 7), -np.ones(6), "outer_weights must hold"),
        (np.r_[1.0, np.zeros(6)], None, "every unit is dead"),
    ],
)
def test_unusable_multipliers_are_refused(multiplier, outer_weights, sentence):
    X, y, net = instance()
    with pytest.raises(InvalidInputError, match=sentence):
        LipschitzRestriction(X, y, extract(net, X), 1e-2, multiplier=multiplier, outer_weights=outer_weights)


# -- symmetries -----------------------------------------------------------------------------------------


@each_program
def test_symmetries_of_the_optimum(build):
    X, y, net = instance()
    reference = optimum(build(X, y, net)).objective
    rng = np.random.default_rng(1)
    units, rows = rng.permutation(6), rng.permutation(len(X))
    permuted = Network.shallow(net.W[units], net.b[units], net.v[units], net.c)
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = Network.shallow(net.W @ Q, net.b, net.v, net.c)
    shifted = Network.shallow(net.W, net.b, net.v, net.c + 100)
    repeats = rng.integers(1, 4, size=len(X))
    repeated = np.repeat(np.arange(len(X)), repeats)
    same = {
        "units": build(X, y, permuted),
        "rows": build(X[rows], y[rows], net),
        "copies": build(np.vstack([X, X]), np.r_[y, y], net),
        "weights scaled": build(X, y, net, sample_weight=7 * np.ones(len(X))),
        "rotation": build(X @ Q, y, turned),
        "shift": build(X, y + 100, shifted),
    }
    for name, program in same.items():
        assert optimum(program).objective == pytest.approx(reference, rel=2e-6), name
    weighted = optimum(build(X, y, net, sample_weight=repeats)).objective
    assert optimum(build(X[repeated], y[repeated], net)).objective == pytest.approx(weighted, rel=2e-6)


@pytest.mark.parametrize("build", [joint, fixed], ids=["joint", "fixed"])
@each_solver
def test_the_origin_of_the_inputs_does_not_matter(build, solver):
    # the ridge is measured at the mean of X: a year near 2000 costs no more than a year near 0
    X, y, net = instance()
    moved = Network.shallow(net.W, net.b - 2000 * net.W.sum(axis=1), net.v, net.c)
    here, there = build(X, y, net), build(X + 2000, y, moved)
    solutions = [solve(program, solver=solver) for program in (here, there)]
    assert all(solution.is_optimal for solution in solutions)
    assert solutions[1].objective == pytest.approx(solutions[0].objective, rel=2e-6)
    assert there.network_objective(moved) == pytest.approx(here.network_objective(net), rel=1e-9)
    network = there.decode(solutions[1].z)
    assert there.network_objective(network) == pytest.approx(solutions[1].objective, rel=1e-8) or build is fixed


@each_program
def test_shifted_targets_move_the_output_bias_only(build):
    X, y, net = instance()
    here, there = build(X, y, net), build(X, y + 100, net)
    z = random_feasible(here, np.random.default_rng(0))
    assert there.objective(z) == pytest.approx(here.objective(z), rel=1e-10)
    assert there.decode(z).c == pytest.approx(here.decode(z).c + 100)
    np.testing.assert_array_equal(there.decode(z).W, here.decode(z).W)


@each_program
@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_scaled_targets_scale_the_optimum(build, scale):
    X, y, net = instance()
    scaled = Network.shallow(net.W, net.b, scale * net.v, scale * net.c)
    # squared penalties keep lam, the norms of (6) need scale * lam
    lam = 1e-2 if build in (joint, fixed) else 1e-2 * scale
    assert optimum(build(X, scale * y, scaled, lam)).objective == pytest.approx(
        scale**2 * optimum(build(X, y, net)).objective, rel=1e-5
    )


@pytest.mark.parametrize("build", [joint, fixed], ids=["joint", "fixed"])
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_scaled_inputs_scale_lam(build, scale):
    X, y, net = instance()
    scaled = Network.shallow(net.W / scale, net.b, net.v, net.c)
    program = build(scale * X, y, scaled, 1e-2 * scale**2)
    assert optimum(program).objective == pytest.approx(optimum(build(X, y, net)).objective, rel=1e-5)


# -- corners --------------------------------------------------------------------------------------------


@each_program
@each_solver
def test_one_unit_and_one_sample(build, solver):
    X, y, net = instance(m=1)
    assert optimum(build(X, y, net)).objective <= y.var() * (1 + 1e-9)
    single = build(X[:1], y[:1], net)
    # the output bias alone fits one point: U = 0 is optimal with value zero
    assert single.objective(0 * single.start) == 0
    assert solve(single, solver=solver).objective <= 1e-6


def test_huge_lam_gives_the_mean():
    # (6): U = 0 is optimal when max_i |A'p|_i <= 2 lam at p = -2 om (y - mean); there the bound is the variance
    X, y, net = instance()
    program = l2(X, y, net, 1e-2)
    zero = np.zeros_like(program.start)
    critical = np.linalg.norm(program.structure().adjoint(program.residual_multiplier(zero)), axis=1).max() / 2
    program = l2(X, y, net, critical * 1.001)
    dual = Dual(program.residual_multiplier(zero), np.zeros_like(program.structure().S))
    assert program.lower_bound(dual) == pytest.approx(y.var(), rel=1e-12)
    assert program.objective(zero) == pytest.approx(y.var(), rel=1e-12)
    # Lipschitz: lam L^2 <= F(U) <= F(0) = variance
    for build in (joint, fixed):
        program = build(X, y, net, 1e3)
        z = optimum(program).z
        assert maximize(lipsdp_rows(z)).lower <= np.sqrt(y.var() / 1e3)


@each_program
@each_solver
def test_constant_targets_cost_nothing(build, solver):
    X, _, net = instance()
    program = build(X, np.full(len(X), 3.7), net)
    assert program.objective(0 * program.start) == 0  # exactly: the targets are centred without roundoff
    assert 0 <= solve(program, solver=solver).objective <= 1e-8
    assert program.decode(0 * program.start).c == 3.7


@each_program
def test_constant_and_repeated_columns(build):
    X, y, net = instance()
    X = np.hstack([X, np.full((len(X), 1), 2.0), X[:, :1]])
    wide = Network.shallow(np.hstack([net.W, net.W[:, :2]]), net.b, net.v)
    assert optimum(build(X, y, wide)).objective <= y.var()


@each_program
@each_solver
def test_more_units_and_inputs_than_samples(build, solver):
    X, y, net = instance(n=4, d=6, m=9)
    assert solve(build(X, y, net), solver=solver).gap <= 1e-5


def test_the_ridge_bounds_opposite_always_active_units():
    X, y, _ = instance()
    net = Network.shallow(np.zeros((2, 3)) + 1e-3, np.full(2, 10.0), [1.0, -1.0])
    program = joint(X, y, net)
    solution = optimum(program)
    assert np.isfinite(solution.z).all()
    assert program.terms(solution.z)["ridge"] <= 1e-3 * y.var()
    with pytest.raises(InvalidInputError, match="ridge"):
        joint(X, y, net, ridge=0.0)


# -- rows and bad input ---------------------------------------------------------------------------------


def test_distinct_rows_keep_every_loss(rng):
    X = rng.integers(0, 3, size=(50, 2)).astype(float)
    y, weight = rng.normal(size=50), rng.uniform(0, 1, size=50)
    weight[:5] = 0.0
    rows = distinct_rows(X, y, weight)
    assert len(rows.X) == len(np.unique(X[5:], axis=0))
    assert rows.weight.sum() == pytest.approx(1)
    for _ in range(5):
        a, b = rng.normal(size=2), rng.normal()

        def f(Z, a=a, b=b):
            return np.tanh(Z @ a + b)

        total = weight @ (f(X) - y) ** 2 / weight.sum()
        assert rows.weight @ (f(rows.X) - rows.y) ** 2 + rows.constant == pytest.approx(total)


def test_negative_zero_is_zero():
    assert len(distinct_rows([[0.0], [-0.0]], [1.0, 2.0]).X) == 1


def test_rows_of_zero_weight_do_not_matter():
    X, y, net = instance()
    bad = np.vstack([X, X[:1]])
    patterns = extract(net, bad)
    D = patterns.D.copy()
    D[-1] = ~D[-1]  # contradicts row 0, but does not count
    weight = np.r_[np.ones(len(X)), 0.0]
    dropped = ReluGroupLasso(bad, np.r_[y, 1e6], ActivationPatterns(D, patterns.s), 1e-2, sample_weight=weight)
    assert dropped.objective(l2(X, y, net).start) == pytest.approx(l2(X, y, net).objective(l2(X, y, net).start))
    with pytest.raises(InvalidInputError, match="repeated rows"):
        ReluGroupLasso(bad, np.r_[y, 0.0], ActivationPatterns(D, patterns.s), 1e-2)


@pytest.mark.parametrize("program", [ReluGroupLasso, GatedGroupLasso, LipschitzProgram])
def test_bad_input_is_a_sentence(program):
    X, y, net = instance()
    patterns = extract(net, X)
    nan = X.copy()
    nan[3, 1] = np.nan
    cases = [
        (nan, y, patterns, {}, "X holds NaN"),
        (X[:, 0], y, patterns, {}, "X has shape"),
        (X[:0], y[:0], patterns, {}, "X has shape"),
        (X, y[:-1], patterns, {}, "y has shape"),
        (X, np.where(y > 0, np.inf, y), patterns, {}, "y holds NaN"),
        (X, [["a"]] * len(y), patterns, {}, "must hold numbers"),
        (X[:-1], y[:-1], patterns, {}, "patterns have 40 rows and X has 39"),
        (X, y, patterns.D, {}, "expected ActivationPatterns"),
        (X, y, patterns, {"lam": 0.0}, "lam=0.0"),
        (X, y, patterns, {"lam": np.nan}, "lam=nan"),
        (X, y, patterns, {"sample_weight": -np.ones(len(y))}, "sample_weight holds negative"),
        (X, y, patterns, {"sample_weight": np.zeros(len(y))}, "zero everywhere"),
        (X, y, patterns, {"sample_weight": np.ones(3)}, "sample_weight has shape"),
    ]
    for inputs, targets, gates, options, sentence in cases:
        with pytest.raises(InvalidInputError, match=sentence):
            program(inputs, targets, gates, **options)


@each_program
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_that_is_no_point_is_infinitely_wrong(build, bad):
    program = build(*instance(0), 1e-2)
    z = np.zeros((program.patterns.n_patterns, program.n_inputs + 1))
    assert program.violation(z) == 0
    z[0, 0] = bad
    assert program.violation(z) == np.inf


def test_the_ridge_hardly_lifts_the_lower_bound_above_the_training_objective(rng):
    """Large biases, small errors and a tiny lam: a ridge of 1e-7 would add two percent to the optimum."""
    X = rng.standard_normal((30, 3))
    y = np.sin(3 * X[:, 0])
    network = Network.shallow(rng.standard_normal((30, 3)), rng.standard_normal(30), rng.standard_normal(30) / 30)
    program = LipschitzProgram(X, y, extract(network, X), 1e-6, start=network)
    solution = solve(program)
    fitted = program.decode(solution.z)
    training = np.mean((fitted(X) - y) ** 2) + 1e-6 * lipschitz(fitted).bound ** 2  # without the ridge
    assert solution.is_optimal
    assert solution.lower_bound <= training * (1 + 1e-4)


def test_empty_pattern_set_and_wrong_points_are_refused():
    X, y, net = instance()
    with pytest.raises(InvalidInputError, match="empty"):
        ActivationPatterns(np.zeros((len(X), 0), dtype=bool))
    with pytest.raises(InvalidInputError, match="point of this program has shape"):
        l2(X, y, net).objective(np.zeros((2, 2)))
