"""From a session to a result: checkpoints, progress, interrupts, and the recomputed evidence."""

from __future__ import annotations

import dataclasses
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from convexnn.network import Network
from convexnn.training.base import TrainingResult
from convexnn.training.checkpoint import load_checkpoint, save_checkpoint
from convexnn.training.loop import Session
from convexnn.training.problem import TrainingProblem
from convexnn.training.progress import reporting

SMALL_STEP = 3e6


def run_session(session: Session) -> None:
    """Carry a session out: resume, report, call back, save; an interrupt ends it with the best weights kept."""
    options = session.options
    path = options.checkpoint
    if path is not None:
        load_checkpoint(session, path)
        session.on_epoch.append(
            lambda: save_checkpoint(session, path) if session.epoch % options.checkpoint_every == 0 else None
        )
    if options.callback is not None:
        session.on_evaluation.append(options.callback)
    label = session.trainer.name
    with _few_threads(session), reporting(options.verbose, options.epochs, label) as report:
        session.on_evaluation.append(report)
        try:
            session.trainer.run(session)
            if path is not None:
                save_checkpoint(session, path)
        except KeyboardInterrupt:
            session.status = "interrupted"


def _few_threads(session: Session) -> AbstractContextManager[Any]:
    """One OpenMP thread for small steps, whose work is less than the cost of waiting for a second thread.

    The number of OpenMP threads belongs to the calling thread; other threads keep theirs, and it is restored.
    """
    multiplications = session.batch_size * sum(W.numel() for W, _ in session.layers)
    if session.problem.device != "cpu" or multiplications > SMALL_STEP:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")  # type: ignore[no-any-return, unused-ignore]


def collect(session: Session, start: Network | None) -> TrainingResult:
    """Turn a session into its result: everything shown is recomputed from the returned network's weights."""
    problem, best_epoch = session.problem, session.best[2]
    session.parameters.write(session.best[1])
    network = start if start is not None and best_epoch == 0 else problem.network(session.layers)
    objective = _objective(session, network)
    if start is not None and best_epoch and problem.held_out is None:
        # float32 steps and the folding round; what is promised is judged on the returned weights
        before = _objective(session, start)
        network, objective = (start, before) if before < objective else (network, objective)
    status = session.status or ("diverged" if session.divergences and best_epoch == 0 else "finished")
    _warn(session, status)
    data_loss = _in_double(problem, network, lambda exact, layers: float(exact.data_loss(layers, exact.all_rows)))
    return TrainingResult(
        network,
        tuple(session.history),
        objective,
        data_loss,
        session.epoch,
        session.seconds,
        status,
        session.trainer.name,
    )


def _objective(session: Session, network: Network) -> float:
    return _in_double(session.problem, network, session.trainer.evaluate)


def _in_double(problem: TrainingProblem, network: Network, quantity: Any) -> float:
    """Recompute a quantity from a network's own weights in float64 on the CPU, raw units of the loss."""
    import torch

    exact = problem
    if (problem.device, problem.dtype) != ("cpu", "float64"):
        exact = dataclasses.replace(problem, device="cpu", dtype="float64")
    with torch.no_grad():
        return float(quantity(exact, exact.layers(network))) * problem.loss_unit


def _warn(session: Session, status: str) -> None:
    done = f"after {session.epoch} of {session.options.epochs} epochs; the best network so far is returned."
    rate, lowered = session.base_rate, session.base_rate * session.rate_factor
    messages = {
        "time_limit": f"Training stopped at the time limit of {session.options.time_limit} s {done}",
        "interrupted": f"Training was interrupted {done}",
        "diverged": f"Training diverged and never improved on its start, which comes back; lower the rate {rate:g}.",
    }
    if status in messages:
        warnings.warn(messages[status], ConvergenceWarning, stacklevel=4)
    elif session.divergences:
        warnings.warn(
            f"Training diverged {session.divergences} time(s) and went on from the best network with the learning "
            f"rate lowered to {lowered:.3g}; lower learning_rate ({rate:g}).",
            ConvergenceWarning,
            stacklevel=4,
        )
