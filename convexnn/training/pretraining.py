"""``pretrain``: from data to a trained Network, by any trainer of the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.activations import Activation, get_activation
from convexnn.exceptions import InvalidInputError
from convexnn.losses import Loss
from convexnn.network import Network, as_network
from convexnn.training.base import Trainer, TrainingResult
from convexnn.training.data import Rows, canonical_rows
from convexnn.training.loop import Session
from convexnn.training.optimizers import Layers
from convexnn.training.options import TrainingOptions, build_options
from convexnn.training.problem import Scaling, TrainingProblem
from convexnn.training.registry import get_trainer
from convexnn.training.running import collect, run_session
from convexnn.training.starting import initial_layers, resolve_device
from convexnn.training.torch_losses import loss_name


def pretrain(
    X: ArrayLike,
    y: ArrayLike,
    *,
    hidden_units: int | tuple[int, ...] = 100,
    method: str | Trainer = "adam",
    loss: str | Loss = "squared",
    activation: str | Activation = "relu",
    sample_weight: ArrayLike | None = None,
    validation: Any = None,
    start: Any = None,
    random_state: Any = None,
    options: TrainingOptions | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a network by gradient steps: ``min mean loss(f(x_i), y_i) + weight_decay R(std) + lam R(raw)``.

    ``R`` is the sum of squared weights and hidden biases; ``weight_decay`` counts it in standardized units,
    ``lam`` in the raw units of the data (api of the estimators). Inputs (and the targets of the squared loss) are
    standardized inside and the scaling is folded back exactly, so the units of the columns do not matter.
    Equal rows are merged with their weights: repetition equals weight, and the order of rows is immaterial.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,) or (n, k)
        Numbers for the squared loss; 0 / 1 or -1 / +1 for "hinge", "squared_hinge" and "logistic" (columns are
        separate outputs); class indices 0..k-1 for "cross_entropy" and "multi_margin".
    hidden_units : int or tuple of int, default=100
        Units of the hidden layer, or of each hidden layer. Ignored when ``start`` is given.
    method : str or Trainer, default="adam"
        A name in ``TRAINERS`` or a configured trainer.
    loss : str or Loss, default="squared"
        One of those named above.
    activation : str or Activation, default="relu"
        Ignored when ``start`` is given.
    sample_weight : array-like, shape (n,), optional
        Nonnegative; the mean loss is the weighted mean.
    validation : float, or (X, y) or (X, y, sample_weight), optional
        Held-out rows that judge the networks instead of the training objective; a float in (0, 1) holds out
        that part of the distinct rows.
    start : Network, torch module, fitted sklearn MLP or fitted estimator, optional
        Network to continue from. Judged by the training objective, the result is never worse than it.
    random_state : int, Generator, RandomState or None
        The global random state is never touched.
    options : TrainingOptions, optional
    **settings
        Fields of :class:`TrainingOptions` (epochs, learning_rate, weight_decay, patience, time_limit, ...).

    Returns
    -------
    TrainingResult

    Raises
    ------
    InvalidInputError
        For unusable data, labels that do not fit the loss, unknown settings, an absent device.

    Warns
    -----
    ConvergenceWarning
        When the run was interrupted, ran out of time or diverged; the best network so far comes back.
    """
    trainer = get_trainer(method)
    chosen = trainer.adapt(build_options(options, **settings))
    if chosen.checkpoint is not None and not isinstance(random_state, (int, np.integer)):
        raise InvalidInputError("A checkpoint needs an integer random_state; otherwise the run cannot be continued.")
    rng = np.random.default_rng(_seed(random_state))
    network = None if start is None else as_network(start)
    problem = _problem(
        X, y, sample_weight, validation, loss_name(loss), get_activation(activation), network, chosen, rng
    )
    trainer.prepare(problem)
    layers = _starting_layers(problem, network, hidden_units, rng)
    origin = "" if network is None else network.fingerprint()
    session = Session(problem, trainer, chosen, layers, int(rng.integers(2**31)), origin)
    run_session(session)
    return collect(session, network)


def _problem(
    X: Any,
    y: Any,
    sample_weight: Any,
    validation: Any,
    loss: str,
    activation: Activation,
    start: Network | None,
    options: TrainingOptions,
    rng: np.random.Generator,
) -> TrainingProblem:
    n_outputs = start.n_outputs if start is not None and start.n_outputs > 1 else 0
    rows = canonical_rows(X, y, sample_weight, loss=loss, n_outputs=n_outputs)
    if start is not None and (start.n_inputs, start.n_outputs) != (rows.X.shape[1], rows.n_outputs):
        raise InvalidInputError(
            f"start maps {start.n_inputs} inputs to {start.n_outputs} output(s); the data have "
            f"{rows.X.shape[1]} columns and need {rows.n_outputs} output(s)."
        )
    rows, held_out = _hold_out(rows, validation, loss, rng)
    device = resolve_device(options.device)
    dtype = options.dtype if options.dtype != "auto" else "float64" if device == "cpu" else "float32"
    kind = activation if start is None else start.activation
    scaling = Scaling.of(rows, loss)
    return TrainingProblem(rows, held_out, loss, kind, scaling, device, dtype, options.weight_decay, options.lam)


def _hold_out(rows: Rows, validation: Any, loss: str, rng: np.random.Generator) -> tuple[Rows, Rows | None]:
    if validation is None:
        return rows, None
    if isinstance(validation, (tuple, list)):
        if len(validation) not in (2, 3):
            raise InvalidInputError(f"validation must be (X, y) or (X, y, sample_weight), got {len(validation)} parts.")
        held_out = canonical_rows(*validation, loss=loss, n_outputs=rows.n_outputs)
        if (held_out.X.shape[1], held_out.n_outputs) != (rows.X.shape[1], rows.n_outputs):
            raise InvalidInputError(
                f"The validation rows have {held_out.X.shape[1]} columns and {held_out.n_outputs} output(s); "
                f"the training rows have {rows.X.shape[1]} and {rows.n_outputs}."
            )
        return rows, held_out
    if isinstance(validation, bool) or not isinstance(validation, (float, np.floating)) or not 0 < validation < 1:
        raise InvalidInputError(f"validation must be None, a fraction in (0, 1) or a tuple (X, y), got {validation!r}.")
    return rows.split(float(validation), rng)


def _starting_layers(
    problem: TrainingProblem, start: Network | None, hidden_units: Any, rng: np.random.Generator
) -> Layers:
    if start is not None:
        return problem.layers(start)
    hidden = hidden_units if isinstance(hidden_units, (tuple, list)) else (hidden_units,)
    if not hidden or not all(isinstance(h, (int, np.integer)) and not isinstance(h, bool) and h > 0 for h in hidden):
        raise InvalidInputError(f"hidden_units must be a positive integer or a tuple of them, got {hidden_units!r}.")
    rows = problem.rows
    constant = np.ptp(rows.X, axis=0) == 0
    arrays = initial_layers(rows.X.shape[1], tuple(int(h) for h in hidden), rows.n_outputs, rng, constant)
    return [(problem.tensor(W), problem.tensor(b)) for W, b in arrays]


def _seed(random_state: Any) -> int:
    if isinstance(random_state, bool):
        raise InvalidInputError("random_state must be None, an integer, a Generator or a RandomState, got a bool.")
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return int(random_state)
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    raise InvalidInputError(
        f"random_state must be None, an integer >= 0, a Generator or a RandomState, got {random_state!r}."
    )
