"""The cascade on samples: what is cheap first, on blocks of samples; then one sample after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks import FGSM, PGD, Attack
from convexnn.exceptions import CertificateError, InvalidInputError, SolverError, UnsupportedModelError
from convexnn.propagation import Certifier, Effort, Evidence, Query
from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds
from convexnn.threads import one_thread
from convexnn.verification.climbing import Climb
from convexnn.verification.plan import ATTACK, Options, Plan
from convexnn.verification.registry import METHODS, get_certifier
from convexnn.verification.rounding import margin_rounding
from convexnn.verification.sample import Sample
from convexnn.verification.task import Task, attacked

Array = NDArray[np.float64]

#: Of the short attack that runs before any bound is computed.
SHORT = PGD(10, 1)

#: A method that fails on a sample leaves it to the others; the bounds found before stay valid.
FAILURES = (
    SolverError, CertificateError, InvalidInputError, UnsupportedModelError, np.linalg.LinAlgError, ArithmeticError,
    MemoryError,
)  # fmt: skip

TIME_LIMIT, SAMPLE_LIMIT, INTERRUPTED = "time limit", "time limit of the sample", "interrupted"


def cheap_stages(task: Task, options: Options, plan: Plan, end: float) -> list[Sample]:
    """Samples of a block after the clean prediction, the short attack, cheap bounds and the strong attack.

    Parameters
    ----------
    task : Task
    options : Options
    plan : Plan
    end : float
        ``time.time()`` at which the whole run is over.
    """
    with one_thread():
        samples = _clean(task)
        for stage in _block_stages(task, samples, options, plan, end):
            if time.time() >= end:
                break
            stage()
    for sample in samples:
        sample.stopped = TIME_LIMIT if time.time() >= end and not sample.decided else sample.stopped
    return samples


def _block_stages(
    task: Task, samples: list[Sample], options: Options, plan: Plan, end: float
) -> list[Callable[[], None]]:
    def bound() -> None:
        for row, sample in enumerate(samples):
            _bound(Judge(task, row, sample, options, plan, end), plan.cheap)

    return [
        lambda: _attack(task, samples, FGSM(), options),
        lambda: _attack(task, samples, SHORT, options),
        bound,
        lambda: _attack(task, samples, plan.attack, options),
    ]


def heavy_stages(task: Task, sample: Sample, options: Options, plan: Plan, end: float) -> Sample:
    """One sample (the only one of ``task``) after everything that the plan holds, or that its time allows."""
    with one_thread():
        _bound(Judge(task, 0, sample, options, plan, end), plan.heavy)
    return sample


def _clean(task: Task) -> list[Sample]:
    began = time.monotonic()
    samples = [clean_sample(task.take([row])) for row in range(len(task))]
    for sample in samples:
        sample.spend("clean", (time.monotonic() - began) / len(samples))
    return samples


def clean_sample(task: Task) -> Sample:
    """The only sample of a task after its clean prediction, which breaks it where it is wrong and in its set."""
    value, rounding = float(task.margins(task.X)[0]), margin_rounding(task.query(0), task.X[0], task.threat)
    sample = Sample.start(int(task.index[0]), int(task.labels[0]), value, rounding)
    if task.threat.contains(task.X, task.X, 0.0)[0]:
        sample.take_point(value, task.X[0], "clean")
    return sample


def _attack(task: Task, samples: list[Sample], attack: Attack, options: Options) -> None:
    """Attack those that are not decided yet (all, where the best numbers are wanted), all at once."""
    rows = [row for row, sample in enumerate(samples) if not (sample.decided and options.early_stop)]
    if not rows:
        return
    began = time.monotonic()
    points, values = attacked(task.take(rows), attack)
    for row, point, value in zip(rows, points, values, strict=True):
        samples[row].take_point(value, point, attack.name)
        samples[row].spend("attack", (time.monotonic() - began) / len(rows))


def _bound(judge: Judge, names: tuple[str, ...]) -> None:
    """Run methods until the sample is decided, and attack from the points they hand over."""
    for name in names:
        if judge.finished() or judge.out_of_time():
            return
        if name not in judge.plan.instead or "sdp" not in judge.sample.names:
            judge.run(name)
    if not judge.sample.decided:
        judge.out_of_time()


class Judge:
    """One sample while methods run on it: its query, its deadline, the bounds of its layers once they are known."""

    def __init__(self, task: Task, row: int, sample: Sample, options: Options, plan: Plan, end: float) -> None:
        self.task, self.sample, self.options, self.plan = task.take([row]), sample, options, plan
        self.query = task.query(row)
        self.seed = task.sample_seed(row)
        now, left = time.monotonic(), options.sample_time_limit - sum(sample.seconds.values())
        self.total = now + (end - time.time())
        self.deadline = min(now + left, self.total)
        self.bounds: LayerBounds | None = None

    @property
    def rows(self) -> NDArray[np.intp]:
        """What is still to be bounded."""
        return self.sample.open_rows if self.options.early_stop else np.arange(self.query.n_rows)

    def out_of_time(self) -> bool:
        """Whether a limit has passed; the sample then says which."""
        if time.monotonic() < self.deadline:
            return False
        self.sample.stopped = TIME_LIMIT if self.deadline == self.total else SAMPLE_LIMIT
        return True

    def finished(self) -> bool:
        """Whether nothing is wanted any more."""
        return self.options.early_stop and self.sample.decided

    def run(self, name: str) -> None:
        """One stage on the open rows; what a method refuses or fails at is noted."""
        if name == ATTACK:
            self._attack(self.plan.strong)
            return
        certifier = get_certifier(name)
        query = self.query.rows(self.rows)
        refusal = certifier.refusal(query)
        if refusal is not None:
            self.sample.notes.append(f"{name}: {refusal}")
            return
        points: Array = np.empty((0, 0))
        with self._timed(name):
            try:
                points = self._propose(certifier, query)
            except FAILURES as error:
                self.sample.notes.append(f"{name} failed: {error}")
        if not self.sample.decided and len(points):
            self._attack(Climb(self.sample.label, points))

    def _propose(self, certifier: Certifier, query: Query) -> Array:
        """Bounds of one method, recomputed by its check; returns points worth an attack."""
        if self.bounds is None and certifier.name != "ibp":
            self.bounds = crown_bounds(self.query)
        evidence = certifier.propose(query, self._effort(), self.bounds)
        rows, sure = self.rows, METHODS[certifier.name].rigorous
        found = certifier.check(query, evidence.multiplier)
        part = (tuple(int(row) for row in rows), evidence) if self.options.keep_evidence else None
        self.sample.take_bounds(rows, np.asarray(found, dtype=float), certifier.name, True, part)
        if not sure:
            self._take_word(rows, evidence)
        return evidence.points

    def _take_word(self, rows: NDArray[np.intp], evidence: Evidence) -> None:
        """Bounds that a solver asserts and nobody can check."""
        word = np.asarray(evidence.details.get("solver_bound", ()), dtype=float)
        if word.shape == rows.shape:
            self.sample.take_bounds(rows, word, evidence.method, False, None)

    def _attack(self, attack: Attack) -> None:
        with self._timed(ATTACK):
            found, values = attacked(self.task, attack)
            self.sample.take_point(float(values[0]), found[0], attack.name)

    def _effort(self) -> Effort:
        target = self.sample.target if self.options.early_stop else None
        return Effort(tol=self.options.tol, stop_below=target, deadline=self.deadline, seed=self.seed)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.sample.spend(stage, time.monotonic() - began)
