"""Training with the max-gradient penalty: forms of the dual agree, every published bound is one, training pays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from convexnn.activations import LeakyReLU
from convexnn.attacks import attack
from convexnn.certificates.lipschitz import lipschitz_pairs
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp import maximize_linf, stack
from convexnn.lipsdp.max_cut import max_cut_matrix, upper_bound_max_cut
from convexnn.network import Network
from convexnn.threats import L2Ball, LInfBall
from convexnn.training import CertifiedOptions, MaxGradientTrainer, TrainingOptions, pretrain, train_certified
from convexnn.training.max_gradient_forms import EigenvaluePenalty, FactorPenalty
from convexnn.training.max_gradient_pairs import ClassPairs, margin_bounds

slow = pytest.mark.slow
SLOPES = [(0.0, 1.0), *(pytest.param(pair, marks=slow) for pair in [(0.1, 1.0), (0.0, 0.25), (-0.5, 1.0)])]


def random_network(rng, d=4, m=5, k=3, scale=1.0, activation="relu"):
    W, v = scale * rng.standard_normal((m, d)), rng.standard_normal((k, m))
    return Network.shallow(W, rng.standard_normal(m), v if k > 1 else v[0], activation=activation)


def patterns_bound(B):
    """``1/2 max s'B t`` over all signs s: what every certificate must not be below."""
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * len(B))).reshape(len(B), -1).T
    return 0.5 * np.abs(signs @ B).sum(axis=1).max()


def blobs(rng, n=60, k=3, d=3):
    y = rng.integers(k, size=n)
    return 2.0 * rng.standard_normal((k, d))[y] + 0.5 * rng.standard_normal((n, d)), y


def options(**changes):
    training = TrainingOptions(**({"epochs": 30, "evaluate_every": 5} | changes.pop("training", {})))
    return CertifiedOptions(**({"lam": 1e-2, "radius": 0.2, "random_state": 0, "training": training} | changes))


# -- eq. (15) ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_every_vector_proves_a_bound(rng, scale):
    for _ in range(20):
        B = scale * rng.standard_normal((rng.integers(2, 6), rng.integers(1, 5)))
        truth = patterns_bound(B)
        vectors = [np.zeros(sum(B.shape)), *(scale * rng.standard_normal((3, sum(B.shape))) * rng.choice([0.1, 10]))]
        assert all(upper_bound_max_cut(B, q) >= truth for q in vectors)


def test_the_forms_of_the_dual_have_one_optimum(rng):
    """A multiplier of the d x d form, scaled so that its matrix is feasible, is a vector q with the same bound."""
    for d, m in [(1, 1), (3, 6), (8, 4)]:
        B = stack(rng.standard_normal((m, d)), rng.standard_normal(m))
        best = maximize_linf(B)
        size = np.linalg.norm(B / np.sqrt(best.q)[:, None] / np.sqrt(best.y), 2)
        share = np.sqrt(best.q.sum() / best.y.sum())
        q = size * np.r_[best.y * share, best.q / share]
        assert upper_bound_max_cut(B, q * (1 + 1e-12)) == pytest.approx(best.upper, rel=1e-7)
        assert np.linalg.eigvalsh(np.diag(q) - max_cut_matrix(B))[0] >= -1e-9 * size


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_without_meaning_prove_nothing(bad):
    B = np.ones((2, 3))
    assert upper_bound_max_cut(B, np.r_[np.ones(4), bad]) == np.inf
    assert upper_bound_max_cut(B, np.ones(4)) == np.inf
    assert upper_bound_max_cut(B, np.ones(5), error=[0.0, bad]) == np.inf
    # -1e300 on the diagonal is far from optimal, and still a bound
    assert upper_bound_max_cut(B, np.full(5, -1e300)) >= patterns_bound(B)


def test_row_errors_are_covered(rng):
    B = rng.standard_normal((4, 3))
    q = 2.0 * np.abs(np.r_[np.ones(3), np.ones(4)])
    error = np.array([0.1, 0.0, 0.3, 0.2])
    for _ in range(20):
        step = rng.standard_normal(B.shape)
        moved = B + error[:, None] * step / np.linalg.norm(step, axis=1, keepdims=True)
        assert upper_bound_max_cut(B, q, error) >= patterns_bound(moved)


# -- bounds of the pairs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("norm", [pytest.param(2, marks=slow), np.inf])
def test_values_and_gradients_of_the_factors(rng, slopes, norm):
    """At converged factors the value is that of the slow maximization, and its slope the finite difference."""
    W, V = rng.standard_normal((5, 3)), rng.standard_normal((3, 5))
    A = ClassPairs(3).differences @ V

    def converged(weights):
        penalty = FactorPenalty(slopes, norm, power_steps=300)
        leaf = torch.tensor(weights, requires_grad=True)
        for _ in range(4):
            value = penalty(leaf, torch.as_tensor(A))
        value.sum().backward()
        return value.detach().numpy(), leaf.grad.numpy()

    values, slope = converged(W)
    if norm == np.inf:
        truth = [maximize_linf(stack(W, a, slopes)).upper for a in A]
        np.testing.assert_allclose(values, truth, rtol=1e-5)
    step = 1e-4 * rng.standard_normal(W.shape)
    change = converged(W + step)[0].sum() - converged(W - step)[0].sum()
    assert 2 * np.vdot(slope, step) == pytest.approx(change, rel=1e-3)


@pytest.mark.parametrize(
    "activation", ["relu", LeakyReLU(0.2), *(pytest.param(a, marks=slow) for a in ("tanh", "sigmoid"))]
)
@pytest.mark.parametrize("k", [pytest.param(1, marks=slow), 3])
def test_certified_bounds_hold_for_differences_of_outputs(rng, activation, k):
    network = random_network(rng, k=k, activation=activation)
    X, Y = rng.standard_normal((2, 2000, 4))
    Y = X + 0.3 * np.sign(Y)
    change = (network(X) - network(Y)).reshape(2000, -1) @ ClassPairs(k).differences.T
    for norm, length in ((np.inf, np.abs(X - Y).max(axis=1)), (2, np.linalg.norm(X - Y, axis=1))):
        bounds, multiplier = FactorPenalty(network.activation.slopes, norm).certify(network, 1e-3)
        assert (np.abs(change) / length[:, None] <= bounds).all()
        np.testing.assert_array_equal(margin_bounds(network, multiplier, norm), bounds)
        if k > 1 and activation == "relu":
            table = lipschitz_pairs(network, norm=norm)
            np.testing.assert_allclose(ClassPairs(k).matrix(bounds), table, rtol=3e-3)


def test_corrupted_multipliers_stay_valid(rng):
    network = random_network(rng, d=3, m=4)
    A = ClassPairs(3).differences @ network.layers[-1][0]
    truth = np.array([patterns_bound(stack(network.W, a)) for a in A])
    multiplier = FactorPenalty().certify(network, 1e-4)[1]
    for _ in range(30):
        wrong = {name: part * rng.choice([1.0, 0.0, -1.0, 1e9, 1.5], part.shape) for name, part in multiplier.items()}
        assert (margin_bounds(network, wrong) >= truth * (1 - 1e-12)).all()
    for wrong in ({}, {"q": np.ones(2)}, {"q": multiplier["q"], "y": np.ones((1, 3))}, {"cut": np.ones((3, 2))}):
        found = margin_bounds(network, wrong)
        assert (found >= truth * (1 - 1e-12)).all()
        assert np.isinf(found).any()


def test_the_form_of_the_paper_is_a_bound_at_every_step(rng):
    network = random_network(rng)
    V = torch.as_tensor(ClassPairs(3).differences @ network.layers[-1][0])
    penalty, W = EigenvaluePenalty(), torch.tensor(network.W)
    truth = FactorPenalty().certify(network, 1e-6)[0]
    first = penalty(W, V).numpy()
    for _ in range(200):
        values = penalty(W, V).numpy()
        assert (values >= truth * (1 - 1e-6)).all()
    assert (penalty.certify(network)[0] >= truth * (1 - 1e-6)).all()
    assert (values - truth).max() < 0.3 * (first - truth).max()  # its subgradients are slow, but they do lead there


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "k"),
    [("factor", 3), ("eigenvalue", 1), *(pytest.param(*f, marks=slow) for f in [("factor", 1), ("eigenvalue", 3)])],
)
def test_history_is_certified_and_the_result_never_worse(rng, form, k):
    X, y = blobs(rng, k=max(k, 2))
    start = random_network(rng, d=3, m=6, k=k)
    found = train_certified(start, X, y, options(form=form))
    objectives = [row["objective"] for row in found.history]
    assert found.objective <= objectives[0] * (1 + 1e-9)
    assert found.objective < objectives[0]
    for row in found.history:
        assert row["clean_error"] <= row["certified_error"]
        assert row["objective"] >= row["loss"]
    np.testing.assert_array_equal(found.check(), found.bounds)
    assert found.certified_error == pytest.approx(found.errors(X, y)[1])
    reached = attack(found.network, X, y, LInfBall(0.2), random_state=0).success.mean()
    assert found.clean_error <= reached <= found.certified_error


def test_a_huge_weight_gives_a_constant_network(rng):
    X, y = blobs(rng)
    found = train_certified(8, X, y, options(lam=1e3, training={"epochs": 200, "evaluate_every": 50}))
    assert found.bounds.max() < 0.05
    assert found.certified_error >= found.clean_error


@pytest.mark.slow
def test_weights_of_single_pairs(rng):
    """Only the pair that is weighted is kept small."""
    X, y = blobs(rng)
    lam = np.zeros((3, 3))
    lam[0, 1] = 0.3
    found = train_certified(8, X, y, options(lam=lam, training={"epochs": 100}))
    free = train_certified(8, X, y, options(lam=0.0, training={"epochs": 100}))
    assert found.bounds[0] < 0.7 * free.bounds[0]
    assert found.bounds[0] < found.bounds[1:].min()


@pytest.mark.slow
def test_a_resumed_run_is_the_run_that_was_not_cut(rng, tmp_path):
    X, y = blobs(rng)
    path = tmp_path / "run.npz"
    for form in ("factor", "eigenvalue"):
        whole = train_certified(6, X, y, options(form=form))
        for epochs in (10, 30):
            training = {"epochs": epochs, "schedule": "constant", "checkpoint": path, "checkpoint_every": 5}
            cut = train_certified(6, X, y, options(form=form, training=training))
        whole = train_certified(6, X, y, options(form=form, training={"schedule": "constant"}))
        np.testing.assert_array_equal(cut.network.W, whole.network.W)
        path.unlink()


def test_time_limit_keeps_the_best(rng):
    X, y = blobs(rng)
    with pytest.warns(ConvergenceWarning, match="time limit"):
        found = train_certified(6, X, y, options(training={"time_limit": 0.0}))
    assert found.status == "time_limit"
    np.testing.assert_array_equal(found.check(), found.bounds)


def test_what_cannot_be_meant_is_refused(rng):
    X, y = blobs(rng)
    refused = [
        (InvalidInputError, "lam", lambda: MaxGradientTrainer(lam=-1)),
        (InvalidInputError, "lam", lambda: MaxGradientTrainer(lam=np.nan)),
        (InvalidInputError, "norm", lambda: MaxGradientTrainer(norm=1)),
        (InvalidInputError, "form", lambda: MaxGradientTrainer(form="eigenvalue", norm=2)),
        (InvalidInputError, "classifiers", lambda: train_certified(4, X, X[:, 0], options(loss="squared"))),
        (
            InvalidInputError,
            "classifiers",
            lambda: train_certified(random_network(rng, 3), X, y, options(loss="hinge")),
        ),
        (InvalidInputError, "weighs", lambda: pretrain(X, y, method="max_gradient", loss="cross_entropy", lam=1.0)),
        (InvalidInputError, "classes", lambda: train_certified(4, X, y, options(lam=np.ones((2, 2))))),
        (
            UnsupportedModelError,
            "hidden",
            lambda: pretrain(X, y, hidden_units=(4, 4), method="max_gradient", loss="cross_entropy", epochs=1),
        ),
        (InvalidInputError, "NaN", lambda: train_certified(4, X * np.nan, y, options())),
    ]
    for kind, words, call in refused:
        with pytest.raises(kind, match=words):
            call()


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "radius", "lam"), [(np.inf, 0.1, 1e-3), (2, 0.5, 1e-2)])
def test_digits_certified_error_beats_plain_training(norm, radius, lam):
    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:1297], order[1297:]
    plain = pretrain(X[train], y[train], hidden_units=32, loss="cross_entropy", epochs=100, random_state=0)
    training = {"epochs": 200, "evaluate_every": 50}
    asked = options(lam=lam, loss="multi_margin", radius=radius, norm=norm, training=training)
    found = train_certified(plain.network, X[train], y[train], asked)
    before = FactorPenalty(norm=norm).certify(plain.network, 1e-3)[0]
    assert found.bounds.max() < 0.2 * before.max()
    clean, certified = found.errors(X[test], y[test])
    ball = LInfBall(radius) if norm == np.inf else L2Ball(radius)
    reached = attack(found.network, X[test], y[test], ball, random_state=0).success.mean()
    attacked = attack(plain.network, X[test], y[test], ball, random_state=0).success.mean()
    assert clean <= 0.08
    assert clean <= reached <= certified
    assert certified < 0.5
    assert certified < attacked  # no certificate of the plain network, however tight, could be better
