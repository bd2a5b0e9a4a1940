"""Adversarial, LipSDP-gradient and ADMM training: what they minimize, that they lower it, and that nothing is lost."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from convexnn.activations import ReLU
from convexnn.attacks import attack
from convexnn.certificates.lipschitz import lipschitz
from convexnn.estimators import SafeSNNRegressor, starts
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp import maximize, stack, t_from_multiplier
from convexnn.network import Network
from convexnn.refinement import TrainingObjective
from convexnn.threats import L2Ball, LInfBall
from convexnn.training import ADMMTrainer, AdversarialTrainer, LipschitzTrainer, pretrain
from convexnn.training.data import canonical_rows
from convexnn.training.lipsdp_prox import ProximalStep, bound_matrix, shrink
from convexnn.training.problem import Scaling, TrainingProblem
from tests._families import few
from tests._shared import require_shared

LAM = 1e-2
TRAINERS = {
    "adversarial": lambda **kw: AdversarialTrainer(**({"radius": 0.2, "steps": 4} | kw)),
    "lipschitz": lambda **kw: LipschitzTrainer(**({"lam": LAM} | kw)),
    "admm": lambda **kw: ADMMTrainer(**({"lam": LAM, "rounds": 4} | kw)),
    "original": lambda **kw: ADMMTrainer(**({"lam": LAM, "rounds": 4, "mode": "original"} | kw)),
}
BALLS = {2: L2Ball, np.inf: LInfBall}
each_trainer = pytest.mark.parametrize("make", TRAINERS.values(), ids=TRAINERS)
each_lipschitz = pytest.mark.parametrize("make", [TRAINERS[name] for name in ("lipschitz", "admm")])


@pytest.fixture
def data(rng):
    X = rng.standard_normal((50, 3))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2


def quick(X, y, method, **settings):
    return pretrain(X, y, method=method, **({"hidden_units": 8, "epochs": 40, "random_state": 0} | settings))


def problem_of(X, y, **settings):
    rows = canonical_rows(X, y)
    return TrainingProblem(rows, None, "squared", ReLU(), Scaling.of(rows, "squared"), "cpu", "float64", **settings)


def random_network(rng, d=3, m=6, k=1):
    v = rng.standard_normal(m) if k == 1 else rng.standard_normal((k, m))
    return Network.shallow(rng.standard_normal((m, d)), rng.standard_normal(m), v)


def servo():
    """Split 0 of servo, standardized on its training rows."""
    table = np.loadtxt(require_shared("data", "splits", "servo.csv"), delimiter=",")
    test = np.loadtxt(require_shared("data", "splits", "servo_test_mask.csv"), delimiter=",")[:, 0].astype(bool)
    standard = (table - table[~test].mean(axis=0)) / table[~test].std(axis=0)
    return standard[~test, :-1], standard[~test, -1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_trainers_run_on_cuda(data):
    for make in TRAINERS.values():
        result = quick(*data, make(), device="cuda")
        assert result.best_objective < result.history[0]["objective"]


# -- the Lipschitz objective ------------------------------------------------------------------------------------------


@each_lipschitz
def test_objective_is_that_of_the_estimators(data, rng, make):
    X, y = data[0] * [1, 30, 0.1], 5 * data[1] + 100  # raw units matter: L and lam mean what they say
    weight = rng.integers(1, 4, len(X))
    result = quick(X, y, make(lam=0.05), sample_weight=weight)
    objective = TrainingObjective(X, y, weight, "lipschitz", 0.05)(result.network)
    assert result.best_objective == pytest.approx(objective, rel=1e-7)
    assert result.best_objective - result.loss == pytest.approx(0.05 * lipschitz(result.network).bound ** 2, rel=1e-6)
    assert result.best_objective <= min(entry["objective"] for entry in result.history) * (1 + 1e-9)


@pytest.mark.slow
@each_lipschitz
def test_lower_than_plain_training(data, make):
    X, y = data
    plain = quick(X, y, "adam", hidden_units=20, epochs=400, weight_decay=1e-4)
    objective = TrainingObjective(X, y, None, "lipschitz", 0.1)
    result = quick(X, y, make(lam=0.1), hidden_units=20, epochs=400)
    assert objective(result.network) < 0.8 * objective(plain.network)


@each_lipschitz
@pytest.mark.parametrize("rate", [1e-9, 1e-2])
def test_never_worse_than_the_start(data, make, rate):
    X, y = data
    start = quick(X, y, "adam", epochs=100).network
    result = quick(X, y, make(), start=start, learning_rate=rate, epochs=20)
    objective = TrainingObjective(X, y, None, "lipschitz", LAM)
    assert objective(result.network) <= objective(start) * (1 + 1e-9)


@pytest.mark.slow
@each_lipschitz
def test_huge_weight_gives_the_mean(data, make):
    X, y = data
    # L must vanish: nothing is better than the best constant, whose loss is the variance
    result = quick(X, y, make(lam=1e3), epochs=400)
    assert result.best_objective == pytest.approx(y.var(), rel=1e-9)


@each_lipschitz
def test_units_of_the_targets_do_not_matter(data, make):
    X, y = data
    one, other = quick(X, y, make()), quick(X, 64.0 * y + 8, make())
    # loss and L^2 both scale with the square of the targets
    assert other.best_objective == pytest.approx(64.0**2 * one.best_objective, rel=1e-5)


@each_lipschitz
def test_a_common_unit_of_the_inputs_is_absorbed_by_the_weight(data, make):
    X, y = data
    one, other = quick(X, y, make(lam=LAM)), quick(16.0 * X, y, make(lam=LAM * 256))
    assert other.best_objective == pytest.approx(one.best_objective, rel=1e-5)


@pytest.mark.slow
@each_lipschitz
@pytest.mark.parametrize("scale", [[1e-3, 1.0, 1e3], [1e-8, 1.0, 1.0]])
def test_inputs_of_very_different_scales(data, make, scale):
    X, y = data
    result = quick(X * scale, y, make(lam=1e-3), epochs=100)
    assert np.isfinite(result.best_objective)
    assert result.best_objective <= y.var() * (1 + 1e-9)  # that of the best constant


def test_several_outputs_and_another_activation(data):
    X, y = data
    Y = np.column_stack([y, X[:, 0]])
    result = quick(X, Y, LipschitzTrainer(lam=0.02), activation="tanh", epochs=30)
    loss = np.mean(((result.network(X) - Y) ** 2).sum(axis=1))
    assert result.best_objective == pytest.approx(loss + 0.02 * lipschitz(result.network).bound ** 2, rel=1e-6)
    assert result.best_objective < result.history[0]["objective"]


@each_lipschitz
def test_what_lipsdp_does_not_cover_is_refused(data, make):
    with pytest.raises(UnsupportedModelError, match="one hidden layer"):
        quick(*data, make(), hidden_units=(4, 4))
    with pytest.raises(UnsupportedModelError, match="slopes"):
        quick(*data, make(), activation="polynomial")


@each_lipschitz
def test_the_other_lam_is_refused(data, make):
    with pytest.raises(InvalidInputError, match="for the weight of L"):
        quick(*data, make(), lam=0.1)


@each_trainer
def test_single_precision(data, make):
    result = quick(*data, make(), dtype="float32")
    assert result.best_objective == pytest.approx(quick(*data, make(), dtype="float64").best_objective, rel=1e-2)


def test_admm_refuses_several_outputs(data):
    X, y = data
    with pytest.raises(UnsupportedModelError, match="one output"):
        quick(X, np.column_stack([y, y]), ADMMTrainer())


# -- ADMM -------------------------------------------------------------------------------------------------------------


def prox_problem(rng, m=4, d=3, scale=1.0):
    W, v = rng.standard_normal((m, d)), rng.standard_normal(m)
    t = t_from_multiplier(v, maximize(stack(W / scale, v)).multiplier) * 1.05
    A, a = W + 0.3 * rng.standard_normal((m, d)), v + 0.3 * rng.standard_normal(m)
    return ProximalStep(A, a, t, 0.1, 0.7, np.full(d, scale))


def test_bound_matrix_is_the_matrix_inequality(rng):
    # M >= 0 exactly when L^2 >= lmax(Q): its least eigenvalue changes sign there
    step = prox_problem(rng)
    W, v, T = step.A, shrink(step.a, step.t), np.diag(step.t)
    square = np.linalg.eigvalsh(bound_matrix(W, v, step.t))[-1]

    def least(square):
        top = [square * np.eye(3), -W.T @ T, np.zeros((3, 1))]
        bottom = [np.zeros((1, 3)), v[None], np.ones((1, 1))]
        return np.linalg.eigvalsh(np.block([top, [-T @ W, 2 * T, v[:, None]], bottom]))[0]

    assert least(square * (1 + 1e-6)) > 0 > least(square * (1 - 1e-6))
    assert bound_matrix(W, v * 100, step.t) is None
    assert step.value(W, v * 100) == np.inf


def test_smoothed_gradient_is_the_finite_difference(rng):
    step = prox_problem(rng, scale=2.0)
    x = np.concatenate([step.A.ravel(), shrink(step.a, step.t) * 0.9])
    direction = rng.standard_normal(x.size)
    slope = step.smoothed(x, 20.0)[1] @ direction
    values = [step.smoothed(x + h * direction, 20.0)[0] for h in (1e-6, -1e-6)]
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_sdp_step_is_the_one_of_cvxpy(seed, scale):
    import cvxpy as cp

    step = prox_problem(np.random.default_rng(seed), scale=scale)
    (m, d), T = step.A.shape, np.diag(step.t)
    W, v, square = cp.Variable((m, d)), cp.Variable((m, 1)), cp.Variable()
    top = [square * np.eye(d), -W.T @ T / scale, np.zeros((d, 1))]
    M = cp.bmat([top, [-T @ W / scale, 2 * T, v], [np.zeros((1, d)), v.T, np.ones((1, 1))]])
    distance = cp.sum_squares(W - step.A) + cp.sum_squares(v - step.a[:, None])
    program = cp.Problem(cp.Minimize(step.weight * square + step.penalty / 2 * distance), [(M + M.T) / 2 >> 0])
    best = program.solve(solver="CLARABEL")
    found = step.value(*step.solve())
    assert best * (1 - 1e-6) <= found <= best * (1 + 2e-5)


def test_sdp_step_of_zero_weights():
    W, v = ProximalStep(np.zeros((2, 3)), np.zeros(2), np.ones(2), 1.0, 1.0, np.ones(3)).solve()
    assert not W.any()
    assert not v.any()


def test_original_mode_returns_the_last_iterate(data):
    X, y = data
    original = TRAINERS["original"]
    result = quick(X, y, original(lam=0.1), epochs=60)
    assert result.status == "finished"
    # plain gradient descent at a constant rate, whatever the options say
    assert {entry["learning_rate"] for entry in result.history[1:]} == {0.01}
    assert quick(X, y, original(lam=0.1), epochs=60, momentum=0.5, schedule="step").network == result.network
    # not the best of what it met
    assert min(entry["objective"] for entry in result.history) < result.best_objective


def test_updating_the_multiplier_is_an_option(data):
    fixed = quick(*data, ADMMTrainer(rounds=4, update_multiplier=False), epochs=80)
    assert fixed.network != quick(*data, ADMMTrainer(rounds=4), epochs=80).network


@pytest.mark.slow
def test_servo_admm_and_lipsdp_gradient():
    X, y = servo()
    objective = TrainingObjective(X, y, None, "lipschitz", LAM)
    plain = pretrain(X, y, hidden_units=100, weight_decay=1e-4, random_state=0).network
    gradient = pretrain(X, y, hidden_units=100, method=LipschitzTrainer(lam=LAM), random_state=0).network
    admm = pretrain(X, y, hidden_units=100, method=ADMMTrainer(lam=LAM), epochs=2000, random_state=0).network
    assert objective(gradient) < 0.115
    assert objective(admm) < 1.1 * objective(gradient)
    assert objective(gradient) < 0.5 * objective(plain)


# -- adversarial training ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("units", ["raw", "standardized"])
@pytest.mark.parametrize("radius", [0.0, 0.3])
def test_inner_points_lie_in_the_threat_set(data, rng, norm, units, radius):
    X, y = data[0] * [1, 30, 0.5] + 5, data[1]
    problem, trainer = problem_of(X, y), AdversarialTrainer(radius=radius, norm=norm, units=units)
    layers, batch = problem.layers(random_network(rng)), problem.all_rows
    moved = trainer.perturb(problem, layers, batch, torch.zeros_like(batch.X), 10)
    scale = problem.scaling.input_scale if units == "raw" else np.ones(3)
    assert BALLS[norm](radius).contains(moved.X.numpy() * scale, batch.X.numpy() * scale, tol=1e-12).all()
    assert problem.data_loss(layers, moved) >= problem.data_loss(layers, batch)
    if radius:  # the ascent uses the ball, up to its boundary
        size = np.linalg.norm((moved.X - batch.X).numpy() * scale, ord=norm, axis=1)
        assert np.median(size) == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("norm", [2, np.inf])
def test_inner_maximum_of_a_linear_network_is_exact(rng, norm):
    # f = w'x: the worst squared error is (|w'x - y| + radius |w|_dual)^2
    X, w = rng.standard_normal((40, 3)), np.array([1.0, -2.0, 0.5])
    y = X @ w + rng.standard_normal(40)
    problem = problem_of(X, y)
    net = Network.shallow(np.vstack([w, -w]), [100.0, 100.0], [0.5, -0.5])  # both units active: linear
    trainer = AdversarialTrainer(radius=0.25, norm=norm)
    trainer.prepare(problem)
    with torch.no_grad():
        found = trainer.evaluate(problem, problem.layers(net)) * problem.loss_unit
    dual = np.linalg.norm(w) if norm == 2 else np.abs(w).sum()
    assert found == pytest.approx(np.mean((np.abs(X @ w - y) + 0.25 * dual) ** 2), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [2, np.inf])
def test_adversarial_training_lowers_the_adversarial_error(rng, norm):
    X = rng.standard_normal((80, 2))
    y = np.sign(X[:, 0]) + 0.5 * rng.standard_normal(80)
    plain = quick(X, y, "adam", hidden_units=30, epochs=300)
    robust = quick(X, y, AdversarialTrainer(radius=0.3, norm=norm, steps=5), hidden_units=30, epochs=300)
    threat = BALLS[norm](0.3)
    attacked = [attack(r.network, X, y, threat, random_state=0).values.mean() for r in (plain, robust)]
    assert attacked[1] < 0.9 * attacked[0]
    assert plain.loss < robust.loss <= attacked[1]
    # the training objective is a lower bound on the worst case that an attack nearly meets
    assert robust.best_objective == pytest.approx(attacked[1], rel=0.05)


def test_radius_zero_is_plain_training(data):
    X, y = data
    result = quick(X, y, AdversarialTrainer(radius=0.0))
    np.testing.assert_allclose(result.network(X), quick(X, y, "adam").network(X), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_radius_is_in_raw_units(data):
    X, y = data
    one, other = quick(X, y, AdversarialTrainer(radius=0.1)), quick(64.0 * X, y, AdversarialTrainer(radius=6.4))
    assert other.best_objective == pytest.approx(one.best_objective, rel=1e-6)
    scale = np.array([1.0, 2.0**20, 2.0**-20])
    free = [quick(Z, y, AdversarialTrainer(units="standardized")).best_objective for Z in (X, scale * X)]
    assert free[1] == pytest.approx(free[0], rel=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
def test_adversarial_training_of_classifiers(rng, loss):
    X = rng.standard_normal((60, 2))
    y = (X[:, 0] > 0).astype(int)
    result = quick(X, y, AdversarialTrainer(radius=0.2, steps=3), loss=loss, epochs=60, batch_size=20)
    scores = result.network(X)
    assert np.mean((scores > 0 if scores.ndim == 1 else scores.argmax(axis=1)) == y) > 0.9
    assert result.best_objective >= result.loss


# -- what every run can meet ------------------------------------------------------------------------------------------


@pytest.mark.slow
@each_trainer
@pytest.mark.parametrize("stop", [5, 12, 18])
def test_a_resumed_run_is_the_uncut_run(data, tmp_path, make, stop):
    X, y = data
    settings = {"epochs": 24, "batch_size": 16, "evaluate_every": 1, "checkpoint": tmp_path / "run.npz"}
    cut = quick(X, y, make(), callback=lambda now: now.epoch >= stop, **settings)
    assert (cut.status, cut.epochs) == ("stopped", stop)
    resumed = quick(X, y, make(), **settings)
    whole = quick(X, y, make(), **(settings | {"checkpoint": None}))
    assert resumed.network == whole.network
    assert [e["objective"] for e in resumed.history] == [e["objective"] for e in whole.history]


@each_trainer
def test_checkpoints_of_other_settings_are_refused(data, tmp_path, make):
    path = tmp_path / "run.npz"
    quick(*data, make(), checkpoint=path)
    changed = {"radius": 0.3} if make().name == "adversarial" else {"lam": 0.3}
    with pytest.raises(InvalidInputError, match="a run with other data"):
        quick(*data, make(**changed), checkpoint=path)


@each_trainer
def test_an_interrupt_keeps_the_best_network(data, make):
    def interrupt(now):
        if now.epoch == 30:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted after 30 of 40"):
        result = quick(*data, make(), callback=interrupt)
    assert result.status == "interrupted"
    assert result.best_objective <= min(entry["objective"] for entry in result.history) * (1 + 1e-9)
    assert result.best_objective < result.history[0]["objective"]


@each_trainer
def test_the_time_limit_holds(data, make):
    began = time.perf_counter()
    with pytest.warns(ConvergenceWarning, match="time limit"):
        result = quick(*data, make(), epochs=10**6, time_limit=0.3)
    assert result.status == "time_limit"
    assert time.perf_counter() - began < 10
    assert np.isfinite(result.best_objective)


@each_trainer
def test_one_trainer_serves_one_run_after_another(data, make):
    trainer = make()
    first = quick(*data, trainer)
    assert quick(*data, trainer).network == first.network == quick(*data, make()).network


@each_trainer
def test_progress_is_reported(data, make):
    seen = []
    quick(*data, make(), callback=seen.append)
    assert [now.epoch for now in seen][:2] == [0, 10]
    assert seen[-1].epoch == 40


@each_trainer
@pytest.mark.parametrize("sizes", few([(1, 5), (1, 1), (50, 1)]))
def test_small_sizes_and_constant_data(data, make, sizes):
    n, m = sizes
    X, y = data
    for inputs, targets in ((X[:n], y[:n]), (np.ones((n, 2)), y[:n]), (X[:n], np.full(n, 3.0))):
        result = quick(inputs, targets, make(), hidden_units=m, epochs=20)
        assert np.isfinite(result.best_objective)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LipschitzTrainer(lam=-1), "lam must be"),
        (lambda: LipschitzTrainer(lam=np.nan), "lam must be"),
        (lambda: LipschitzTrainer(exact_every=0), "exact_every must be"),
        (lambda: LipschitzTrainer(power_steps=1.5), "power_steps must be"),
        (lambda: ADMMTrainer(lam="big"), "lam must be"),
        (lambda: ADMMTrainer(mode="quick"), "mode must be one of"),
        (lambda: ADMMTrainer(penalty=0.0), "penalty must be"),
        (lambda: ADMMTrainer(rounds=0), "rounds must be"),
        (lambda: ADMMTrainer(warm_up=1.0), "warm_up must be"),
        (lambda: AdversarialTrainer(radius=-0.1), "radius must be"),
        (lambda: AdversarialTrainer(norm=1), "norm must be"),
        (lambda: AdversarialTrainer(steps=0), "steps must be"),
        (lambda: AdversarialTrainer(step_size=0.0), "step_size must be"),
        (lambda: AdversarialTrainer(units="pixels"), "units must be"),
    ],
)
def test_bad_settings_are_sentences(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()


# -- as starts of the estimators --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("start", [pytest.param("adversarial", marks=pytest.mark.slow), "lipschitz", "admm"])
@pytest.mark.parametrize("regularizer", ["lipschitz", "l2"])
def test_starts_of_the_regressor(data, monkeypatch, start, regularizer):
    monkeypatch.setattr(starts, "pretrain", partial(pretrain, epochs=60))
    X, y = data[0][:25], data[1][:25]
    model = SafeSNNRegressor(6, start=start, regularizer=regularizer, lam=0.05, random_state=0).fit(X, y)
    assert model.objective_ <= model.start_objective_
    assert model.start_objective_ == pytest.approx(model.history_[0]["objective"])


@pytest.mark.slow
def test_a_trainer_may_be_the_start(data, monkeypatch):
    X, y = data
    monkeypatch.setattr(starts, "pretrain", partial(pretrain, epochs=250))
    model = SafeSNNRegressor(6, start=LipschitzTrainer(lam=0.3), lam=0.1, random_state=0)
    assert clone(model).fit(X, y).start_objective_ == model.fit(X, y).start_objective_
    named = SafeSNNRegressor(6, start="lipschitz", lam=0.1, random_state=0).fit(X, y)
    assert named.start_objective_ < model.start_objective_
    with pytest.raises(InvalidInputError, match="start must be one of .*'lipschitz'"):
        SafeSNNRegressor(6, start="lipshitz").fit(X, y)


@pytest.mark.slow
def test_a_lipschitz_start_minimizes_the_objective_of_the_fit(data, monkeypatch):
    X, y = data
    monkeypatch.setattr(starts, "pretrain", partial(pretrain, epochs=400))
    found = {
        start: SafeSNNRegressor(10, start=start, lam=0.1, random_state=0).fit(X, y).start_objective_
        for start in ("adam", "lipschitz")
    }
    assert found["lipschitz"] < found["adam"]
