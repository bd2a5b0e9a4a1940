"""SDP-FO as published: the package jax_verify 1.0, run by another interpreter; questions in, bounds and seconds out.

    python published_sdp_fo.py < questions.json > answers.json

jax_verify was written for releases of jax that are gone. An environment that holds it (Python 3.11):

    pip install "jax==0.4.13" "jaxlib==0.4.13" "numpy<2" "scipy<1.12" "ml_dtypes<0.3" "dm-haiku==0.0.10" \
        "optax==0.1.7" "chex==0.1.82" "dm-tree==0.1.8" "cvxpy==1.3.2"
    pip install --no-deps jax_verify==1.0

:func:`old_names` puts back what jax has moved since. Everything else is the package: single precision, its Adam in
three stages, its way to compile a question. Every step takes the exact smallest eigenvalue, so every step is a bound,
and the smallest is the answer. The step sizes are those of the other peer, ``sdp_fo``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

import numpy as np

#: Flags that keep XLA to one thread.
FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def old_names() -> None:
    """Names of jax that jax_verify uses, and a gradient that is stopped before the eigenvalues instead of behind them.

    The package takes no gradient of eigenvectors, but the present jax goes through the decomposition with zeros, which
    gives nan where eigenvalues meet, as they do at the start.
    """
    import jax
    from jax_verify.src.sdp_verify import eigenvector_utils

    jax.tree_multimap = jax.tree_map
    jax.ops.index_update = lambda array, place, value: array.at[place].set(value)
    decomposed = eigenvector_utils.safe_eigh
    eigenvector_utils.safe_eigh = lambda matrix, *rest: decomposed(jax.lax.stop_gradient(matrix), *rest)


def instance(question: dict[str, Any]) -> Any:
    """The question as the package takes it: bounds of all layers, and the Lagrangian of network and objective."""
    import jax.numpy as jnp
    from jax_verify import sdp_verify
    from jax_verify.src.sdp_verify import utils

    def box(low: list[float], high: list[float]) -> Any:
        return utils.IntBound(np.array(low, np.float32)[None], np.array(high, np.float32)[None], None, None)

    bounds = [box(low, high) for low, high in question["boxes"]]
    params = [(np.array(W, np.float32).T, np.array(b, np.float32)) for W, b in question["layers"]]
    goal, constant = np.array(question["goal"], np.float32)[None], question["constant"]

    def lagrangian(duals: Any) -> Any:
        return utils.make_relu_network_lagrangian(duals, params, bounds, lambda x: jnp.sum(goal * x) + constant)

    shapes, types = utils.get_dual_shapes_and_types(bounds)
    return sdp_verify.SdpDualVerifInstance(
        bounds=bounds, make_inner_lagrangian=lagrangian, dual_shapes=shapes, dual_types=types
    )


def solved(question: dict[str, Any], setting: dict[str, Any], steps: int) -> dict[str, float]:
    """Bound, CPU and wall seconds of one call."""
    from jax_verify import sdp_verify

    problem = instance(question)
    place, size = len(problem.dual_shapes) - 1, int(problem.dual_shapes[-1][1])
    kappa = np.ones((1, size), np.float32)
    kappa[0, 0] = setting["kappa"]
    began, clock = time.process_time(), time.monotonic()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # a line a step
        final, info = sdp_verify.solve_sdp_dual(
            problem,
            num_steps=steps,
            lr_init=setting["rate"],
            steps_per_anneal=setting["stages"],
            num_anneals=len(setting["stages"]),
            anneal_factor=setting["shrink"],
            eval_every=steps,
            use_exact_eig_train=True,
            opt_multiplier_fn=lambda path: kappa if path[0] == place else 1.0,
        )
    bound = min(final, float(min(info["loss_log"])))
    return {
        "bound": bound if np.isfinite(bound) else float("inf"),
        "cpu": time.process_time() - began,
        "wall": time.monotonic() - clock,
    }


def main() -> None:
    """Answer all questions; *compile* is a call with one step, which compiles what the others do."""
    os.environ["XLA_FLAGS"], os.environ["JAX_PLATFORMS"] = FLAGS, "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    asked = json.load(sys.stdin)
    old_names()
    questions, setting = asked["questions"], asked["setting"]
    solved(questions[0], setting, 1)  # what a process does once
    answers = []
    for question in questions:
        compiled = solved(question, setting, 1)
        answer = solved(question, setting, sum(setting["stages"]))
        answers.append(answer | {"compile_cpu": compiled["cpu"], "compile_wall": compiled["wall"]})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
