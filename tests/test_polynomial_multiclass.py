"""All pairs of classes in one program: its optimum, its bound, and what it certifies."""

import numpy as np
import pytest

from convexnn.exceptions import InvalidInputError
from convexnn.program import PolynomialDual, evaluate
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram
from convexnn.restrictions.polynomial_zero import zero_dual, zero_solution
from convexnn.solvers import solve
from convexnn.solvers.cvx import solve_cvxpy

A, B, C0 = 0.09, 0.5, 0.47
LOSSES = ["hinge", "squared_hinge", "logistic"]


def blobs(seed=0, n=18, d=2, k=3, spread=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return rng.normal(size=(n, d)) + spread * np.eye(k, d)[y], y


def by_clarabel(program, tol=1e-7):
    return evaluate(program, solve_cvxpy(program, "clarabel", tol=tol), seconds=0.0, tol=tol)


def random_point(rng, program, scale=1.0):
    """A feasible point: a few random unit neurons of either sign in every class."""
    _, k, size, _ = program.structure().z_shape
    z = np.zeros((2, k, size, size))
    for part in z.reshape(-1, size, size):
        u = rng.normal(size=(3, size - 1))
        rows = np.hstack([u / np.linalg.norm(u, axis=1, keepdims=True), np.ones((3, 1))])
        part += scale * (rows.T * rng.uniform(size=3)) @ rows
    return z


def lifted(network, X):
    """Scores by the network itself, shape (n, C)."""
    return network(X).reshape(len(X), -1)


def on_the_ball(rng, radius, count, d):
    steps = rng.normal(size=(count, d))
    steps *= radius / np.linalg.norm(steps, axis=1, keepdims=True)
    return steps * rng.uniform(0, 1, size=(count, 1)) ** (1 / d)


def written_out(X, y, k, lam, radius, loss):
    """The optimum by cvxpy, from the statement of the theory page and nothing of the package."""
    import cvxpy as cp

    n, d = X.shape
    Z, Zp = ([cp.Variable((d + 1, d + 1), PSD=True) for _ in range(k)] for _ in range(2))
    constraints = [cp.trace(V[:d, :d]) == V[d, d] for V in (*Z, *Zp)]
    cost = lam * sum(V[d, d] for V in (*Z, *Zp))
    weights = np.full((d + 1, d + 1), A)
    weights[-1] = weights[:, -1] = B / 2
    weights[-1, -1] = C0
    corner = np.zeros((d + 1, d + 1))
    corner[-1, -1] = 1
    for i in range(n):
        T = np.eye(d + 1)
        T[:d, d] = X[i]
        for rival in set(range(k)) - {int(y[i])}:
            N = cp.multiply(weights, Z[y[i]] - Zp[y[i]] - Z[rival] + Zp[rival])
            w, mu = cp.Variable(), cp.Variable(nonneg=True)
            constraints.append(T.T @ N @ T - w * corner + mu * (np.eye(d + 1) - (1 + radius**2) * corner) >> 0)
            term = {"hinge": cp.pos(1 - w), "squared_hinge": cp.square(cp.pos(1 - w)), "logistic": cp.logistic(-w)}
            cost += term[loss] / (n * k)
    problem = cp.Problem(cp.Minimize(cost), constraints)
    problem.solve(solver="CLARABEL")
    return problem.value


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_the_optimum_is_that_of_the_statement(loss):
    X, y = blobs(n=12)
    program = MulticlassPolynomialProgram(X, y, lam=0.02, radius=0.3, loss=loss)
    solution = by_clarabel(program)
    assert solution.gap <= 1e-6
    assert solution.violation <= 1e-9
    assert solution.objective == pytest.approx(written_out(X, y, 3, 0.02, 0.3, loss), abs=2e-6)
    # Proposition 1: a network of finite width attains it
    network = program.decode(solution.z)
    assert program.network_objective(network) == pytest.approx(solution.objective, abs=1e-9)
    assert network.n_hidden[0] <= 2 * 3 * (2 + 1)
    scores = lifted(network, program.rows.X)
    np.testing.assert_allclose(np.linalg.norm(network.W, axis=1), 1.0, atol=1e-12)
    assert program.lam * np.abs(network.v).sum() == pytest.approx(program.terms(solution.z)["regularizer"], rel=1e-9)
    clean = MulticlassPolynomialProgram(X, y, lam=0.02, loss=loss).margins(solution.z)
    rows, own = np.arange(len(scores)), program.rows.y.astype(int)
    expected = scores[rows, own][:, None] - scores
    expected[rows, own] = np.inf
    np.testing.assert_allclose(clean, expected, atol=1e-9)


@pytest.mark.slow
def test_two_classes_are_half_of_the_binary_program():
    X, y = blobs(seed=1, k=2)
    for radius in (0.0, 0.4):
        joint = MulticlassPolynomialProgram(X, y, lam=0.02, radius=radius, loss="squared_hinge")
        binary = PolynomialProgram(X, 2.0 * y - 1, lam=0.04, radius=radius, loss="squared_hinge")
        assert by_clarabel(joint).objective == pytest.approx(by_clarabel(binary).objective / 2, abs=1e-7)


@pytest.mark.parametrize("radius", [0.0, 0.5, 3.0])
def test_margins_are_attained_and_no_attack_is_below(rng, radius):
    X, y = blobs(n=9, d=3)
    program = MulticlassPolynomialProgram(X, y, lam=0.1, radius=radius)
    z = random_point(rng, program)
    network, margins = program.decode(z), program.margins(z)
    own = program.rows.y.astype(int)
    for i, x in enumerate(program.rows.X):
        points = x + np.vstack([np.zeros(3), on_the_ball(rng, radius, 4000, 3), _worst(program, z, i)])
        scores = lifted(network, points)
        reached = scores[:, [own[i]]] - scores
        reached[:, own[i]] = np.inf
        assert (reached.min(axis=0) >= margins[i] - 1e-9 * (1 + np.abs(scores).max())).all()
        np.testing.assert_allclose(reached.min(axis=0), margins[i], atol=1e-7)  # the worst points are among them


def _worst(program, z, i):
    cases, rows = program.worst_cases(z), program.structure().rows
    steps = cases.shifts[rows == i]
    assert (np.linalg.norm(steps, axis=1) <= program.radius * (1 + 1e-9)).all()
    return steps


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.slow
def test_every_dual_is_below_the_optimum(rng, loss):
    X, y = blobs(n=12)
    program = MulticlassPolynomialProgram(X, y, lam=0.02, radius=0.3, loss=loss)
    solution = by_clarabel(program)
    n, d = program.structure().n_terms, 2
    dual = solution.dual
    for scale in (1e-3, 0.1, 1.0, 10.0, 1e6):
        for _ in range(4):
            slopes, shifts = rng.exponential(size=n) * scale, rng.normal(size=(n, d)) * scale
            assert program.lower_bound(PolynomialDual(slopes, shifts)) <= solution.objective + 1e-9
    # sabotage of the multipliers of the optimum: one class forgotten, attacks that leave the ball, slopes swapped
    forgotten = np.where(program.structure().plus == 0, 0.0, dual.slopes)
    for slopes, shifts in (
        (forgotten, dual.shifts),
        (dual.slopes, 100 * dual.shifts),
        (dual.slopes[::-1], dual.shifts),
        (-dual.slopes, dual.shifts),
        (dual.slopes * np.inf, dual.shifts),
    ):
        with np.errstate(invalid="ignore"):
            assert program.lower_bound(PolynomialDual(slopes, shifts)) <= solution.objective + 1e-9
    assert program.lower_bound(dual) >= solution.objective - 1e-5


def test_a_radius_without_robust_classifier_has_the_zero_network():
    X, y = blobs(n=12, k=3)
    program = MulticlassPolynomialProgram(X, y, lam=0.02, radius=20.0, loss="squared_hinge")
    # every term attacked at the common point 0 with slope 2: G_c = 2 (omega(c) - 1/C) Phi(0) = 0, so the zero network
    # with its loss (C - 1) / C = 2/3 is optimal
    dual = PolynomialDual(np.full(24, 2.0), -program.structure().X[program.structure().rows])
    assert program.lower_bound(dual) == pytest.approx(2 / 3, abs=1e-12)
    zero = np.zeros(program.structure().z_shape)
    assert program.objective(zero) == pytest.approx(2 / 3, abs=1e-12)
    assert "zero network" in program.remarks(zero)[0]


@pytest.mark.parametrize("loss", LOSSES)
def test_large_radii_are_proved_without_training(loss):
    y = np.repeat([0, 1, 2], [7, 4, 1])
    X = np.random.default_rng(0).normal(size=(12, 3))
    heavy = {"multi": 7 / 1, "binary": 11 / 1}  # the heaviest class against the lightest: tau = (c / a)(ratio - 1)
    for kind, ratio in heavy.items():
        tau = C0 / A * (ratio - 1)
        enough = np.sqrt((X**2).sum(axis=1).max() + 3 * tau) * (1 + 1e-9)
        for radius, proved in ((enough, True), (10 * enough, True), (0.5 * enough, False)):
            if kind == "multi":
                program = MulticlassPolynomialProgram(X, y, lam=1e-6, radius=radius, loss=loss)
            else:
                program = PolynomialProgram(X, np.where(y == 2, 1.0, -1.0), lam=1e-6, radius=radius, loss=loss)
            bound = program.lower_bound(zero_dual(program.structure()))
            assert bound <= program.scale
            found = zero_solution(program, 1e-9)
            assert (found is not None) == proved == (bound >= program.scale * (1 - 1e-9))
            if proved:
                assert found.objective == program.scale
                assert "zero network" in found.notes[0]
    targets = X[:, 0] - 0.5 * X[:, 0].max()
    regression = PolynomialProgram(X, targets, lam=1e-6, radius=1e3, loss="squared")
    assert zero_solution(regression, 1e-9).objective == pytest.approx((targets**2).mean(), rel=1e-12)
    assert zero_solution(PolynomialProgram(X, targets, lam=1e-6, radius=0.1, loss="squared"), 1e-4) is None
    assert zero_solution(PolynomialProgram(X, targets, lam=1e-6, loss="squared"), 1e-4) is None


@pytest.mark.parametrize("coefficients", [(A, 0.5, C0), (-0.3, 0.5, 0.2), (0.2, 0.5, 0.0)])
def test_the_solver_itself_proves_the_zero_network_far_above_the_scale_of_the_data(coefficients):
    y = np.repeat([0, 1, 2], [9, 4, 1])
    X = np.random.default_rng(0).normal(size=(14, 3))
    programs = [
        MulticlassPolynomialProgram(X, y, lam=1e-4, radius=1e3, coefficients=coefficients),
        PolynomialProgram(X, np.where(y == 2, 1.0, -1.0), lam=1e-4, radius=1e3, coefficients=coefficients),
        PolynomialProgram(X, X[:, 0] - 1.0, lam=1e-4, radius=1e3, coefficients=coefficients, loss="squared"),
    ]
    for program in programs:
        found = solve(program, solver="column_generation", tol=1e-9)
        assert found.is_optimal
        assert found.iterations == 0
        assert not found.z.any()
        assert "zero network" in found.notes[0]


@pytest.mark.slow
def test_remarks_name_a_classifier_that_is_robust_for_one_class_only(rng):
    X, y = blobs(n=12, k=3)
    program = MulticlassPolynomialProgram(X, y, lam=0.02, radius=0.2)
    # class 0 has the score +1 everywhere (u and -u: the linear parts cancel, a |u|^2 ... stays positive), others 0
    z = np.zeros(program.structure().z_shape)
    z[0, 0] = np.diag([0.5, 0.5, 1.0])
    assert any("one class at most" in remark for remark in program.remarks(z))
    separated = MulticlassPolynomialProgram(*blobs(n=12, k=3, spread=9.0), lam=0.001, radius=0.2)
    assert not separated.remarks(by_clarabel(separated).z)


def test_loss_bounds_the_samples_that_are_not_robust(rng):
    X, y = blobs(n=18, k=3)
    for loss, at_zero in (("hinge", 1.0), ("squared_hinge", 1.0), ("logistic", np.log(2))):
        program = MulticlassPolynomialProgram(X, y, lam=0.02, radius=0.3, loss=loss)
        z = random_point(rng, program, scale=0.3)
        broken = program.rows.weight[~(program.margins(z) > 0).all(axis=1)].sum()
        assert 0 < broken <= 3 * program.terms(z)["loss"] / at_zero + 1e-12


def test_pairs_are_at_least_the_sum_of_single_scores(rng):
    X, y = blobs(n=9, d=3)
    program = MulticlassPolynomialProgram(X, y, lam=0.1, radius=0.4)
    z = random_point(rng, program)
    margins, own = program.margins(z), program.rows.y.astype(int)
    single = np.empty((len(own), 3))
    for c in range(3):
        signs = np.where(own == c, 1.0, -1.0)
        binary = PolynomialProgram(program.rows.X, signs, lam=0.1, radius=0.4)
        single[:, c] = binary.worst_cases(z[:, [c]]).values
    rows = np.arange(len(own))
    bound = single[rows, own][:, None] + single
    bound[rows, own] = np.inf
    assert (margins >= bound - 1e-9).all()
    assert (margins[np.isfinite(margins)] > bound[np.isfinite(bound)] + 1e-3).any()


def test_weights_repetitions_and_absent_classes(rng):
    X, y = blobs(n=12)
    weight = rng.integers(1, 4, 12)
    repeated = np.repeat(np.arange(12), weight)
    one = MulticlassPolynomialProgram(X, y, lam=0.1, radius=0.2, sample_weight=weight)
    two = MulticlassPolynomialProgram(X[repeated], y[repeated], lam=0.1, radius=0.2)
    z = random_point(rng, one)
    assert one.objective(z) == two.objective(z)
    # a class without samples is a rival whose score can be as low as wanted
    wider = MulticlassPolynomialProgram(X, y, lam=0.1, radius=0.2, n_classes=4)
    assert wider.structure().z_shape[1] == 4
    assert by_clarabel(wider, 1e-6).gap <= 1e-5


def test_conflicting_labels_of_one_point_are_two_rows():
    X = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 0.0], [-2.0, 0.0]])
    program = MulticlassPolynomialProgram(X, [0, 1, 1, 2], lam=0.05, radius=0.1)
    assert len(program.rows.X) == 4
    solution = by_clarabel(program)
    margins = program.margins(solution.z)
    assert solution.gap <= 1e-5
    assert not (margins > 0).all(axis=1)[:2].all()  # both cannot be right


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"radius": -0.1}, "radius"),
        ({"lam": 0}, "lam"),
        ({"loss": "squared"}, "margin loss"),
        ({"y": [0, 0, 0]}, "classes"),
        ({"y": [0, 1, 0.5]}, "indices"),
        ({"y": [0, 1, -1]}, "indices"),
        ({"y": [0, 1, np.nan]}, "indices"),
        ({"y": ["a", "b", "c"]}, "indices"),
        ({"n_classes": 2}, "at least 3"),
        ({"n_classes": 2.5}, "at least 3"),
        ({"coefficients": (1, 2)}, "coefficients"),
        ({"norm": 1}, "norm"),
        ({"X": np.full((3, 2), np.nan)}, "NaN"),
    ],
)
def test_bad_input_is_a_sentence(change, word):
    arguments = {"X": np.eye(3, 2), "y": [0, 1, 2], "lam": 0.1} | change
    X, y = arguments.pop("X"), arguments.pop("y")
    with pytest.raises(InvalidInputError, match=word):
        MulticlassPolynomialProgram(X, y, **arguments)
