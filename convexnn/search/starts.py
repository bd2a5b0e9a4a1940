"""Several searches: the given network, and disturbed copies of it, run side by side through joblib."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed

from convexnn.network import Network
from convexnn.search.descent import descend, disturbed
from convexnn.search.engine import Search
from convexnn.search.task import SearchPoint, SearchTask

#: Relative size of the disturbance of a further start, and steps of the descent that follows it.
DISTURBANCE, STEPS = 0.5, 300


@dataclass(frozen=True, eq=False)
class _Job:
    """All that a worker needs; the clock is started where it runs."""

    task: SearchTask
    network: Network
    value: float
    origin: Network
    number: int
    seed: np.random.SeedSequence

    def run(self, seconds: float, point: SearchPoint | None = None) -> Search:
        """Search from the network itself (number 0) or from a disturbed copy of it."""
        task = replace(self.task, deadline=time.perf_counter() + seconds)
        rng = np.random.default_rng(self.seed)
        if not self.number:
            return Search(task, self.network, self.value, point=point, origin=self.origin).run(rng)
        try:
            network = descend(task, disturbed(task, self.origin, DISTURBANCE, rng), STEPS)
        except KeyboardInterrupt:
            return Search(task, self.network, self.value, self.number, status="interrupted")
        return Search(task, network, task.objective(network), self.number).run(rng)


def run_all(
    task: SearchTask, network: Network, value: float, point: SearchPoint | None, origin: Network
) -> list[Search]:
    """All searches of the options, in their order; fewer after an interrupt or when the time is over.

    Every search has a seed of its own, drawn before any begins, so the number of jobs changes nothing.
    """
    seeds = _seed_sequence(task.options.random_state).spawn(task.options.n_starts)
    jobs = [_Job(task, network, value, origin, number, seed) for number, seed in enumerate(seeds)]
    done: list[Search] = []
    try:
        for search in _searches(jobs, task, point):
            done.append(search)
            if search.status == "interrupted":
                break
    except KeyboardInterrupt:
        done = done or [Search(task, network, value, point=point, status="interrupted")]
    return done


def _searches(jobs: list[_Job], task: SearchTask, point: SearchPoint | None) -> Iterator[Search]:
    """One after the other, or side by side; the first starts at the point. Each has its share of the time."""
    if len(jobs) > 1 and task.options.n_jobs not in (None, 1):
        left = task.deadline - time.perf_counter()
        calls = (delayed(job.run)(left, None if job.number else point) for job in jobs)
        yield from Parallel(n_jobs=task.options.n_jobs)(calls)
        return
    for job in jobs:
        left = task.deadline - time.perf_counter()
        if job.number and left <= 0:
            return
        yield job.run(left / (len(jobs) - job.number), None if job.number else point)


def _seed_sequence(random_state: object) -> np.random.SeedSequence:
    if isinstance(random_state, np.random.SeedSequence):
        # a fresh one: spawning counts up the one that was given
        return np.random.SeedSequence(random_state.entropy, spawn_key=random_state.spawn_key)
    return np.random.SeedSequence(random_state)  # type: ignore[arg-type]
