"""One layer of a deep network as a convex program: feasibility, the mixed matrix inequality, two solvers."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn import InvalidInputError, Network, UnsupportedModelError, lipschitz
from convexnn.certificates.deep_lipschitz import deep_lmi_value
from convexnn.losses import Logistic, Squared, SquaredHinge
from convexnn.refinement.deep_barrier import MixedInequality
from convexnn.refinement.deep_newton import LayerNewton
from convexnn.restrictions.deep_layer import DeepLayerProgram, deep_loss, mixed_lmi, weight_decay
from tests._families import few


def deep(rng, sizes):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return Network([(rng.standard_normal((b, a)) / np.sqrt(a), 0.1 * rng.standard_normal(b)) for a, b in pairs])


def program(rng, sizes, layer, regularizer="lipschitz", loss=None, n=25, lam=0.02):
    network = deep(rng, sizes)
    X = rng.standard_normal((n, sizes[0]))
    Y = np.column_stack([np.sin(2 * X[:, 0] + c) + X[:, 1] for c in range(sizes[-1])])
    loss = Squared() if loss is None else loss
    if loss.binary:
        Y = np.where(Y > 0, 1.0, -1.0)
    weight = rng.uniform(0.5, 1.5, n)
    return DeepLayerProgram(network, X, Y, layer, loss, regularizer, lam, weight / weight.sum())


def solve_mixed(weights, layer):
    import cvxpy as cp

    s, inequality = mixed_lmi(weights, layer, cp.Constant(weights[layer]))
    return np.sqrt(cp.Problem(cp.Minimize(s), [inequality]).solve(solver="CLARABEL"))


@pytest.mark.parametrize("sizes", [(3, 5, 4, 1), (3, 4, 4, 3, 2)], ids=str)
def test_the_mixed_inequality_has_the_value_of_the_standard_one(rng, sizes):
    network = deep(rng, sizes)
    weights = [W for W, _ in network.layers]
    standard = deep_lmi_value(network)
    for layer in range(len(weights)):
        assert solve_mixed(weights, layer) == pytest.approx(standard, rel=1e-5)
        A, C = rng.standard_normal((2, *weights[layer].shape))

        def bound(W, layer=layer):
            return solve_mixed([*weights[:layer], W, *weights[layer + 1 :]], layer)

        assert bound((A + C) / 2) <= (bound(A) + bound(C)) / 2 + 1e-6
        assert bound(-2 * A) == pytest.approx(2 * bound(A), rel=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_the_network_is_feasible_and_its_objective_is_the_value(rng, layer):
    task = program(rng, (3, 6, 5, 4, 2), layer)
    theta = task.lift(task.network)
    assert task.violation(theta) <= 1e-12
    assert task.decode(theta) == task.network
    np.testing.assert_allclose(task.outputs(theta), task.network(task.X), atol=1e-12)
    direction = rng.standard_normal(theta.shape)
    step = 1.0
    while task.violation(theta + step * direction) > 0 and step > 1e-9:
        step *= 0.5
    moved = theta + step * direction
    assert step > 1e-6
    np.testing.assert_allclose(task.outputs(moved), task.decode(moved)(task.X), atol=1e-10)
    outside = theta + 100 * direction
    assert task.is_output or task.violation(outside) > 0


@pytest.mark.parametrize("regularizer", ["lipschitz", "l2"])
@pytest.mark.parametrize("loss", few({"squared": Squared(), "squared_hinge": SquaredHinge(), "logistic": Logistic()}))
def test_both_roads_end_at_the_same_value(rng, regularizer, loss):
    for layer in range(3):
        task = program(rng, (3, 6, 5, 2), layer, regularizer, loss)
        found = LayerNewton(task).solve(1e-8, 100, np.inf)
        value = task.cvxpy_problem().solve(solver="CLARABEL")
        network = task.decode(found.theta)
        R = weight_decay(network) if regularizer == "l2" else lipschitz(network).bound ** 2
        again = deep_loss(loss, network(task.X), task.Y, task.weight) + task.lam * R
        assert found.status == "optimal"
        assert task.violation(found.theta) <= 1e-7
        assert again == pytest.approx(value, rel=2e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_newton_system_of_the_inequality(rng, layer):
    weights = [W for W, _ in deep(rng, (3, 5, 4, 2)).layers]
    lmi = MixedInequality(weights, layer)
    W = weights[layer]
    v = lmi.start(W)
    M = lmi.matrix(W, v)
    np.testing.assert_allclose(M, M.T)
    assert np.linalg.eigvalsh(M)[0] > 0
    size = W.size + len(v)
    parts = []
    for e in np.eye(size):  # derivatives of M one by one, against adjoint and Newton matrix
        parts.append(lmi.matrix(e[: W.size].reshape(W.shape), e[W.size :], 0.0))
    A, C = rng.standard_normal((2, lmi.order, lmi.order))
    G, L = A @ A.T, C @ C.T
    expected = [[np.trace(a @ G @ b @ L) for b in parts] for a in parts]
    np.testing.assert_allclose(lmi.hessian(G, L), expected, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(np.concatenate([p.ravel() for p in lmi.adjoint(G)]), [np.sum(a * G) for a in parts])


def test_a_start_on_the_boundary_of_its_cones_is_solved(rng):
    task = program(rng, (3, 6, 5, 1), 1)
    once = LayerNewton(task).solve(1e-7, 100, np.inf)
    again = DeepLayerProgram(
        task.decode(once.theta), task.X, task.Y, 1, task.loss, task.regularizer, task.lam, task.weight
    )
    twice = LayerNewton(again).solve(1e-7, 100, np.inf)
    assert again.violation(twice.theta) <= 1e-7
    assert np.isfinite(twice.theta).all()


def test_what_the_program_does_not_state_is_refused(rng):
    task = program(rng, (2, 3, 3, 1), 0)
    with pytest.raises(InvalidInputError, match="layer must be"):
        DeepLayerProgram(task.network, task.X, task.Y, 3, task.loss, "l2", 0.1, task.weight)
    with pytest.raises(InvalidInputError, match="regularizer"):
        DeepLayerProgram(task.network, task.X, task.Y, 0, task.loss, "l1", 0.1, task.weight)
    with pytest.raises(UnsupportedModelError, match="ReLU"):
        DeepLayerProgram(Network(task.network.layers, "tanh"), task.X, task.Y, 0, task.loss, "l2", 0.1, task.weight)
