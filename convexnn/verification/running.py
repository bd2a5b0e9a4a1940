"""The run over all samples: blocks, then single samples, on any backend of joblib, under one time limit."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convexnn.verification.cascade import INTERRUPTED, TIME_LIMIT, cheap_stages, clean_sample, heavy_stages
from convexnn.verification.plan import Options, Plan
from convexnn.verification.sample import Sample
from convexnn.verification.task import Task
from convexnn.verification.verdict import Verdict

#: Samples of a block; fixed, so that results depend neither on the number of jobs nor on where a run was resumed.
BLOCK = 32

#: Seconds without a time limit, and those that workers have to answer after one.
FOREVER, GRACE = 1e9, 5.0

#: What joblib raises when workers do not answer.
LATE = (TimeoutError, multiprocessing.TimeoutError)


@dataclass(frozen=True)
class Run:
    """How samples are gone through.

    Attributes
    ----------
    task : Task
        All samples.
    options : Options
    plan : Plan
    n_jobs : int or None
    end : float
        ``time.time()`` at which the run is over.
    drops_evidence : bool
        Whether verdicts lose their evidence once they were handed over, to a file.
    """

    task: Task
    options: Options
    plan: Plan
    n_jobs: int | None
    end: float
    drops_evidence: bool = False

    def verdicts(self, done: set[int], finished: Callable[[Verdict], None]) -> dict[int, Verdict]:
        """Verdicts of the samples that are not done, by index; ``finished`` hears of each that is final.

        An interrupt or the time limit leaves the others unknown, with what was found out about them.
        """
        blocks = [np.arange(start, min(start + BLOCK, len(self.task))) for start in range(0, len(self.task), BLOCK)]
        wanted = [rows for rows in blocks if set(rows.tolist()) - done]
        states: dict[int, Sample] = {}
        found: dict[int, Verdict] = {}
        stopped = ""
        try:
            for sample in self._samples(wanted, done, states):
                verdict = sample.verdict()
                found[sample.index] = replace(verdict, evidence=None) if self.drops_evidence else verdict
                if sample.stopped != TIME_LIMIT:
                    finished(verdict)
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        except LATE:
            stopped = TIME_LIMIT
        left = set(range(len(self.task))) - done - set(found)
        return found | {index: self._unfinished(index, states, stopped or TIME_LIMIT) for index in left}

    def _samples(self, blocks: list[Any], done: set[int], states: dict[int, Sample]) -> Iterator[Sample]:
        """Samples in the order in which they are finished."""
        calls = [(self.task.take(rows), self.options, self.plan, self.end) for rows in blocks]
        for block in _parallel(self.n_jobs, cheap_stages, calls, self.end):
            fresh = [sample for sample in block if sample.index not in done]
            states |= {sample.index: sample for sample in fresh}
            yield from (sample for sample in fresh if self._is_final(sample))
        left = [sample for _, sample in sorted(states.items()) if not self._is_final(sample)]
        heavy = [(self.task.take([s.index]), s, self.options, self.plan, self.end) for s in left]
        yield from _parallel(self.n_jobs, heavy_stages, heavy, self.end)

    def _is_final(self, sample: Sample) -> bool:
        return not self.plan.heavy or bool(sample.stopped) or (sample.decided and self.options.early_stop)

    def _unfinished(self, index: int, states: dict[int, Sample], reason: str) -> Verdict:
        sample = states[index] if index in states else clean_sample(self.task.take([index]))
        sample.stopped = reason
        return sample.verdict()


def _parallel(n_jobs: int | None, function: Callable[..., Any], calls: list[Any], end: float) -> Iterator[Any]:
    """Results as they come; a backend that cannot hand them over one by one hands them over at the end.

    Workers keep the time limit themselves; those that do not answer for a while after it are given up.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    left = end - time.time()
    waits = left < FOREVER / 2 and effective_n_jobs(n_jobs) > 1
    settings = {"n_jobs": n_jobs, "timeout": max(left, 0.0) + GRACE if waits else None}
    try:
        run = Parallel(return_as="generator_unordered", **settings)
    except ValueError:
        run = Parallel(**settings)
    results = run([delayed(function)(*call) for call in calls])
    try:
        yield from results
    finally:
        if hasattr(results, "close"):
            results.close()


def end_of(time_limit: float | None) -> float:
    """When a run that starts now is over, as ``time.time()``, which workers on other machines have as well."""
    return time.time() + (FOREVER if time_limit is None else time_limit)
