"""Programs handed to cvxpy: named variables, constraints of one's own, and networks with recomputed evidence."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.certificates.lipschitz import lipschitz
from convexnn.conic import CvxpyProgram
from convexnn.exceptions import InvalidInputError, SolverError, UnsupportedModelError
from convexnn.network import Network
from convexnn.patterns import extract, sample
from convexnn.program import relative_gap
from convexnn.restrictions import (
    CertifiedMargin,
    GatedGroupLasso,
    LipschitzProgram,
    LipschitzRestriction,
    MulticlassPolynomialProgram,
    OuterGroupLasso,
    OuterLipschitz,
    PolynomialProgram,
    ReluGroupLasso,
    RobustRelu,
    VectorGatedGroupLasso,
    VectorGroupLasso,
    VectorLipschitzProgram,
)
from convexnn.solvers import solve


def data(n=24, d=2):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    X[5] = X[4]  # a repeated row: predictions are still those of every row
    y = X[:, 0] + 0.5 * np.sin(2 * X[:, 1]) + 0.2 * rng.standard_normal(n)
    return X, y, rng.random(n) < 0.5


def network(k=1, units=6, d=2):
    rng = np.random.default_rng(1)
    v = rng.standard_normal(units) if k == 1 else rng.standard_normal((k, units))
    return Network.shallow(rng.standard_normal((units, d)), rng.standard_normal(units), v, np.zeros(k))


X, Y1, GROUP = data()
Y2, SIGNS, LABELS = np.stack([Y1, -(Y1**2)], axis=1), np.where(Y1 > 0, 1.0, -1.0), (Y1 > 0).astype(int)
NET, NET2 = network(), network(2)
P = extract(NET, X)
SMOOTH = {"lam": 0.05, "radius": 0.1}
AFFINE = {
    "l2": lambda: ReluGroupLasso(X, Y1, P, 0.01, start=NET),
    "l2 huber": lambda: ReluGroupLasso(X, Y1, P, 0.01, loss="huber"),
    "gated": lambda: GatedGroupLasso(X, Y1, P, 0.01),
    "joint": lambda: LipschitzProgram(X, Y1, P, 0.01, start=NET),
    "fixed": lambda: LipschitzRestriction.at(NET, X, Y1, 0.01),
    "vector l2": lambda: VectorGroupLasso.at(NET2, X, Y2, 0.01),
    "vector joint": lambda: VectorLipschitzProgram.at(NET2, X, Y2, 0.01),
    "vector gated": lambda: VectorGatedGroupLasso.at(NET2, X, Y2, 0.01),
    "outer l2": lambda: OuterGroupLasso(NET2, X, Y2, 0.01),
    "outer joint": lambda: OuterLipschitz(NET2, X, Y2, 0.01),
    "polynomial": lambda: PolynomialProgram(X, SIGNS, **SMOOTH),
    "polynomial regression": lambda: PolynomialProgram(X, Y1, lam=0.05, loss="squared"),
    "multiclass": lambda: MulticlassPolynomialProgram(X, LABELS, **SMOOTH),
    "stable": lambda: RobustRelu.at(NET, X, SIGNS, 0.01, 0.02, stable=True),
    "margin": lambda: CertifiedMargin.at(NET2, X, LABELS, radius=0.1, lam=0.01),
}
QUICK = {"l2", "joint", "vector joint"}
each_program = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in AFFINE]
)


@each_program
def test_groups_get_equal_mean_predictions(name):
    program = AFFINE[name]()
    stated = program.as_cvxpy()
    free = stated.solve()
    assert free.status == "optimal"
    assert free.objective == pytest.approx(solve(program, solver="clarabel").objective, rel=1e-5)
    assert stated.decode().mismatch < 1e-9
    f = stated.predictions
    assert f.shape[0] == len(X)
    fair = stated.with_constraints([f[GROUP].mean(axis=0) == f[~GROUP].mean(axis=0)])
    solution = fair.solve(relaxation=free)
    found = fair.decode(relaxation=free)
    values = found.network(X)
    assert np.abs(values[GROUP].mean(axis=0) - values[~GROUP].mean(axis=0)).max() < 1e-6
    assert found.constraint_violation < 1e-6
    assert found.mismatch < 1e-9
    assert solution.violation < 1e-6
    assert solution.objective >= free.lower_bound - 1e-9  # constraints never help
    assert free.lower_bound - 1e-9 <= solution.lower_bound <= free.objective
    assert solution.gap == relative_gap(solution.objective, solution.lower_bound, program.scale)
    assert solution.status == "constrained"
    assert "without the 1 added" in solution.notes[-1]
    if name not in ("gated", "vector gated", "fixed"):  # there the network is another one, or better, than its point
        assert program.network_objective(found.network) == pytest.approx(solution.objective, rel=1e-4)


@each_program
def test_slopes_are_derivatives_of_the_predictions(name):
    program = AFFINE[name]()
    stated = program.as_cvxpy()
    stated.solve()
    for feature in (0, 1):
        slopes = stated.slopes(feature).value
        net = stated.decode().network
        gradient, size = net.gradient(X)[..., feature], np.linalg.norm(np.c_[net.W, net.b], axis=1)
        live = size * np.linalg.norm(np.atleast_2d(net.v), axis=0) > 1e-5  # the others have next to no slope
        inside = (np.abs(net.pre_activations(X)[0][:, live]) > 1e-4 * size[live]).all(axis=1)  # away from kinks
        assert inside.any()
        np.testing.assert_allclose(slopes[inside], gradient.reshape(slopes.shape)[inside], rtol=1e-5, atol=1e-4)
    with pytest.raises(InvalidInputError, match="index from 0 to 1"):
        stated.slopes(2)


@pytest.mark.parametrize("make", [ReluGroupLasso, LipschitzProgram])
def test_monotone_units_make_a_monotone_network(make):
    patterns = sample(X, 6, random_state=0).with_both_signs()
    stated = make(X, -Y1, patterns, 0.01).as_cvxpy()  # falling data: the constraint is active
    U = stated.variables["U"]
    assert "merged units" in stated.meanings["U"]
    free, monotone = stated.solve(), stated.with_constraints([U[:, 0] >= 0])
    solution = monotone.solve(relaxation=free)
    assert solution.objective > free.objective + 1e-3
    net = monotone.decode().network
    assert (net.v * net.W[:, 0] >= -1e-8).all()  # so the first derivative is nonnegative everywhere
    ahead = np.random.default_rng(0).standard_normal((200, 2)) * 5
    assert net.gradient(ahead)[:, 0].min() >= -1e-6


def test_signs_of_outputs_and_a_lipschitz_bound_of_ones_own():
    import cvxpy as cp

    stated = LipschitzProgram(X, Y1, P, 1e-4).as_cvxpy()
    q, f = stated.variables["q"], stated.predictions
    found = stated.with_constraints([f >= 0]).with_constraints([cp.sum(q) <= 0.3])
    assert len(found.added) == 2
    solution = found.solve()
    net = found.decode().network
    assert net(X).min() >= -1e-7
    assert lipschitz(net).bound ** 2 <= 0.3 * (1 + 1e-5)
    assert solution.lower_bound <= solution.objective


def test_the_output_bias_of_the_solver_is_kept():
    stated = ReluGroupLasso(X, Y1, P, 0.01).as_cvxpy()
    found = stated.with_constraints([stated.variables["c"] == 3.0])
    solution = found.solve()
    assert found.decode().network.c == pytest.approx(3.0, abs=1e-7)
    program = stated.program
    assert program.network_objective(found.decode().network) == pytest.approx(solution.objective, rel=1e-6)
    assert program.objective(solution.z) < solution.objective  # with the best bias it would be lower


def test_a_problem_solved_by_hand_is_decoded():
    import cvxpy as cp

    stated = ReluGroupLasso(X, Y1, P, 0.01).as_cvxpy()
    with pytest.raises(SolverError, match="no values yet"):
        stated.decode()
    mine = cp.Variable(name="U")  # a name of the program: nothing is mixed up
    constrained = stated.with_constraints([mine == 1, stated.predictions <= mine])
    constrained.problem.solve(solver="CLARABEL")
    found = constrained.decode()
    assert isinstance(constrained, CvxpyProgram)
    assert found.network(X).max() <= 1 + 1e-6
    assert found.solution.objective == pytest.approx(constrained.problem.value, rel=1e-5)
    assert stated.added == ()


def test_lies_of_a_solver_are_seen():
    stated = ReluGroupLasso(X, Y1, P, 0.01).as_cvxpy()
    fair = stated.with_constraints([stated.predictions[GROUP].mean() == stated.predictions[~GROUP].mean()])
    fair.solve()
    rng = np.random.default_rng(0)
    stated.variables["U"].save_value(rng.standard_normal((P.n_patterns, 3)))  # values of somebody else
    for constraint in stated.base.constraints:
        constraint.save_dual_value(rng.standard_normal(np.shape(constraint.dual_value)))
    found = fair.decode()
    truth = solve(stated.program).objective
    assert found.constraint_violation > 1e-3
    assert found.solution.status == "inaccurate"
    assert found.solution.lower_bound <= truth + 1e-9
    assert found.solution.objective >= truth - 1e-9


def test_what_cannot_be_is_refused():
    stated = ReluGroupLasso(X, Y1, P, 0.01).as_cvxpy()
    U = stated.variables["U"]
    with pytest.raises(SolverError, match="contradict"):
        stated.with_constraints([U[:, 0] >= 1, U[:, 0] <= -1]).solve()
    with pytest.raises(InvalidInputError, match="not convex"):
        stated.with_constraints([stated.predictions**2 >= 1])
    with pytest.raises(InvalidInputError, match="constraint was expected"):
        stated.with_constraints([True])
    with pytest.raises(InvalidInputError, match="added constraints needs one of"):
        stated.solve(solver="interior_point")
    robust = RobustRelu(X, SIGNS, P, 0.01, 0.1).as_cvxpy()
    assert robust.solve().status == "optimal"
    assert robust.decode().mismatch == np.inf
    with pytest.raises(UnsupportedModelError, match="constrain the variables"):
        robust.predictions  # noqa: B018
    bounded = robust.with_constraints([robust.variables["U"] <= 0.1])
    assert bounded.solve().violation < 1e-6
