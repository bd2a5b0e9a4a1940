"""Pretraining: the objective is what it says, symmetries hold, and nothing that goes wrong loses the best network."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from convexnn.activations import ACTIVATIONS
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.losses import LOSSES
from convexnn.network import Network
from convexnn.training import TRAINERS, Trainer, TrainingOptions, get_trainer, pretrain
from convexnn.training.data import canonical_rows, weighted_scale
from convexnn.training.optimizers import OPTIMIZERS, FlatParameters
from convexnn.training.problem import Scaling, TrainingProblem, sum_of_squares
from convexnn.training.starting import initial_layers
from convexnn.training.torch_losses import TORCH_LOSSES, torch_activation

METHODS = sorted(TRAINERS)
PLAIN = ("adam", "sgd")  # trainers whose objective is loss plus sum of squares


@pytest.fixture
def data(rng):
    X = rng.standard_normal((60, 3))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] ** 2


def quick(X, y, **settings):
    return pretrain(X, y, **({"hidden_units": 8, "epochs": 60, "random_state": 0} | settings))


def problem_of(X, y, *, loss="squared", weight=None, **settings):
    rows = canonical_rows(X, y, weight, loss=loss)
    kind = ACTIVATIONS["relu"]()
    return TrainingProblem(rows, None, loss, kind, Scaling.of(rows, loss), "cpu", "float64", **settings)


# -- what is minimized ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", PLAIN)
def test_objective_is_recomputed_from_the_network(data, rng, method):
    X, y = data
    w = rng.integers(1, 5, len(X))
    result = quick(X * [1, 30, 0.01], 5 * y + 100, method=method, lam=1e-3, sample_weight=w)
    net = result.network
    loss = np.average((net(X * [1, 30, 0.01]) - 5 * y - 100) ** 2, weights=w)
    penalty = np.sum(net.W**2) + np.sum(net.b**2) + np.sum(net.v**2)
    assert result.loss == pytest.approx(loss, rel=1e-9)
    assert result.best_objective == pytest.approx(loss + 1e-3 * penalty, rel=1e-9)
    assert result.best_objective == pytest.approx(min(entry["objective"] for entry in result.history), rel=1e-9)


def test_weight_decay_counts_standardized_weights(data):
    X, y = data
    result = quick(X, y, weight_decay=1e-2)
    again = quick(1e4 * X - 3, 1e3 * y + 7, weight_decay=1e-2)
    # standardized problems are equal, so objectives scale with y^2 and predictions with y
    assert again.best_objective == pytest.approx(1e6 * result.best_objective, rel=1e-6)
    np.testing.assert_allclose(again.network(1e4 * X - 3), 1e3 * result.network(X) + 7, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("power", [-30, 30])
def test_units_of_the_columns_do_not_matter(data, power):
    X, y = data
    scale = np.array([1.0, 2.0**power, 1.0])
    np.testing.assert_allclose(quick(X * scale, y).network(X * scale), quick(X, y).network(X), rtol=1e-9, atol=1e-12)


def test_linear_network_reaches_least_squares(data):
    X, y = data
    A = np.hstack([X, np.ones((len(X), 1))])
    residual = y - A @ np.linalg.lstsq(A, y, rcond=None)[0]
    result = quick(X, y, activation="identity", epochs=800)
    assert np.mean(residual**2) <= result.best_objective + 1e-12
    assert result.best_objective == pytest.approx(np.mean(residual**2), rel=1e-6)


@pytest.mark.parametrize("penalty", ["lam", "weight_decay"])
def test_huge_penalty_gives_the_mean(data, penalty):
    X, y = data
    result = quick(X, y, epochs=600, **{penalty: 1e3})
    # every weight must vanish; the free output bias leaves the variance of y
    assert result.loss == pytest.approx(y.var(), rel=1e-4)
    np.testing.assert_allclose(result.network(X), y.mean(), atol=1e-2)


def test_more_training_helps_and_history_shows_it(data):
    X, y = data
    result = quick(X, y, hidden_units=50, epochs=800)
    objectives = [entry["objective"] for entry in result.history]
    assert result.status == "finished"
    assert result.epochs == 800
    assert result.best_objective < 0.01 * objectives[0]
    assert [entry["epoch"] for entry in result.history] == list(range(0, 801, 10))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_torch_losses_are_the_numpy_losses(rng, name):
    k = 4 if name == "multi_margin" else 1
    f = rng.standard_normal((30, k)) * 3
    y = rng.integers(0, k, 30).astype(float) if k > 1 else rng.choice([-1.0, 1.0], 30)
    tensor = torch.tensor(f, requires_grad=True)
    values = TORCH_LOSSES[name](tensor, torch.tensor(y[:, None]))
    values.sum().backward()
    twin, flat = LOSSES[name](), f if k > 1 else f[:, 0]
    np.testing.assert_allclose(values.detach(), twin.value(flat, y), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(tensor.grad.numpy().reshape(flat.shape), twin.gradient(flat, y), rtol=1e-10, atol=1e-14)


def test_cross_entropy_of_known_scores():
    # two classes, scores (log 3, 0): probabilities 3/4 and 1/4
    f, y = torch.tensor([[np.log(3.0), 0.0]] * 2), torch.tensor([[0.0], [1.0]])
    np.testing.assert_allclose(TORCH_LOSSES["cross_entropy"](f, y), -np.log([0.75, 0.25]), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_torch_activations_are_the_numpy_activations(rng, name):
    z = rng.standard_normal(50)
    activation = ACTIVATIONS[name]()
    np.testing.assert_allclose(torch_activation(activation)(torch.tensor(z)), activation(z), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic", "hinge"])
@pytest.mark.parametrize("labels", [(0, 1), (-1, 1)])
def test_binary_losses_separate_two_moons_of_points(rng, loss, labels):
    X = rng.standard_normal((80, 2))
    inside = (X**2).sum(axis=1) < 1
    result = quick(X, np.where(inside, labels[1], labels[0]), loss=loss, hidden_units=30, epochs=400)
    assert np.mean((result.network(X) > 0) == inside) > 0.95


@pytest.mark.parametrize("loss", ["cross_entropy", "multi_margin"])
def test_class_losses_learn_three_classes(rng, loss):
    centres = np.array([[0, 2], [2, -1], [-2, -1]])
    y = rng.integers(0, 3, 90)
    X = centres[y] + 0.3 * rng.standard_normal((90, 2))
    net = quick(X, y, loss=loss, epochs=150).network
    assert net.n_outputs == 3
    assert np.mean(net(X).argmax(axis=1) == y) > 0.97


def test_vector_targets_and_depth(data):
    X, y = data
    Y = np.column_stack([y, 1e3 * X[:, 0]])
    result = quick(X, Y, hidden_units=(16, 8), activation="tanh", epochs=300)
    net = result.network
    assert (net.n_hidden, net.n_outputs, net.activation.name) == ((16, 8), 2, "tanh")
    assert result.loss == pytest.approx(np.mean(((net(X) - Y) ** 2).sum(axis=1)), rel=1e-9)
    assert result.loss < 0.1 * ((Y - Y.mean(axis=0)) ** 2).sum(axis=1).mean()


@pytest.mark.parametrize(("name", "twin"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_optimizers_are_the_torch_optimizers(data, rng, name, twin):
    problem = problem_of(*data)
    layers = problem.layers(Network.shallow(rng.standard_normal((4, 3)), np.zeros(4), np.ones(4)))
    flat = FlatParameters(layers)
    ours = OPTIMIZERS[name](flat, 0.9)
    leaves = [part.clone().requires_grad_(True) for pair in layers for part in pair]
    theirs = twin(leaves, lr=0.05, **({"momentum": 0.9} if name == "sgd" else {}))
    for _ in range(30):
        flat.gradient.zero_()
        problem.data_loss(flat.layers, problem.all_rows).backward()
        ours.step(0.05)
        theirs.zero_grad()
        problem.data_loss([tuple(leaves[:2]), tuple(leaves[2:])], problem.all_rows).backward()
        theirs.step()
    expected = torch.cat([leaf.detach().reshape(-1) for leaf in leaves])
    torch.testing.assert_close(flat.read(), expected, rtol=1e-12, atol=1e-12)


def test_initial_weights_keep_the_second_moment(rng):
    # for ReLU: E z_{l+1}^2 = E z_l^2 when weights have variance 2 / fan-in (biases set aside)
    layers = initial_layers(50, (4000, 4000), 1, rng, np.zeros(50, dtype=bool))
    z = rng.standard_normal((20, 50)) @ layers[0][0].T
    after = np.maximum(z, 0) @ layers[1][0].T
    assert np.mean(z**2) == pytest.approx(2, rel=0.15)
    assert np.mean(after**2) == pytest.approx(np.mean(z**2), rel=0.1)


# -- symmetries -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch_size", ["auto", 16])
def test_weights_are_repetitions_and_order_is_immaterial(data, rng, method, batch_size):
    X, y = data
    counts = rng.integers(0, 4, len(X))
    settings = {"method": method, "batch_size": batch_size, "epochs": 20}
    weighted = quick(X, y, sample_weight=counts, **settings)
    repeated = rng.permutation(np.repeat(np.arange(len(X)), counts))
    assert quick(X[repeated], y[repeated], **settings).network == weighted.network


def test_rows_of_weight_zero_are_not_seen(data):
    X, y = data
    weight = np.ones(len(X))
    weight[:5] = 0
    spoiled = np.array(y)
    spoiled[:5] = 1e9
    assert quick(X, spoiled, sample_weight=weight).network == quick(X[5:], y[5:]).network


@pytest.mark.parametrize("method", METHODS)
def test_seed_decides_and_no_global_state_is_touched(data, method):
    X, y = data
    before = (np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist(), torch.get_num_threads())
    settings = {"method": method, "batch_size": 16, "epochs": 8}
    first = quick(X, y, **settings, random_state=3)
    after = (np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist(), torch.get_num_threads())
    assert before == after
    assert torch.get_default_dtype() == torch.float32
    assert quick(X, y, **settings, random_state=3).network == first.network
    assert quick(X, y, **settings, random_state=4).network != first.network


@pytest.mark.parametrize(
    "make", [lambda: None, lambda: np.random.default_rng(0), lambda: np.random.RandomState(0), lambda: np.int64(5)]
)
def test_every_kind_of_random_state(data, make):
    assert quick(*data, random_state=make(), epochs=2).network.n_inputs == 3


def test_steps_of_one_epoch_average_to_the_full_loss(data, rng):
    X, y = data
    problem = problem_of(X, y, weight=rng.random(len(X)))
    layers = problem.layers(Network.shallow(rng.standard_normal((4, 3)), np.zeros(4), np.ones(4)))
    parts = list(problem.batches(16, seed=0, epoch=0))
    sizes = np.array([len(part.X) for part in parts])
    losses = np.array([float(problem.data_loss(layers, part)) for part in parts])
    assert sizes.tolist() == [16, 16, 16, 12]
    assert losses @ sizes / sizes.sum() == pytest.approx(float(problem.data_loss(layers, problem.all_rows)))


def test_folding_is_exact_in_both_directions(data, rng):
    X, y = data
    problem = problem_of(1e3 * X + 50, 20 * y - 4, lam=1.0)
    net = Network.shallow(rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal(4), 2.0)
    layers = problem.layers(net)
    back = problem.network(layers)
    for (W, b), (W0, b0) in zip(back.layers, net.layers, strict=True):
        np.testing.assert_allclose(W, W0, rtol=1e-12)
        np.testing.assert_allclose(b, b0, rtol=1e-9)
    predicted = problem.forward(layers, problem.all_rows.X).numpy()[:, 0]
    np.testing.assert_allclose(
        predicted * problem.scaling.target_scale + problem.scaling.target_mean, net(problem.rows.X)
    )
    R = np.sum(net.W**2) + np.sum(net.b**2) + np.sum(net.v**2)
    assert float(problem.penalty(layers)) * problem.loss_unit == pytest.approx(R, rel=1e-9)


def test_scale_of_hard_columns():
    values = np.column_stack([np.full(4, 7.1), [0, 0, 1e-60, 1e-60], [1e90, -1e90, 1e90, -1e90], 1e9 + np.arange(4.0)])
    mean, scale = weighted_scale(values, np.full(4, 0.25))
    np.testing.assert_allclose(mean, [7.1, 5e-61, 0, 1e9 + 1.5], atol=1e-80)
    np.testing.assert_allclose(scale, [1, 5e-61, 1e90, np.sqrt(1.25)])


# -- starts and corners -----------------------------------------------------------------------------------------------


def test_constant_column_is_ignored(data):
    X, y = data
    net = quick(np.hstack([X, np.full((60, 1), 1e9)]), y).network
    assert np.all(net.W[:, 3] == 0)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 20), (3, 50), (60, 1)])
def test_small_sizes(data, n, m):
    X, y = data
    result = quick(X[:n], y[:n], hidden_units=m)
    assert np.isfinite(result.best_objective)
    assert result.best_objective <= y[:n].var() * 5 + 1e-2


def test_constant_target_is_met(data):
    X, _ = data
    result = quick(X, np.full(60, -4.0), epochs=400)
    assert result.best_objective < 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rate", [1e-9, 1e-2, 1e6])
@pytest.mark.filterwarnings("ignore:Training diverged")
@pytest.mark.slow
def test_never_worse_than_the_start(data, method, rate):
    X, y = data
    start = quick(X, y, epochs=40)
    again = quick(X, y, start=start.network, method=method, learning_rate=rate, epochs=25)
    # the first evaluation judges the start by the trainer's own objective
    assert again.best_objective <= again.history[0]["objective"] * (1 + 1e-9)
    if method in PLAIN:
        assert again.best_objective <= start.best_objective
        assert np.mean((again.network(X) - y) ** 2) <= np.mean((start.network(X) - y) ** 2) * (1 + 1e-12)


def test_start_in_every_form(data):
    X, y = data
    net = quick(X, y).network
    for start in (net, net.to_torch()):
        result = pretrain(X, y, start=start, epochs=5, random_state=0)
        assert result.network.n_hidden == (8,)
    with pytest.raises(InvalidInputError, match="maps 3 inputs"):
        pretrain(X[:, :2], y, start=net)
    with pytest.raises(UnsupportedModelError, match="Expected a Network"):
        pretrain(X, y, start="net")


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_interrupt_keeps_the_best_network(data):
    X, y = data

    def interrupt(now):
        if now.epoch == 30:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted after 30 of 60"):
        result = quick(X, y, callback=interrupt)
    assert (result.status, result.epochs) == ("interrupted", 30)
    assert np.mean((result.network(X) - y) ** 2) == pytest.approx(min(e["objective"] for e in result.history))
    assert result.best_objective < result.history[0]["objective"]


def test_interrupt_at_once_returns_the_start(data):
    X, y = data
    start = quick(X, y).network

    def interrupt(now):
        raise KeyboardInterrupt(now)

    with pytest.warns(ConvergenceWarning, match="interrupted after 0"):
        assert pretrain(X, y, start=start, callback=interrupt).network is start


def test_time_limit(data):
    with pytest.warns(ConvergenceWarning, match="time limit of 0.05 s"):
        result = quick(*data, epochs=10**6, time_limit=0.05)
    assert result.status == "time_limit"
    assert result.seconds < 5
    assert result.best_objective < result.history[0]["objective"]


def test_callback_stops(data):
    result = quick(*data, callback=lambda now: now.epoch >= 20)
    assert (result.status, result.epochs) == ("stopped", 20)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_divergence_lowers_the_rate_and_goes_on(data, method):
    X, y = data
    with pytest.warns(ConvergenceWarning, match="lower the rate|went on from the best network"):
        result = quick(X, y, method=method, learning_rate=1e6, epochs=200, schedule="constant")
    assert np.isfinite(result.best_objective)
    assert result.best_objective < result.history[0]["objective"]


def test_hopeless_divergence_returns_the_start(data):
    X, y = data
    start = quick(X, y, epochs=300).network
    with pytest.warns(ConvergenceWarning, match="never improved on its start"):
        result = pretrain(X, y, start=start, learning_rate=1e6, epochs=10)
    assert result.status == "diverged"
    assert result.network is start


def test_validation_judges_and_stops_early(data, rng):
    X, y = data
    noisy = y + rng.standard_normal(len(y))
    result = quick(X[:30], noisy[:30], validation=(X[30:], y[30:]), hidden_units=50, epochs=3000, patience=100)
    held_out = [entry["validation_loss"] for entry in result.history]
    assert result.status == "early_stopped"
    assert result.epochs < 3000
    assert np.mean((result.network(X[30:]) - y[30:]) ** 2) == pytest.approx(min(held_out), rel=1e-9)


def test_validation_fraction_keeps_repetitions_together(data):
    X, y = data
    rows = canonical_rows(np.vstack([X, X]), np.concatenate([y, y]))
    kept, held_out = rows.split(0.25, np.random.default_rng(0))
    assert (len(kept), len(held_out)) == (45, 15)
    assert kept.weight.sum() == pytest.approx(1)
    assert not {row.tobytes() for row in kept.X} & {row.tobytes() for row in held_out.X}
    assert np.isfinite(quick(X, y, validation=0.25).history[-1]["validation_loss"])


def test_patience_without_validation(data):
    result = quick(*data, learning_rate=1e-12, schedule="constant", patience=20, epochs=500)
    assert (result.status, result.epochs) == ("early_stopped", 20)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_the_uncut_run(data, tmp_path, method):
    X, y = data
    path = tmp_path / "run.npz"
    settings = {"method": method, "batch_size": 16, "epochs": 40}
    cut = quick(X, y, checkpoint=path, callback=lambda now: now.epoch >= 20, **settings)
    assert cut.status == "stopped"
    resumed = quick(X, y, checkpoint=path, **settings)
    whole = quick(X, y, **settings)
    assert resumed.network == whole.network
    assert [e["objective"] for e in resumed.history] == [e["objective"] for e in whole.history]
    assert not list(tmp_path.glob("*.part"))


def test_interrupt_leaves_the_last_checkpoint(data, tmp_path):
    X, y = data
    path = tmp_path / "run.npz"

    def interrupt(now):
        if now.epoch == 50:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted"):
        quick(X, y, checkpoint=path, checkpoint_every=20, callback=interrupt)
    resumed = quick(X, y, checkpoint=path, checkpoint_every=20)
    assert resumed.network == quick(X, y).network


def test_checkpoints_of_other_runs_are_refused(data, tmp_path):
    X, y = data
    path = tmp_path / "run.npz"
    quick(X, y, checkpoint=path)
    for changed in ({"random_state": 1}, {"hidden_units": 9}, {"lam": 0.1}, {"method": "sgd"}):
        with pytest.raises(InvalidInputError, match="a run with other data"):
            quick(X, y, checkpoint=path, **changed)
    with pytest.raises(InvalidInputError, match="a run with other data"):
        quick(X, y + 1e-9, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InvalidInputError, match="not a readable"):
        quick(X, y, checkpoint=path)
    with pytest.raises(InvalidInputError, match="integer random_state"):
        quick(X, y, checkpoint=path, random_state=None)


def test_a_checkpoint_belongs_to_its_start(data, tmp_path):
    X, y = data
    path = tmp_path / "run.npz"
    first, other = (quick(X, y, epochs=5, random_state=seed).network for seed in (1, 2))
    cut = quick(X, y, start=first, checkpoint=path, callback=lambda now: now.epoch >= 30)
    assert cut.status == "stopped"
    with pytest.raises(InvalidInputError, match="or start"):
        quick(X, y, start=other, checkpoint=path)
    assert quick(X, y, start=first, checkpoint=path).network == quick(X, y, start=first).network


def test_a_missing_checkpoint_folder_is_said_before_the_work(data, tmp_path):
    epochs = []
    with pytest.raises(InvalidInputError, match="does not exist"):
        quick(*data, checkpoint=tmp_path / "none" / "run.npz", callback=lambda now: epochs.append(now.epoch))
    assert not epochs


# -- what a user can get wrong ----------------------------------------------------------------------------------------


def spoil(X, y, what):
    X, y = np.array(X), np.array(y)
    if what == "nan X":
        X[0, 0] = np.nan
    elif what == "inf y":
        y[0] = np.inf
    elif what == "huge X":
        X[0, 0] = 1e200
    elif what == "short y":
        y = y[:-1]
    elif what == "flat X":
        X = X[:, 0]
    elif what == "empty":
        X, y = X[:0], y[:0]
    elif what == "no columns":
        X = X[:, :0]
    elif what == "words":
        X = X.astype(str)
        X[0, 0] = "a"
    return X, y


@pytest.mark.parametrize("what", ["nan X", "inf y", "huge X", "short y", "flat X", "empty", "no columns", "words"])
def test_bad_rows_are_refused(data, what):
    with pytest.raises(InvalidInputError, match=r"X|y"):
        quick(*spoil(*data, what))


@pytest.mark.parametrize("weight", [np.ones(59), -np.ones(60), np.zeros(60), np.full(60, np.nan)])
def test_bad_weights_are_refused(data, weight):
    with pytest.raises(InvalidInputError, match="sample_weight"):
        quick(*data, sample_weight=weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lbfgs"}, "Unknown training method 'lbfgs'"),
        ({"loss": "absolute"}, "Unknown loss 'absolute'"),
        ({"activation": "gelu"}, "Unknown activation"),
        ({"hidden_units": 0}, "hidden_units must be"),
        ({"hidden_units": ()}, "hidden_units must be"),
        ({"hidden_units": (4, 2.5)}, "hidden_units must be"),
        ({"momentun": 0.5}, "Unknown training setting 'momentun'"),
        ({"epochs": 0}, "epochs must be a positive integer"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"learning_rate": np.nan}, "learning_rate must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"weight_decay": -0.1}, "weight_decay must be"),
        ({"lam": np.inf}, "lam must be"),
        ({"patience": 0}, "patience must be"),
        ({"time_limit": -1}, "time_limit must be"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"callback": 3}, "callback must be"),
        ({"options": {"epochs": 3}}, "options must be a TrainingOptions"),
        ({"device": "abacus"}, "Unknown device 'abacus'"),
        ({"device": "meta"}, "not supported"),
        ({"validation": 1.5}, "fraction in"),
        ({"validation": (1, 2, 3, 4)}, "validation must be"),
        ({"validation": ([[1.0]], [1.0])}, "validation rows have 1 columns"),
        ({"random_state": -1}, "random_state must be"),
        ({"random_state": True}, "random_state must be"),
        ({"loss": "logistic"}, "needs labels 0 / 1"),
        ({"loss": "cross_entropy"}, "needs class indices"),
    ],
)
def test_bad_settings_are_sentences(data, settings, message):
    with pytest.raises(InvalidInputError, match=message):
        quick(*data, **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_absent_cuda_is_said(data, device):
    with pytest.raises(InvalidInputError, match="use device='cpu'"):
        quick(*data, device=device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("dtype", ["auto", "float64"])
def test_cuda_trains(data, dtype):
    X, y = data
    result = quick(X, y, device="cuda", dtype=dtype, epochs=300)
    assert result.best_objective < 0.2 * y.var()
    assert result.network.W.dtype == np.float64


def test_float32_is_judged_in_float64(data):
    X, y = data
    result = quick(X, y, dtype="float32")
    assert result.best_objective == pytest.approx(np.mean((result.network(X) - y) ** 2), rel=1e-12)


def test_one_row_cannot_be_split():
    with pytest.raises(InvalidInputError, match="two distinct rows"):
        quick([[1.0], [1.0]], [2.0, 2.0], validation=0.5)


def test_options_value_and_settings_agree(data):
    X, y = data
    options = TrainingOptions(epochs=40, learning_rate=0.02)
    by_value = pretrain(X, y, hidden_units=8, random_state=0, options=options)
    assert by_value.network == pretrain(X, y, hidden_units=8, random_state=0, epochs=40, learning_rate=0.02).network
    assert pretrain(X, y, hidden_units=8, options=options, epochs=3).epochs == 3


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_schedules_fall(schedule):
    options = TrainingOptions(epochs=100, schedule=schedule)
    rates = [options.rate(epoch, 0.5) for epoch in range(100)]
    assert rates[0] == 0.5
    assert np.all(np.diff(rates) <= 0)
    assert min(rates) > 0


# -- progress ---------------------------------------------------------------------------------------------------------


def test_silence_and_progress(data, capsys):
    quick(*data)
    assert capsys.readouterr() == ("", "")
    quick(*data, verbose=2)
    assert "adam" in capsys.readouterr().out


def test_log_records_without_rich(data, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "rich", None)
    with caplog.at_level(logging.INFO, logger="convexnn"):
        quick(*data, verbose=1, validation=0.2)
    assert len(caplog.records) == 7
    assert "validation" in caplog.text


# -- one more trainer is one class ------------------------------------------------------------------------------------


class NoisyInputs(Trainer):
    """Trains on inputs moved along the sign of the loss gradient."""

    name = "noisy"

    def objective(self, problem, layers, batch):
        with torch.enable_grad():
            X = batch.X.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(problem.data_loss(layers, batch._replace(X=X)), X)
        moved = batch._replace(X=batch.X + 0.1 * slope.sign())
        return problem.data_loss(layers, moved) + problem.penalty(layers)


class Rounds(Trainer):
    """Outer rounds with a memory: proximal steps around an anchor."""

    name = "rounds"

    def prepare(self, problem):
        self.anchor = problem.layers(Network.shallow(np.zeros((8, 3)), np.zeros(8), np.zeros(8)))

    def run(self, session):
        while session.epoch < session.options.epochs and session.status is None:
            self.anchor = [(W.detach().clone(), b.detach().clone()) for W, b in session.layers]
            session.descend(20, self.proximal)

    def proximal(self, problem, layers, batch):
        gap = [(W - W0, b - b0) for (W, b), (W0, b0) in zip(layers, self.anchor, strict=True)]
        return self.objective(problem, layers, batch) + 0.1 * sum_of_squares(gap)


@pytest.mark.parametrize("trainer", [NoisyInputs(), Rounds()], ids=lambda t: t.name)
def test_a_trainer_needs_only_its_objective_or_its_rounds(data, trainer):
    X, y = data
    result = quick(X, y, method=trainer, epochs=200)
    assert result.method == trainer.name
    assert result.epochs == 200
    assert result.best_objective < 0.3 * result.history[0]["objective"]
    assert get_trainer(trainer) is trainer


def test_perturbed_inputs_cost_more_than_clean_ones(data):
    X, y = data
    result = quick(X, y, method=NoisyInputs())
    assert result.best_objective >= result.loss
