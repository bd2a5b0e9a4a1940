"""Two hundred hostile instances: certified or honest, feasible, never worse than the start."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from convexnn import ConvexNNError, SafeSNNRegressor, extract, path, pattern_search, refine
from convexnn.restrictions import LipschitzProgram, LipschitzRestriction, ReluGroupLasso
from tests._hostile import complaints, hostile, solve_quietly
from tests._instances import regression

TOL = 1e-6
BLOCKS, SIZE = 16, 13


def run(seeds, choose=lambda problem: (problem.network, problem.programs()), **options):
    """Complaints over the chosen programs of the seeds, how many were solved, and how many to optimality."""
    found, solved, optimal = [], 0, 0
    for seed in seeds:
        network, programs = choose(hostile(seed))
        for program in programs:
            solution = solve_quietly(program, tol=TOL, **options)
            solved, optimal = solved + 1, optimal + solution.is_optimal
            wrong = complaints(program, network, solution, TOL)
            found += [f"seed {seed}, {program.name}: {text}" for text in wrong]
    return found, solved, optimal


@pytest.mark.parametrize("block", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, BLOCKS))])
def test_every_hostile_instance_ends_certified_or_honest_and_never_worse(block):
    found, solved, optimal = run(range(SIZE * block, SIZE * (block + 1)), solver="interior_point")
    assert found == []
    assert optimal >= 0.95 * solved


@pytest.mark.slow
def test_hostile_instances_with_other_losses():
    def choose(problem):
        return problem.network, problem.with_other_losses()

    found, solved, optimal = run(range(40), choose, solver="interior_point")
    assert found == []
    assert optimal >= 0.95 * solved


@pytest.mark.slow
def test_hostile_instances_with_several_outputs():
    found, solved, optimal = run(range(30), lambda problem: problem.vector(), solver="interior_point")
    assert found == []
    assert optimal >= 0.95 * solved


@pytest.mark.parametrize("seed", [994, 1951])
def test_a_kernel_without_digits_leaves_the_dense_system(seed):
    """Columns of 1e3 to 1e6: beside the rows of the loss the unit matrix of the Woodbury kernel is roundoff."""
    found, solved, optimal = run(
        [seed], lambda problem: (problem.network, list(problem.programs())[-1:]), solver="interior_point"
    )
    assert found == []
    assert solved == optimal == 1


@pytest.mark.parametrize("max_iter", [1, 4, 9])
def test_hostile_instances_cut_short_are_feasible_and_never_worse(max_iter):
    found, solved, optimal = run(range(300, 304), solver="interior_point", max_iter=max_iter)
    assert found == []
    assert optimal < solved


def test_hostile_instances_without_time_are_feasible_and_never_worse():
    assert run(range(320, 335), solver="interior_point", time_limit=1e-9)[0] == []


@pytest.mark.slow
def test_hostile_instances_through_every_fallback():
    found, solved, optimal = run(range(400, 420), solver="auto")
    assert found == []
    assert optimal >= 0.97 * solved


REFUSED = {
    "NaN in X": lambda X, y: (np.where(X == X[0, 0], np.nan, X), y, 0.1),
    "infinite y": lambda X, y: (X, np.r_[np.inf, y[1:]], 0.1),
    "sparse X": lambda X, y: (csr_matrix(X), y, 0.1),
    "complex X": lambda X, y: (X + 1j, y, 0.1),
    "words": lambda X, y: (X.astype(str) + np.array("a"), y, 0.1),
    "a vector X": lambda X, y: (X[:, 0], y, 0.1),
    "a short y": lambda X, y: (X, y[1:], 0.1),
    "squares that overflow in X": lambda X, y: (1e200 * X, y, 0.1),
    "squares that overflow in y": lambda X, y: (X, 1e200 * y, 0.1),
    "no rows": lambda X, y: (X[:0], y[:0], 0.1),
    "lam zero": lambda X, y: (X, y, 0.0),
    "lam negative": lambda X, y: (X, y, -1.0),
    "lam NaN": lambda X, y: (X, y, np.nan),
    "lam a word": lambda X, y: (X, y, "large"),
}
DOORS = {
    "joint": lambda X, y, net, lam: LipschitzProgram(X, y, extract(net, np.ones((30, 3))), lam),
    "(12)": lambda X, y, net, lam: LipschitzRestriction.at(net, X, y, lam),
    "l2": lambda X, y, net, lam: ReluGroupLasso(X, y, extract(net, np.ones((30, 3))), lam),
    "path": lambda X, y, net, lam: path(X, y, net, lams=[lam]),
    "pattern_search": lambda X, y, net, lam: pattern_search(net, X, y, lam=lam, rounds=1),
    "refine": lambda X, y, net, lam: refine(net, X, y, lam=lam),
    "estimator": lambda X, y, net, lam: SafeSNNRegressor(8, lam=lam, start=net).fit(X, y),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("door", DOORS)
def test_unusable_input_is_refused_in_a_sentence(door, what):
    X, y, net = regression()
    X, y, lam = REFUSED[what](X, y)
    with pytest.raises((ConvexNNError, ValueError, TypeError), match=r"\w+ \w+ \w+"):
        DOORS[door](X, y, net, lam)


@pytest.mark.parametrize("door", ["path", "pattern_search"])
def test_the_layout_of_the_data_does_not_matter(door):
    X, y, net = regression(n=15, p=3)
    frozen = X.copy()
    frozen.setflags(write=False)
    values = []
    for rows, targets in [(X, y), (np.asfortranarray(X), y), (frozen, y), (X.tolist(), y.tolist())]:
        result = DOORS[door](rows, targets, net, 0.1)
        values.append(result.objectives[0] if door == "path" else result.objective)
    assert np.allclose(values, values[0], rtol=1e-5)
