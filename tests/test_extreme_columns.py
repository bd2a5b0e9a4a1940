"""Inputs whose columns differ by a hundred orders of magnitude: feasible results, honest words, no overflow."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.restrictions import LipschitzProgram, ReluGroupLasso
from convexnn.solvers import solve
from tests._families import few


def instance(size):
    """Program data and a network; the first column is ``size`` or zero."""
    X = np.array([[2.0, -1.0], [1.0, 0.4], [0.0, -0.6], [2.0, 0.8]]) * [size, 1.0]
    net = Network.shallow(
        [[0.7, -0.1], [-0.8, -0.5], [1.4, 0.4], [-0.3, 1.0]], [-0.7, -2.5, 1.2, 0.0], [1.0, 1.0, -1.0, 0.5], 0.0
    )
    return X, np.array([1.0, 1.0, -1.0, 1.0]), net


@pytest.mark.filterwarnings("ignore::convexnn.exceptions.SolverWarning")  # units left at zero
@pytest.mark.parametrize("build", few({"l2": ReluGroupLasso, "joint": LipschitzProgram}, ["joint"]))
@pytest.mark.parametrize(
    ("solver", "loss"), [("interior_point", "squared"), ("interior_point", "hinge"), ("first_order", "squared")]
)
@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e100])
def test_points_outside_of_the_cones_are_not_handed_over(build, solver, loss, size):
    """At 1e100 roundoff alone leaves the cones; at 1e-200 the square of a Lipschitz bound overflows."""
    X, y, net = instance(size)
    program = build(X, y, extract(net, X), 0.5, start=net, loss=loss)
    solution = solve(program, solver=solver, tol=1e-8, max_iter=50)
    assert solution.violation <= 1e-9
    assert solution.objective <= program.objective(program.start)
    assert solution.lower_bound <= solution.objective * (1 + 1e-9) + 1e-15
    assert solution.lower_bound >= 0
    assert solution.status == "optimal" or solution.gap > 1e-8
