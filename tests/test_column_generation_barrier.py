"""The barrier method of column generation: derivatives as matrices, bias of its losses, optima where neurons stall."""

from __future__ import annotations

import numpy as np
import pytest
from test_column_generation import KINDS, data, program, some_neurons, structure_of

from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram
from convexnn.solvers import solve
from convexnn.solvers.column_generation.barrier import BarrierMethod, is_small, reach, scaling
from convexnn.solvers.column_generation.barrier_curvature import Entries, second_derivative
from convexnn.solvers.column_generation.barrier_losses import barrier_loss
from convexnn.solvers.column_generation.worst_cases import WorstCases
from tests._families import few

each_kind = pytest.mark.parametrize("kind", KINDS)


def positive(rng, k=4):
    root = rng.standard_normal((k, k))
    return root @ root.T + 0.1 * np.eye(k)


def test_entries_are_an_isometry(rng):
    entries = Entries.of_size(4)
    A, B, T = positive(rng), positive(rng), rng.standard_normal((4, 4))
    assert entries.vector(A) @ entries.vector(B) == pytest.approx(float((A * B).sum()))
    assert np.allclose(entries.matrix(entries.vector(A)), A)
    assert np.allclose(entries.congruence(T) @ entries.vector(A), entries.vector(T @ A @ T.T))


def test_scaling_and_reach(rng):
    Z, Y = positive(rng), positive(rng)
    W = scaling(Z, Y)
    assert np.allclose(W @ Y @ W, Z)
    change = -positive(rng)
    step = reach(Z, change)
    assert np.linalg.eigvalsh(Z + step * change).min() == pytest.approx(0.0, abs=1e-10)
    assert reach(Z, positive(rng)) == np.inf


@each_kind
@pytest.mark.parametrize("radius", [0.0, 0.4])
def test_second_derivative_as_a_matrix(kind, radius, rng):
    structure = structure_of(kind, rng, radius=radius)
    loss, worst, entries = barrier_loss(structure), WorstCases(structure), Entries.of_size(5)
    loss.beta, h = 0.03, 1e-5
    M = some_neurons(structure, rng).matrices()
    direction = rng.standard_normal(M.shape)
    direction = direction + direction.transpose(0, 2, 1)

    def at(step):
        bent = loss.at(worst.evaluate(M + step * direction, 0.05))
        return bent, worst.moments(structure.share * bent.slopes)

    numeric = -entries.vector((at(h)[1] - at(-h)[1]) / (2 * h)).ravel()
    slope = (at(h)[0].value - at(-h)[0].value) / (2 * h)
    bent, G = at(0.0)
    product = second_derivative(worst, bent, entries) @ entries.vector(direction).ravel()
    assert slope == pytest.approx(-float((G * direction).sum()), rel=1e-6)
    assert np.abs(numeric - product).max() <= 1e-6 * np.abs(product).max()


@each_kind
def test_barrier_losses_tend_to_the_losses(kind, rng):
    structure = structure_of(kind, rng)
    w = 2.0 * rng.standard_normal(structure.n_terms)
    loss, exact = barrier_loss(structure), structure.loss_value(w)
    errors = []
    for beta in (1e-3, 1e-7):
        loss.beta = beta
        errors.append(abs(loss.at(w).value - exact))
    if structure.is_regression or kind != "logistic":
        assert errors[1] <= 1e-4 * exact
        assert errors[1] < errors[0]
    else:
        assert errors == pytest.approx([0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic", "squared", "huber"])
@pytest.mark.parametrize("lam", few([1e-6, 1e-4]))
def test_small_regularizers_are_solved(loss, lam):
    found = solve(program(loss, 0.0 if loss in ("squared", "huber") else 0.3, lam=lam), tol=1e-4)
    assert found.status == "optimal"


@pytest.mark.slow
def test_several_classes_are_solved_as_by_the_generic_solver():
    X, _, _ = data(18, 2)
    problem = MulticlassPolynomialProgram(X, np.arange(18) % 3, lam=0.01, loss="squared_hinge", radius=0.2)
    assert is_small(WorstCases(problem.structure()))
    found = solve(problem, solver="column_generation", tol=1e-5)
    assert found.status == "optimal"
    assert found.objective == pytest.approx(solve(problem, solver="clarabel", tol=1e-6).objective, rel=1e-4)


def test_moments_that_are_not_numbers_end_it(monkeypatch):
    method = BarrierMethod(WorstCases(program().structure()))
    monkeypatch.setattr(WorstCases, "moments", lambda self, _: np.full(self.structure.z_shape[1:], np.nan))
    assert method.run(5, lambda _: False, lambda: False) == "stalled"


def test_time_is_kept():
    method = BarrierMethod(WorstCases(program().structure()))
    assert method.run(5, lambda _: False, lambda: True) == "time_limit"


@pytest.mark.parametrize("loss", ["squared_hinge", "hinge"])
def test_conflicting_labels_of_one_sample(loss):
    X, y, _ = data()
    problem = PolynomialProgram(np.vstack([X, X]), np.concatenate([y, -y]), lam=0.01, loss=loss, radius=0.3)
    assert solve(problem, tol=1e-4).is_optimal
