"""From a refined network to the global optimum of training, or as near as time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from convexnn.certificates.lipschitz import lipschitz
from convexnn.estimators.starts import Condensed
from convexnn.exceptions import InvalidInputError
from convexnn.global_gap.l2 import train_global
from convexnn.global_gap.lipschitz import train_global_lipschitz
from convexnn.global_gap.result import GlobalResult
from convexnn.inputs import as_number
from convexnn.program import global_gap_of, with_global_bound
from convexnn.refinement import Refinement, RefineOptions, TrainingObjective

SCOPES = ("patterns", "global")

TRAINERS: dict[str, Callable[..., GlobalResult]] = {
    "l2": train_global,
    "gated": train_global,
    "lipschitz": train_global_lipschitz,
}


@dataclass(frozen=True)
class GlobalStage:
    """A refinement carried on by column generation.

    Attributes
    ----------
    refinement : Refinement
        Never worse than the one that came in; its solution says its scope and its global gap.
    bound : float
        Lower bound on the objective of every network with one hidden layer; ``-inf`` when it was not asked for.
    gap : float
        Relative gap between the objective and that bound.
    """

    refinement: Refinement
    bound: float = -math.inf
    gap: float = math.inf


def require_scope(scope: str, tol: float) -> None:
    """Raise before any work when the options of the global stage cannot be meant."""
    if scope not in SCOPES:
        raise InvalidInputError(f"scope must be one of {SCOPES}, got {scope!r}.")
    if not (math.isfinite(as_number(tol, "global_tol")) and tol > 0):
        raise InvalidInputError(f"global_tol must be positive and finite, got {tol!r}.")


def train_on(result: Refinement, data: Condensed, options: RefineOptions, tol: float, seed: int) -> GlobalStage:
    """Column generation from the refined network; kept where it is better.

    Parameters
    ----------
    result : Refinement
    data : Condensed
    options : RefineOptions
        With what is left of the time limit.
    tol : float
        Relative global gap at which to stop.
    seed : int
    """
    began = time.perf_counter()
    found = TRAINERS[options.regularizer](
        data.X,
        data.y,
        options.lam,
        start=result.network,
        tol=tol,
        time_limit=options.time_limit,
        random_state=seed,
        sample_weight=data.weight,
    )
    objective = TrainingObjective(data.X, data.y, data.weight, options.regularizer, options.lam)
    scale = float(data.weight @ (data.y - data.weight @ data.y / data.weight.sum()) ** 2 / data.weight.sum())
    after = objective(found.network)
    better = after < result.after
    network, value = (found.network, after) if better else (result.network, result.after)
    programs = [(each.solution, each.patterns) for each in (found, result) if each.solution is not None]
    solution, patterns = min(programs, key=lambda pair: pair[0].objective, default=(None, result.patterns))
    if solution is not None:
        solution = with_global_bound(solution, found.lower_bound, scale=scale, tol=tol)
    row = {"stage": "global", "objective": value, "seconds": time.perf_counter() - began}
    row["seconds"] += result.history[-1]["seconds"]
    refined = Refinement(
        model=network,
        network=network,
        before=result.before,
        after=value,
        solution=solution,
        certificate=lipschitz(network) if better else result.certificate,
        patterns=patterns,
        history=[*result.history, row],
        status="improved" if better else result.status,
    )
    return GlobalStage(refined, found.lower_bound, global_gap_of(value, found.lower_bound, scale))
