"""Run pyscnn's augmented Lagrangian on one l2 program and write down its iterates; needs pyscnn and numpy only.

Runs in pyscnn's own environment, started by ``training.py --pyscnn-python PATH``::

    python pyscnn_worker.py problem.npz trace.npz SECONDS unitize|raw float64|float32

``problem.npz`` holds X (n, d), y (n,), gates W (p, d) and b (p,), lam and the output bias c. ``trace.npz`` gets
weights (k, 2, p, d + 1), positive and negative part of every gate, the gates in pyscnn's order (p, d + 1), and for each
of the k iterates the CPU and wall seconds since the start, without the time for copying, and the peak memory.

pyscnn minimizes ``1/(2 n) |f - y|^2 + lam sum (|u_i| + |w_i|)`` without output bias, half of
``1/n |f + c - y|^2 + 2 lam sum |u_i|`` for y reduced by c: with the optimal c the two programs are one.
With unitized columns, all of norm r, it sees r u instead of u, so lam is divided by r.
"""

import contextlib
import resource
import sys
import time

import numpy as np


class OutOfTime(Exception):
    """Raised out of the inner loop."""


class Trace:
    """Copies of the iterates at times that grow by a tenth, and the time that does not count."""

    def __init__(self, limit):
        self.limit, self.rows, self.weights, self.next = limit, [], [], 0.0
        self.cpu, self.wall, self.idle_cpu, self.idle_wall = time.process_time(), time.perf_counter(), 0.0, 0.0

    def __call__(self, model, *_data):
        """Take note of the model after a proximal gradient step; pyscnn's callback."""
        cpu, wall = time.process_time(), time.perf_counter()
        spent = cpu - self.cpu - self.idle_cpu
        if spent >= self.next:
            self.next = 1.1 * spent + 0.01
            self.weights.append(np.array(model.weights, dtype=float)[:, 0])
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            self.rows.append((spent, wall - self.wall - self.idle_wall, memory))
            self.idle_cpu += time.process_time() - cpu
            self.idle_wall += time.perf_counter() - wall
        if spent > self.limit:
            raise OutOfTime
        return model


def run(problem, limit, unitize, dtype):
    """Iterates of pyscnn on the problem."""
    from scnn.metrics import Metrics
    from scnn.models import ConvexReLU
    from scnn.private.interface import (
        build_internal_model,
        build_metrics_tuple,
        build_optimizer,
        get_logger,
        process_data,
        set_device,
    )
    from scnn.regularizers import NeuronGL1
    from scnn.solvers import AL

    trace = Trace(limit)
    X, y = problem["X"], problem["y"] - problem["c"]
    norms = np.sqrt((np.hstack([X, np.ones((len(X), 1))]) ** 2).sum(axis=0)) if unitize else np.ones(X.shape[1] + 1)
    if np.ptp(norms) > 1e-9 * norms.max():
        raise SystemExit("unitized columns are the same program only when all columns have one norm")
    model = ConvexReLU(problem["W"].T.copy(), 1, True, problem["b"].copy())
    set_device("cpu", dtype, 0)
    train, test, _ = process_data(X, y, None, None, unitize, True)
    regularizer = NeuronGL1(float(problem["lam"]) / norms[0])
    internal = build_internal_model(model, regularizer, train[0])
    solver = AL(model, max_primal_iters=10**7, max_dual_iters=10**6)
    metrics = Metrics(metric_freq=10**6, objective=False, grad_norm=False, time=False)
    procedure = build_optimizer(solver, regularizer, metrics)
    procedure.metric_freq = 10**9
    procedure.outer_term_criterion.obj_tol = procedure.outer_term_criterion.constraint_tol = 0.0  # until time is up
    with contextlib.suppress(OutOfTime):
        procedure(
            get_logger("scnn", False, False, None),
            internal,
            lambda start: start,
            train,
            test,
            build_metrics_tuple(metrics),
            callback=trace,
        )
    gates = np.array(internal.U, dtype=float).T
    return np.array(trace.weights) / norms[0], gates, np.array(trace.rows)


def main():
    """Read, run, write."""
    source, target, seconds, columns, dtype = sys.argv[1:]
    with np.load(source) as file:
        problem = dict(file)
    weights, gates, rows = run(problem, float(seconds), columns == "unitize", dtype)
    np.savez(target, weights=weights, gates=gates, cpu=rows[:, 0], wall=rows[:, 1], memory=rows[:, 2])


if __name__ == "__main__":
    main()
