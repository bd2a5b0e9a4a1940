"""refine(): same type out as in, never worse, whatever comes in."""

import copy
import time
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InvalidInputError, SolverError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.refinement import TrainingObjective, refine
from convexnn.training import LipschitzTrainer

REGULARIZERS = ["lipschitz", "l2"]


def problem(rng, n=40, d=3, m=8):
    X = rng.standard_normal((n, d))
    y = np.sin(X[:, 0]) + 0.3 * X[:, 1] ** 2
    network = Network.shallow(
        rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal(m) / m, rng.standard_normal()
    )
    return X, y, network


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("lam", [1e-4, 1e-1])
def test_a_network_gets_better_and_the_numbers_are_its_own(rng, regularizer, lam):
    X, y, network = problem(rng)
    result = refine(network, X, y, regularizer=regularizer, lam=lam)
    objective = TrainingObjective(X, y, None, regularizer, lam)
    assert result.status == "improved"
    assert result.after < result.before
    assert objective(network) == result.before
    assert objective(result.model) == result.after
    assert result.solution.gap <= 1e-6
    assert result.solution.lower_bound <= result.solution.objective
    assert result.after <= result.solution.objective * (1 + 1e-9)
    assert result.certificate.check(result.network) > 0
    assert [row["objective"] for row in result.history] == sorted(
        (row["objective"] for row in result.history), reverse=True
    )


def test_l2_objective_is_the_stated_sum(rng):
    X, y, network = problem(rng)
    stated = np.mean((network(X) - y) ** 2) + 0.1 * (np.sum(network.W**2) + np.sum(network.b**2) + np.sum(network.v**2))
    assert refine(network, X, y, regularizer="l2", lam=0.1).before == pytest.approx(stated, rel=1e-12)


def test_lipschitz_objective_is_the_stated_sum(rng):
    X, y, network = problem(rng)
    stated = np.mean((network(X) - y) ** 2) + 0.1 * lipschitz(network).bound ** 2
    assert refine(network, X, y, lam=0.1).before == pytest.approx(stated, rel=1e-9)


def test_joint_is_at_most_alternating_is_at_most_start(rng):
    X, y, network = problem(rng)
    joint = refine(network, X, y, lam=1e-2)
    alternating = refine(network, X, y, lam=1e-2, method="alternating")
    assert joint.after <= alternating.after * (1 + 1e-6)
    assert alternating.after <= alternating.before == joint.before


def test_refining_twice_changes_nothing_that_matters(rng):
    X, y, network = problem(rng)
    once = refine(network, X, y, regularizer="l2", lam=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an optimal start may come back unchanged
        twice = refine(once.model, X, y, regularizer="l2", lam=1e-2)
    assert once.after * (1 - 1e-4) <= twice.after <= once.after


def test_weights_equal_repetitions(rng):
    X, y, network = problem(rng, n=20)
    weight = rng.integers(0, 3, 20).astype(float)
    repeated = np.repeat(np.arange(20), weight.astype(int))
    weighted = refine(network, X, y, sample_weight=weight)
    plain = refine(network, X[repeated], y[repeated])
    assert weighted.before == pytest.approx(plain.before, rel=1e-10)
    assert weighted.after == pytest.approx(plain.after, rel=1e-5)


@pytest.mark.slow
def test_pattern_search_never_hurts(rng):
    X, y, network = problem(rng)
    plain = refine(network, X, y, lam=1e-3)
    searched = refine(network, X, y, lam=1e-3, pattern_search=3)
    assert searched.after <= plain.after


@pytest.mark.slow
@pytest.mark.parametrize("start", ["lipschitz", "adam", LipschitzTrainer(lam=1e-2)], ids=str)
def test_training_further_first(rng, start):
    X, y, network = problem(rng)
    plain = refine(network, X, y)
    result = refine(network, X, y, start=start)
    stages = [row["stage"] for row in result.history]
    assert stages == ["start", start if isinstance(start, str) else "lipschitz", "joint"]
    values = [row["objective"] for row in result.history]
    assert values == sorted(values, reverse=True)
    assert result.before == plain.before
    assert result.after < plain.before
    if start != "adam":  # descends the objective itself, and so reaches better patterns here
        assert result.after < plain.after
    with pytest.raises(InvalidInputError, match="lbfgs"):
        refine(network, X, y, start="lbfgs")


def torch_model(dtype="float32", body=False):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    generator = torch.Generator().manual_seed(0)
    layers = (
        [nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)]
        if body
        else [nn.Linear(3, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 1)]
    )
    model = nn.Sequential(*layers).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_torch_module_comes_back_as_one(rng, dtype):
    import torch

    X, y, _ = problem(rng)
    model = torch_model(dtype)
    model.train()
    original = copy.deepcopy(model.state_dict())
    result = refine(model, X, y, lam=1e-2)
    assert type(result.model) is torch.nn.Sequential
    assert result.model is not model
    assert [type(layer) for layer in result.model] == [type(layer) for layer in model]
    assert next(result.model.parameters()).dtype == getattr(torch, dtype)
    assert all(torch.equal(model.state_dict()[key], original[key]) for key in original)
    objective = TrainingObjective(X, y, None, "lipschitz", 1e-2)
    assert objective(as_network(result.model)) == result.after < result.before
    assert result.certificate.check(as_network(result.model)) == pytest.approx(result.certificate.bound)


def test_last_two_layers_of_a_deeper_torch_module(rng):
    import torch

    X, y, _ = problem(rng)
    model = torch_model(body=True)
    model.train()
    with pytest.raises(UnsupportedModelError, match="'0'.*Linear.*last2"):
        refine(model, X, y)
    result = refine(model, X, y, layers="last2", lam=1e-3)
    assert model[0].training, "the caller's flags must be restored"
    assert torch.equal(result.model[0].weight, model[0].weight)
    assert not torch.equal(result.model[2].weight, model[2].weight)
    assert result.after < result.before
    with torch.no_grad():
        outputs = result.model.eval()(torch.as_tensor(X, dtype=torch.float32))[:, 0].numpy()
    loss = np.mean((outputs - y) ** 2)
    assert loss + 1e-3 * result.certificate.bound**2 == pytest.approx(result.after, rel=1e-4)


def test_last_two_layers_behind_a_convolution(rng):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1))
    X, y, _ = problem(rng)
    result = refine(model, X[:, None, :], y, layers="last2")
    assert result.after <= result.before
    with pytest.raises(UnsupportedModelError, match="Conv1d"):
        refine(model, X[:, None, :], y)


def test_deep_network_last_two(rng):
    X, y, _ = problem(rng)
    deep = Network(
        tuple((rng.standard_normal(s) / 2, rng.standard_normal(s[0])) for s in [(5, 3), (6, 5), (1, 6)]), "relu"
    )
    result = refine(deep, X, y, layers="last2", lam=1e-3)
    assert isinstance(result.model, Network)
    assert result.model.n_hidden == (5, 6)
    assert np.mean((result.model(X) - y) ** 2) + 1e-3 * result.certificate.bound**2 == pytest.approx(result.after)


def test_sklearn_mlp_in_and_out(rng):
    from sklearn.neural_network import MLPRegressor

    X, y, _ = problem(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = MLPRegressor(hidden_layer_sizes=(10,), max_iter=30, random_state=0).fit(X, y)
    before = mlp.predict(X)
    result = refine(mlp, X, y, lam=1e-3)
    assert type(result.model) is MLPRegressor
    assert result.after < result.before
    np.testing.assert_array_equal(mlp.predict(X), before)
    loss = np.mean((result.model.predict(X) - y) ** 2)
    assert loss + 1e-3 * result.certificate.bound**2 == pytest.approx(result.after)


def test_unsupported_layers_are_named(rng):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    X, y, _ = problem(rng)
    cases = {
        "BatchNorm1d": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1)),
        "Softmax": nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1), nn.Softmax(dim=1)),
        "tanh": nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
        "no bias": nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 1)),
        "2": nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
        "LSTM": nn.LSTM(3, 4),
    }
    for word, model in cases.items():
        with pytest.raises(UnsupportedModelError, match=word):
            refine(model, X, y)
    with pytest.raises(UnsupportedModelError, match="str"):
        refine("model", X, y)


def test_bad_arguments_are_sentences(rng):
    X, y, network = problem(rng)
    for arguments, word in [
        ({"regularizer": "l1"}, "regularizer"),
        ({"method": "magic"}, "method"),
        ({"lam": -1.0}, "lam"),
        ({"lam": np.nan}, "lam"),
        ({"solver": "cplex"}, "cplex"),
        ({"layers": "first"}, "layers"),
        ({"sample_weight": np.zeros(len(y))}, "sample_weight"),
        ({"regularizer": "gated"}, "gated"),
    ]:
        with pytest.raises(InvalidInputError, match=word):
            refine(network, X, y, **arguments)
    for bad_y in (y[:-1], np.full_like(y, np.nan), np.column_stack([y, y])):
        with pytest.raises(InvalidInputError, match="y"):
            refine(network, X, bad_y)
    with pytest.raises(InvalidInputError):
        refine(network, np.where(X > 1, np.inf, X), y)
    with pytest.raises(InvalidInputError):
        refine(network, X[:, :2], y)


def test_unlicensed_mosek_is_said_before_any_work(rng):
    from convexnn.solvers import available_solvers

    if available_solvers()["mosek"].usable:
        pytest.skip("MOSEK is licensed here")
    X, y, network = problem(rng)
    with pytest.raises(SolverError, match=r"(?i)mosek"):
        refine(network, X, y, solver="mosek")


def test_a_failing_solve_returns_the_start_with_a_warning(rng, monkeypatch):
    X, y, network = problem(rng)

    def broken(*args, **kwargs):
        raise SolverError("out of luck")

    monkeypatch.setattr("convexnn.refinement.stages.solve", broken)
    with pytest.warns(ConvergenceWarning) as record:
        result = refine(network, X, y)
    assert any("out of luck" in str(warning.message) for warning in record)
    assert result.model is network
    assert result.after == result.before
    assert result.solution is None
    assert result.status == "unchanged"


@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_a_solve_that_is_cut_short_is_said_although_it_helped(rng, method):
    X, y, network = problem(rng)
    with pytest.warns(ConvergenceWarning, match="stopped by max_iter at a gap of"):
        result = refine(network, X, y, method=method, max_iter=6)
    assert result.after < result.before
    assert result.solution.iterations <= 6
    assert result.solution.status == "max_iter"


def test_the_alternation_gets_what_training_left_of_the_time(rng, monkeypatch):
    from convexnn.refinement import stages

    X, y, network = problem(rng)
    limits = []
    original = stages.alternating_minimization

    def spy(*args, **options):
        limits.append(options["time_limit"])
        return original(*args, **options)

    monkeypatch.setattr(stages, "alternating_minimization", spy)
    monkeypatch.setattr(stages, "train_further", lambda *_: time.sleep(0.2))
    refine(network, X, y, method="alternating", start="adam", time_limit=60)
    assert len(limits) == 1
    assert limits[0] <= 60 - 0.2


def test_a_solver_that_lies_cannot_make_it_worse(rng, monkeypatch):
    from dataclasses import replace

    import convexnn.refinement.stages as module

    X, y, network = problem(rng)
    honest = module.solve

    def liar(program, **options):
        solution = honest(program, **options)
        return replace(solution, z=solution.z * -50.0, objective=0.0, gap=0.0)

    monkeypatch.setattr(module, "solve", liar)
    with pytest.warns(ConvergenceWarning, match="unchanged"):
        result = refine(network, X, y)
    assert result.model is network
    assert result.after == result.before


def test_interrupt_keeps_the_start(rng, monkeypatch):
    X, y, network = problem(rng)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("convexnn.refinement.stages.solve", interrupted)
    with pytest.warns(ConvergenceWarning):
        assert refine(network, X, y).model is network


def test_an_interrupted_solve_is_the_last(rng, monkeypatch):
    from dataclasses import replace

    import convexnn.refinement.stages as module

    X, y, network = problem(rng)
    honest, calls = module.solve, []

    def interrupted(program, **options):
        calls.append(program.name)
        return replace(honest(program, **options), status="interrupted")

    monkeypatch.setattr(module, "solve", interrupted)
    with pytest.warns(ConvergenceWarning):
        result = refine(network, X, y, lam=1e-3, pattern_search=5)
    assert len(calls) == 1
    assert result.after < result.before  # what the cut solve found is kept


def test_time_limit_never_worse(rng):
    X, y, network = problem(rng, n=150, d=5, m=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = refine(network, X, y, time_limit=1e-3)
    assert result.after <= result.before


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_corners(rng, regularizer):
    network = Network.shallow(rng.standard_normal((1, 2)), [0.1], [0.7], 0.3)
    X = rng.standard_normal((1, 2))
    cases = [
        (network, X, np.array([2.0])),  # one unit, one sample
        (Network.shallow(rng.standard_normal((9, 2)), np.zeros(9), rng.standard_normal(9)), X, np.array([1.0])),
        (network, rng.standard_normal((12, 2)), np.full(12, 3.0)),  # constant target
        (Network.shallow(np.zeros((3, 2)), np.zeros(3), np.zeros(3), 1.0), rng.standard_normal((9, 2)), np.arange(9.0)),
        (network, np.ones((5, 2)), np.arange(5.0)),  # constant columns
        (network, rng.standard_normal((12, 2)) * [1e-6, 1e6], np.arange(12.0) * 1e4),
    ]
    for net, inputs, targets in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = refine(net, inputs, targets, regularizer=regularizer)
        assert np.isfinite(result.after)
        assert result.after <= result.before
    # with constant targets the best network is the constant: objective zero
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constant = refine(network, rng.standard_normal((12, 2)), np.full(12, 3.0), regularizer=regularizer)
    assert constant.after <= 1e-5 * constant.before
