"""The polynomial program against its semidefinite program, its own networks, its symmetries and bad input."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from convexnn.activations import Polynomial
from convexnn.exceptions import InvalidInputError, SolverError, UnsupportedModelError
from convexnn.network import Network
from convexnn.program import Program, Proposal, evaluate
from convexnn.restrictions import PolynomialProgram
from convexnn.restrictions.polynomial_neurons import point_of
from convexnn.solvers import solve
from convexnn.solvers.cvx import solve_cvxpy
from tests._families import few

MARGIN = ("squared_hinge", "hinge", "logistic")
REGRESSION = ("squared", "huber")
COEFFICIENTS = [(0.09, 0.5, 0.47), (-0.3, 0.2, 0.0), (0.0, 1.0, 0.0), (0.2, 0.0, -0.1)]


def reference(program, tol=1e-6):
    """Solution of the semidefinite program, with recomputed evidence."""
    return evaluate(program, solve_cvxpy(program, "clarabel", tol=tol), seconds=0.0, tol=tol)


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    score = X[:, 0] + X[:, -1] ** 2 - 1 + 0.3 * rng.standard_normal(n)
    return X, np.where(score > 0, 1.0, -1.0)


def network(rng, d, m, coefficients=(0.09, 0.5, 0.47)):
    W = rng.standard_normal((m, d))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    return Network.shallow(W, np.zeros(m), rng.standard_normal(m), 0.0, Polynomial(*coefficients))


def sampled_worst(net, X, y, radius, rng, tries=4000):
    """Smallest margins over random perturbations on the sphere and in the ball."""
    directions = rng.standard_normal((tries, X.shape[1]))
    directions *= radius * rng.choice([1.0, 0.7, 0.3], tries)[:, None] / np.linalg.norm(directions, axis=1)[:, None]
    return np.array([np.min(label * net(x + directions)) for x, label in zip(X, y, strict=True)])


CASES = [
    ("squared_hinge", 0.0, COEFFICIENTS[0]),
    ("squared_hinge", 0.3, COEFFICIENTS[1]),
    ("hinge", 0.3, COEFFICIENTS[0]),
    ("hinge", 0.0, COEFFICIENTS[2]),
    ("logistic", 0.2, COEFFICIENTS[2]),
    ("squared", 0.3, COEFFICIENTS[0]),
    ("squared", 0.0, COEFFICIENTS[3]),
    ("huber", 0.2, COEFFICIENTS[1]),
]


@pytest.mark.parametrize(("loss", "radius", "coefficients"), CASES)
def test_the_semidefinite_program_has_this_objective_and_proves_it(loss, radius, coefficients):
    X, y = data(14, 3)
    program = PolynomialProgram(X, y, lam=0.05, loss=loss, radius=radius, coefficients=coefficients)
    solution = reference(program)
    assert isinstance(program, Program)
    assert solution.is_optimal
    assert solution.violation <= 1e-14
    assert (solution.scope, solution.global_gap) == ("global", solution.gap)
    # the decoded network is the same function: objective by exact worst cases, values and regularizer
    decoded = program.decode(solution.z)
    assert program.network_objective(decoded) == pytest.approx(solution.objective, rel=1e-10)
    assert np.abs(decoded.v).sum() == pytest.approx(solution.z[:, 0, -1, -1].sum(), rel=1e-12)
    assert len(decoded.v) <= 8


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "radius"), [("squared_hinge", 0.5), ("squared_hinge", 1.5), ("hinge", 0.5)])
def test_equals_the_semidefinite_program_at_a_hundred_samples(loss, radius):
    from sklearn.datasets import load_breast_cancer

    X, labels = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    X = X @ np.linalg.svd(X, full_matrices=False)[2][:10].T
    X, y = (X / X.std(0))[:100], 2.0 * labels[:100] - 1
    program = PolynomialProgram(X, y, lam=0.01, loss=loss, radius=radius)
    problem = program.cvxpy_problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "may be inaccurate": what counts is compared below
        problem.solve(solver="CLARABEL")
    z, dual = program.read_cvxpy(problem)
    assert program.objective(z) == pytest.approx(problem.value, abs=1e-5)
    assert program.lower_bound(dual) == pytest.approx(problem.value, abs=1e-5)
    assert program.lower_bound(dual) <= program.objective(z)
    assert solve(program, tol=1e-6).objective == pytest.approx(problem.value, abs=1e-5)
    Z = np.stack([np.stack([v.value]) for v in problem.variables() if v.name() in ("Z0", "Zprime0")])
    raw = Z[0, 0] - Z[1, 0]
    a, b, c = program.coefficients
    values = a * np.einsum("ij,jk,ik->i", X, raw[:-1, :-1], X) + b * X @ raw[:-1, -1] + c * raw[-1, -1]
    assert np.abs(program.decode(Z)(X) - values).max() <= 1e-6


@pytest.mark.parametrize("loss", MARGIN + REGRESSION)
def test_objective_of_a_network_is_never_below_attacks_and_tight(loss, rng):
    X, y = data(6, 2)
    net, radius = network(rng, 2, 3), 0.4
    program = PolynomialProgram(X, y, lam=0.1, loss=loss, radius=radius)
    exact = program.network_objective(net) - 0.1 * np.abs(net.v).sum()
    if loss in MARGIN:
        attacked = program.loss.value(sampled_worst(net, X, y, radius, rng), np.ones(6)).mean()
    else:
        low, high = sampled_worst(net, X, np.ones(6), radius, rng), -sampled_worst(net, X, -np.ones(6), radius, rng)
        attacked = np.maximum(program.loss.value(low, y), program.loss.value(high, y)).mean()
    assert attacked <= exact + 1e-12
    assert attacked >= exact - 0.01 * (1 + exact)


def test_worst_cases_are_attained_in_the_ellipsoid_of_the_metric(rng):
    X, y = data(12, 4)
    metric = np.array([0.2, 1.0, 3.0, 8.0])
    program = PolynomialProgram(X, y, lam=0.1, radius=0.5, metric=metric)
    net = network(rng, 4, 5)
    found = program.worst_cases(program.lift(net))
    assert np.square(found.shifts) @ metric == pytest.approx(np.full(12, 0.25))
    structure = program.structure()
    labels = np.where(structure.plus[: structure.n_terms] == 0, 1.0, -1.0)
    assert labels * net(structure.X + found.shifts) == pytest.approx(found.values, abs=1e-12)


def test_linf_is_bounded_by_the_ellipsoid_around_the_box(rng):
    X, y = data(8, 3)
    net = network(rng, 3, 4)
    corners = np.array(np.meshgrid(*[[-0.2, 0.2]] * 3)).reshape(3, -1).T
    inner = rng.uniform(-0.2, 0.2, (3000, 3))
    attacked = np.array([np.min(label * net(x + np.vstack([corners, inner]))) for x, label in zip(X, y, strict=True)])
    for metric in (None, [1.0, 2.0, 0.5]):
        program = PolynomialProgram(X, y, lam=0.1, radius=0.2, norm=math.inf, metric=metric)
        worst = program.worst_cases(program.lift(net)).values
        order = np.lexsort((y, *X.T[::-1]))  # rows stand in lexicographic order
        assert (worst <= attacked[order] + 1e-12).all()


def test_lift_decode_and_repair_are_inverse(rng):
    X, y = data(10, 4)
    program = PolynomialProgram(X, y, lam=0.1, radius=0.1)
    net = network(rng, 4, 5)
    z = program.lift(net)
    assert program.violation(z) <= 1e-15
    again = program.decode(z)
    assert again(X) == pytest.approx(net(X), abs=1e-12)
    assert np.abs(again.v).sum() == pytest.approx(np.abs(net.v).sum(), rel=1e-13)
    assert program.repair(z) == pytest.approx(z, abs=1e-13)
    noisy = z + 1e-7 * rng.standard_normal(z.shape)
    assert program.violation(noisy) > 1e-9
    assert program.violation(program.repair(noisy)) <= 1e-15
    assert program.objective(program.repair(noisy)) == pytest.approx(program.objective(z), abs=1e-5)


def test_start_and_zero_network():
    X, y = data(10, 3)
    program = PolynomialProgram(X, y, lam=0.1)
    assert program.objective(program.start) == program.scale == pytest.approx(1.0, rel=1e-14)
    zero = program.decode(program.start)
    assert zero(X) == pytest.approx(np.zeros(10))
    assert program.lift(zero) == pytest.approx(program.start)
    started = PolynomialProgram(X, y, lam=0.1, start=network(np.random.default_rng(1), 3, 2))
    assert started.objective(started.start) > 0


@pytest.mark.parametrize("loss", ["squared_hinge", "squared"])
def test_order_and_repetition_of_rows_do_not_matter(loss, rng):
    X, y = data(9, 3)
    net, weights = network(rng, 3, 2), rng.integers(1, 4, 9)
    order = rng.permutation(9)
    options = {"lam": 0.1, "radius": 0.3, "loss": loss}
    value = PolynomialProgram(X, y, sample_weight=weights, **options).network_objective(net)
    shuffled = PolynomialProgram(X[order], y[order], sample_weight=7.0 * weights[order], **options)
    repeated = PolynomialProgram(np.repeat(X, weights, axis=0), np.repeat(y, weights), **options)
    assert shuffled.network_objective(net) == pytest.approx(value, rel=1e-13)
    assert repeated.network_objective(net) == pytest.approx(value, rel=1e-13)
    assert len(repeated.structure().X) == 9


@pytest.mark.parametrize("scale", few([1e-3, 1.0, 1e3]))
def test_units_of_the_inputs_go_into_the_coefficients(scale):
    # f(s x) with (a, b, c) is f(x) with (a s^2, b s, c): same optimum
    X, y = data(12, 2)
    plain = reference(PolynomialProgram(X, y, lam=0.05, radius=0.2))
    a, b, c = 0.09 / scale**2, 0.5 / scale, 0.47
    scaled = PolynomialProgram(scale * X, y, lam=0.05, radius=0.2 * scale, coefficients=(a, b, c))
    solution = reference(scaled)
    assert scaled.objective(plain.z) == pytest.approx(plain.objective, rel=1e-9)
    assert scaled.lower_bound(solution.dual) <= plain.objective * (1 + 1e-12)
    assert solution.objective >= plain.lower_bound - 1e-12


def test_rotations_do_not_matter_for_l2(rng):
    X, y = data(10, 3)
    net, Q = network(rng, 3, 4), np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turned = Network.shallow(net.W @ Q, net.b, net.v, 0.0, net.activation)
    value = PolynomialProgram(X, y, lam=0.1, radius=0.4).network_objective(net)
    assert PolynomialProgram(X @ Q, y, lam=0.1, radius=0.4).network_objective(turned) == pytest.approx(value, rel=1e-12)


def test_corners_one_sample_one_class_constant_columns_conflicting_duplicates():
    one = reference(PolynomialProgram([[2.0]], [1.0], lam=0.1, radius=0.5))
    # a single unit u = +-1 of weight t: margin t sigma(1.5) at u = 1, squared hinge (1 - t s)^2 + 0.1 t
    s = 0.09 * 1.5**2 + 0.5 * 1.5 + 0.47
    assert one.objective == pytest.approx((0.1 / (2 * s)) ** 2 + 0.1 * (1 - 0.1 / (2 * s)) / s, abs=1e-7)
    X, y = data(8, 3)
    X[:, 1] = 5.0
    assert reference(PolynomialProgram(X, np.ones(8), lam=0.01, radius=0.1)).gap <= 1e-4
    assert reference(PolynomialProgram(X, y, lam=0.01, radius=0.1)).gap <= 1e-4
    conflict = PolynomialProgram(np.repeat(X, 2, axis=0), np.tile([1.0, -1.0], 8), lam=0.01, radius=0.1)
    solution = reference(conflict)
    assert solution.objective == pytest.approx(1.0, abs=1e-6)  # (1-f)^2 + (1+f)^2 >= 2: nothing beats zero
    assert "zero network" in solution.notes[-1]


def test_a_radius_without_robust_classifier_is_named():
    X, y = data(14, 2)
    trivial = reference(PolynomialProgram(X, y, lam=0.01, radius=50.0))
    assert trivial.is_optimal
    assert trivial.objective == pytest.approx(1.0, abs=1e-6)
    assert "zero network" in trivial.notes[-1]
    uneven = np.where(np.arange(14) < 12, 1.0, -1.0)
    constant = reference(PolynomialProgram(X, uneven, lam=1e-3, radius=2.0))
    assert constant.objective < 0.9
    assert "no robust classifier" in constant.notes[-1]
    assert reference(PolynomialProgram(X, y, lam=0.01)).notes == ()


def test_bad_input_is_refused():
    X, y = data(6, 2)
    good = {"lam": 0.1}
    for wrong in (
        {"radius": -0.1},
        {"radius": math.nan},
        {"lam": 0.0},
        {"loss": "multi_margin"},
        {"norm": 1},
        {"coefficients": (1.0, 2.0)},
        {"coefficients": (math.inf, 0.0, 0.0)},
        {"metric": [1.0, -1.0]},
        {"sample_weight": np.zeros(6)},
    ):
        with pytest.raises(InvalidInputError):
            PolynomialProgram(X, y, **{**good, **wrong})
    with pytest.raises(InvalidInputError, match="targets -1 and \\+1"):
        PolynomialProgram(X, np.arange(6.0), **good)
    with pytest.raises(InvalidInputError, match="NaN"):
        PolynomialProgram(np.full((6, 2), math.nan), y, **good)
    program = PolynomialProgram(X, y, **good)
    with pytest.raises(InvalidInputError, match="shape"):
        program.objective(np.zeros((2, 3, 3)))
    unit = Polynomial(0.09, 0.5, 0.47)
    with pytest.raises(UnsupportedModelError, match="polynomial"):
        program.lift(Network.shallow(np.eye(2), np.zeros(2), np.ones(2)))
    with pytest.raises(InvalidInputError, match="biases"):
        program.lift(Network.shallow(np.eye(2), np.ones(2), np.ones(2), 0.0, unit))
    with pytest.raises(InvalidInputError, match="norm one"):
        program.lift(Network.shallow(2 * np.eye(2), np.zeros(2), np.ones(2), 0.0, unit))
    assert program.violation(np.full((2, 1, 3, 3), math.nan)) == math.inf
    assert program.objective(np.full((2, 1, 3, 3), 1e308)) == math.inf


def test_a_reference_program_that_cannot_fit_is_refused_before_it_is_built():
    X, y = data(3000, 60)
    with pytest.raises(SolverError, match="column_generation"):
        PolynomialProgram(X, y, lam=0.1, radius=0.1).cvxpy_problem()


def test_values_below_zero_do_not_pass_for_feasible():
    X, y = data(6, 2)
    program = PolynomialProgram(X, y, lam=0.1)
    wrong = point_of(np.eye(2), np.array([[1.0, -1.0]]))
    wrong[0, 0, -1, -1] = 0.5  # the trace condition
    solution = evaluate(program, Proposal(wrong, None, "solved", 1, "test"), seconds=0.0)
    assert solution.violation > 0.05
    assert not solution.is_optimal
