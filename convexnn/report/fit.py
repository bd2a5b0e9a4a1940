"""What was found in a fit: stages, evidence that is recomputed now, and errors under attack on data that you give."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.robustness import RobustnessTable, robustness_table
from convexnn.decimals import DOWN, UP, written
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.pages.document import written as write_page
from convexnn.report.sheet import Cell, Sheet, to_text
from convexnn.report.stages import robustness_sheet
from convexnn.report.versions import versions_text
from convexnn.values import ByValue


@dataclass(frozen=True)
class Claim:
    """One line of evidence.

    Attributes
    ----------
    claim, number : str
        What holds, and the number in it.
    limit : str
        What it does not say.
    """

    claim: str
    number: str
    limit: str


@dataclass(frozen=True, eq=False)
class FitReport(ByValue):
    """A fitted estimator on one page.

    Attributes
    ----------
    name : str
        Class of the estimator.
    parameters : tuple of (str, str)
    stages : tuple of (str, float, float)
        Stage, training objective, seconds since the start; empty where the estimator keeps none.
    lower_bound : float
        Of the last convex program, ``-inf`` without one.
    claims : tuple of Claim
        Certificates are checked again when the report is made.
    robustness : RobustnessTable or None
        On the data given, where radii were.
    facts : tuple of (str, str)
    """

    name: str
    parameters: tuple[tuple[str, str], ...]
    stages: tuple[tuple[str, float, float], ...]
    lower_bound: float
    claims: tuple[Claim, ...]
    robustness: RobustnessTable | None = field(default=None, repr=False)
    facts: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def sheet(self) -> Sheet:
        """One line a claim."""
        rows: tuple[tuple[Cell, ...], ...] = tuple((c.claim, c.number, c.limit) for c in self.claims)
        return Sheet("Evidence", ("what holds", "number", "what it does not say"), rows)

    def __str__(self) -> str:
        """Plain text: the claims, then errors under attack."""
        text = f"{self.name}\n\n{to_text(self.sheet())}"
        return text if self.robustness is None else f"{text}\n\n{to_text(robustness_sheet(self.robustness))}"

    def to_html(self, path: str | os.PathLike[str], *, title: str = "") -> Path:
        """Write one self-contained HTML page and return its path; nothing is loaded, no script runs."""
        from convexnn.report.fit_page import page

        return write_page(page(self, title or self.name), path)


def fit_report(
    estimator: Any,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    radii: Sequence[float] = (),
    *,
    norm: str = "l2",
    random_state: Any = 0,
    **options: Any,
) -> FitReport:
    """Collect what a fit claims, check its certificates again, and attack it on the data given.

    Parameters
    ----------
    estimator : fitted estimator, or a pipeline of scalers and one
    X, y : array-like, optional
        Data the estimator has not seen, for the errors under attack; raw input units.
    radii : sequence of float
        Sizes of perturbations, in the units of ``X``.
    norm : {"l2", "linf"}
    random_state : int, Generator, RandomState or None
        Of the attacks.
    **options
        Of :func:`convexnn.robustness_table`.

    Returns
    -------
    FitReport

    Raises
    ------
    CertificateError
        When a certificate of the estimator does not hold.
    """
    last = estimator[-1] if hasattr(estimator, "named_steps") else estimator
    check_is_fitted(last)
    if (X is None) != (y is None) or (len(radii) > 0 and X is None):
        raise InvalidInputError("Errors under attack need X, y and radii; leave all three out for the fit alone.")
    name, solution = type(last).__name__, getattr(last, "solution_", None)
    table = None
    if X is not None and y is not None and len(radii):
        task = "classification" if is_classifier(last) else "regression"
        models = {name: estimator}
        table = robustness_table(models, X, y, radii, norm=norm, task=task, random_state=random_state, **options)
    return FitReport(
        name=name,
        parameters=tuple((key, _short(value)) for key, value in last.get_params(deep=False).items()),
        stages=tuple(_stages(getattr(last, "history_", ()))),
        lower_bound=-math.inf if solution is None else float(solution.lower_bound),
        claims=tuple(_claims(estimator, last)),
        robustness=table,
        facts=tuple(_facts(last, table)),
    )


def _stages(history: Iterable[Any]) -> Iterable[tuple[str, float, float]]:
    keys = {"stage", "objective", "seconds"}
    return ((str(row["stage"]), float(row["objective"]), float(row["seconds"])) for row in history if keys <= set(row))


def _claims(estimator: Any, last: Any) -> Iterable[Claim]:
    constrained = getattr(last, "constrained_", None)
    if constrained is not None:
        yield from _constrained_claims(last, constrained.lower_bound)
    elif hasattr(last, "start_objective_"):
        numbers = f"{last.start_objective_:.5g} to {last.objective_:.5g}"
        yield Claim("never worse than the start: training objective", numbers, "that the test error falls")
    yield from _program_claims(last)
    yield from _region_claims(last)
    yield from _lipschitz_claims(estimator, last)


def _constrained_claims(last: Any, lower: float) -> Iterable[Claim]:
    """What constraints promise in place of an objective below that of the start."""
    for item in last.guarantees_:
        bound = written(item.check(last.network_), 4, DOWN if item.relation == ">=" else UP)
        limit = "what rounding in the evaluation adds"
        yield Claim(f"checked again: {item.claim}; {item.quantity}", f"{item.relation} {bound}", limit)
    numbers = f"{last.objective_:.5g} >= {written(lower, 5, DOWN)}"
    claim = "training objective, and a lower bound of all networks on these cells with the constraints"
    yield Claim(claim, numbers, "anything about other cells, or that the test error falls")


def _program_claims(last: Any) -> Iterable[Claim]:
    solution = getattr(last, "solution_", None)
    if solution is None:
        return
    if hasattr(last, "patterns_"):  # programs of polynomial networks have none
        gap, limit = written(solution.gap, 2, UP), "anything about other activation patterns"
        yield Claim("optimal for these activation patterns, up to a relative gap of", gap, limit)
    if math.isfinite(solution.global_gap):
        gap = written(solution.global_gap, 2, UP)
        yield Claim("optimal among networks of every width, up to a relative gap of", gap, "anything about new data")
    violation = written(solution.violation, 2, UP)
    yield Claim("the convex program's constraints hold up to", violation, "anything about the network, which has none")


def _region_claims(last: Any) -> Iterable[Claim]:
    for k, certificate in enumerate(getattr(last, "region_certificates_", ())):
        bound = written(certificate.check(last.safe_network_), 4, UP)
        yield Claim(f"checked again: largest score on region {k + 1} at most", bound, "anything outside of the region")


def _lipschitz_claims(estimator: Any, last: Any) -> Iterable[Claim]:
    certificate = getattr(last, "lipschitz_", None)
    limit = "how small the true constant is"
    if certificate is not None:
        bound = written(certificate.check(last.network_), 4, UP)
        yield Claim("checked again: Lipschitz constant (l2) of the network at most", bound, limit)
    if estimator is not last:
        raw = _raw_network(estimator)
        if raw is not None:
            bound = written(lipschitz(raw).bound, 4, UP)
            yield Claim("the same in the units of the pipeline's inputs", bound, limit)


def _raw_network(estimator: Any) -> Network | None:
    try:
        return as_network(estimator)
    except UnsupportedModelError:
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__}(...)"


def _facts(last: Any, table: RobustnessTable | None) -> Iterable[tuple[str, str]]:
    network = getattr(last, "network_", None)
    if isinstance(network, Network):
        widths = " - ".join(str(len(W)) for W, _ in network.layers)
        yield "network", f"{network.n_inputs} - {widths}, SHA-256 {network.fingerprint()[:16]}"
    solution = getattr(last, "solution_", None)
    if solution is not None:
        yield "program", f"{solution.solver}, {solution.status}, {solution.iterations} iterations"
        yield from (("note", note) for note in solution.notes)
    if table is not None:
        yield "data under attack", f"{np.shape(table.clean)[-1]} rows"
    yield "versions", versions_text("convexnn", "numpy", "scipy", "scikit-learn")
