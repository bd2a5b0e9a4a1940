"""Rare ways through Lipschitz bounds and eigenvalues: searches that are cut short, solvers that fail, float64 left."""

from __future__ import annotations

import itertools
import math

import cvxpy as cp
import numpy as np
import pytest

from convexnn import Network, rigorous
from convexnn.certificates import lipschitz_lmi, lipschitz_lower
from convexnn.certificates.deep_lipschitz import deep_lmi_value
from convexnn.certificates.lipschitz import _estimate, check_lipsdp, lipschitz
from convexnn.conic import run
from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.lipsdp import multiplier_from_t_vector
from convexnn.rigorous import eigenvalues


def shallow(rng, m=4, d=3, k=1) -> Network:
    return Network.shallow(rng.standard_normal((m, d)), np.zeros(m), rng.standard_normal((k, m)), np.zeros(k))


# -- eigenvalues ------------------------------------------------------------------------------------
@pytest.mark.parametrize("said", [-1e300, -1.0, 0.0, 3.0, 1e300, math.nan])
def test_an_eigensolver_that_lies_proves_nothing_false(monkeypatch, said):
    monkeypatch.setattr(eigenvalues, "eigvalsh", lambda A, **_: np.full(len(A), said))
    for n in (2, 5):
        assert rigorous.max_eigenvalue(np.ones((n, n))) >= n
    assert rigorous.spectral_norm_up(np.diag([3.0, -5.0])) >= 5.0


def test_a_factorization_that_never_completes_proves_nothing(monkeypatch):
    monkeypatch.setattr(eigenvalues, "dpotrf", lambda A, **_: (A, 1))
    assert rigorous.max_eigenvalue(np.eye(3)) == math.inf == rigorous.spectral_norm_up(np.ones((2, 3)))
    assert rigorous.lack_of_definiteness(np.eye(3)) == math.inf


def test_no_number_is_no_bound():
    assert rigorous.round_up(math.nan) == math.inf
    assert rigorous.round_up(1.0) == np.nextafter(1.0, 2.0)


# -- patterns ---------------------------------------------------------------------------------------
def test_a_search_that_is_cut_short_is_a_pattern_on_the_way(rng):
    """A fan of rows with a slight preference for one axis: every round turns a little, fifty are not enough."""
    angle = 2.0 * np.pi * (np.arange(8000) + 0.5) / 8000
    fan = (1.0 + 0.03 * np.cos(2.0 * angle))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    start = np.array([np.cos(1.52), np.sin(1.52)])
    value, pattern = lipschitz_lower._switch_all(fan, np.ones((1, 8000)), start, np.ones(1), (0.0, 1.0))
    first = np.linalg.norm(fan[fan @ start > 0].sum(axis=0))
    best = np.linalg.norm(fan[fan[:, 0] > 0].sum(axis=0))  # of the zonotope's support along the axis
    assert first < value < best * (1.0 - 1e-6)
    assert value == pytest.approx(np.linalg.norm(pattern @ fan), rel=1e-12)


def test_switches_from_no_pattern_still_end_at_one(rng):
    W, v = rng.standard_normal((5, 2)), rng.standard_normal(5)
    norms = [np.linalg.norm((v * np.array(s)) @ W) for s in itertools.product([0.0, 1.0], repeat=5)]
    stuck = lipschitz_lower._switch_single(W, v, np.full(5, 0.5), (0.0, 1.0))  # halves never meet an end
    assert min(abs(stuck - norm) for norm in norms) <= 1e-12
    climbed = lipschitz_lower._switch_single(W, v, np.zeros(5), (0.0, 1.0))
    assert np.max(np.abs(v) * np.linalg.norm(W, axis=1)) <= climbed * (1 + 1e-12) <= max(norms) * (1 + 2e-12)


def test_points_given_are_looked_at_and_none_are_no_points(rng):
    network = Network.shallow([[1.0], [1.0]], [0.0, -1e6], [1.0, 1.0], 0.0)
    assert lipschitz_lower.lipschitz_lower_bound(network, [[2e6]], n_samples=0) == pytest.approx(2.0)
    plain = lipschitz_lower.lipschitz_lower_bound(network, n_samples=50)
    assert lipschitz_lower.lipschitz_lower_bound(network, np.zeros((0, 1)), n_samples=50) == plain
    for wrong in (np.zeros((2, 2)), [[np.nan]], [1.0]):
        with pytest.raises(InvalidInputError, match=r"X must be a finite array of shape \(n, 1\)"):
            lipschitz_lower.lipschitz_lower_bound(network, wrong)


# -- matrix inequalities ----------------------------------------------------------------------------
def test_solvers_that_fail_are_named(rng, monkeypatch):
    two, deep = shallow(rng, k=2), Network([(np.eye(2), np.zeros(2))] * 3)
    for solve, message in (
        (lambda: lipschitz_lmi.lmi_reference(two, "nope"), "not installed"),
        (lambda: lipschitz_lmi.lmi_reference(two, "OSQP"), "OSQP failed"),
        (lambda: deep_lmi_value(deep, "OSQP"), "OSQP failed"),
    ):
        with pytest.raises(SolverError, match=message):
            solve()
    monkeypatch.setattr(cp.Problem, "solve", lambda self, **_: None)
    with pytest.raises(SolverError, match="returned no point"):
        lipschitz_lmi.lmi_reference(two)
    with pytest.raises(SolverError, match="found no value"):
        deep_lmi_value(deep)


def test_a_solver_that_is_listed_and_has_no_licence_is_refused(rng, monkeypatch):
    monkeypatch.setattr(cp, "installed_solvers", lambda: ["CLARABEL", "MOSEK"])
    monkeypatch.setattr(run, "mosek_refusal", lambda: "no licence")
    with pytest.raises(SolverError, match="no licence"):
        lipschitz_lmi.lmi_reference(shallow(rng), "mosek")


def test_a_diagonal_on_the_edge_of_the_inequality_is_moved_inside():
    """``1 - v^2 / (2 t)`` is zero at ``t = 1 / 2``: no bound there, one just above; the truth is ``|w| |v|``."""
    one = Network(((np.array([[2.0, 0.0]]), np.zeros(1)), (np.array([[0.6], [0.8]]), np.zeros(2))))
    edge = np.full(1, 0.5)
    assert not np.isfinite(multiplier_from_t_vector(one.W, one.layers[1][0], edge)).any()
    q = lipschitz_lmi._repaired_vector(one, edge)
    assert 2.0 <= check_lipsdp(one, {"q": q}) < math.inf
    far = lipschitz_lmi._repaired_vector(one, np.zeros(1))  # what a solver returns that did nothing
    np.testing.assert_array_equal(far, np.ones(1))
    assert check_lipsdp(one, {"q": far}) >= 2.0


@pytest.mark.parametrize("k", [1, 2])
def test_diagonals_of_any_size_prove_a_bound_or_nothing(rng, k):
    network = shallow(rng, k=k)
    least = lipschitz_lower.lipschitz_lower_bound(network, n_samples=100)
    for size in (5e-324, 1e-310, 1e-160, 1.0, 1e160, 1e300, 1.7e308):
        for t in (np.full(4, size), np.array([size, 1.0, 1.0, 1.0])):
            assert check_lipsdp(network, {"t": t}) >= least
    for t in (np.zeros(4), -np.ones(4), np.full(4, np.nan), np.ones(3)):
        assert check_lipsdp(network, {"t": t}) == math.inf


@pytest.mark.parametrize("k", [1, 2])
def test_what_cannot_be_estimated_has_no_slack_to_report(rng, k):
    network = shallow(rng, k=k)
    honest = lipschitz(network)
    assert _estimate("lipsdp", network, honest.multiplier) == pytest.approx(honest.bound, rel=1e-9)
    tiny = {"q": np.r_[np.full(4, 1e-320), np.ones(int(k == 1))]}
    assert _estimate("lipsdp", network, tiny) == 0.0
    assert check_lipsdp(network, tiny) == math.inf
