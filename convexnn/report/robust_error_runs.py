"""From models and samples to a report of robust errors: one certification run for every model, radius and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks import attack
from convexnn.attacks.registry import as_seed
from convexnn.exceptions import InvalidInputError
from convexnn.report.robust_error import RobustErrorReport
from convexnn.report.versions import versions_text
from convexnn.threats import L2Ball, LInfBall
from convexnn.verification import CertificationReport, CertifyOptions, certify

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

BALLS: dict[str, type[L2Ball] | type[LInfBall]] = {"l2": L2Ball, "linf": LInfBall}
#: An attack may exceed a bound by this, relative to its size, through rounding in float64.
ROUNDING = 1e-9


def robust_error_report(
    models: Any,
    X: ArrayLike,
    y: ArrayLike,
    radii: Sequence[float],
    *,
    norm: str = "linf",
    clip: Any = None,
    methods: Sequence[str] = ("crown", "sdp"),
    options: CertifyOptions | None = None,
    random_state: Any = 0,
    **settings: Any,
) -> RobustErrorReport:
    """Attack and certify models at several radii by several methods.

    Parameters
    ----------
    models : mapping of str to model, or one model
        Classifiers, as in :func:`convexnn.certify`.
    X : array-like, shape (n, d)
        Raw input units.
    y : array-like, shape (n,)
        Labels.
    radii : sequence of float
        Nonnegative, raw input units.
    norm : {"linf", "l2"}
    clip : pair of float or array, optional
        Data range that perturbed inputs keep.
    methods : sequence of str
        Names of :func:`convexnn.verification.methods`, or "auto".
    options : CertifyOptions, optional
        By default every sample is bounded to the end (``early_stop=False``), which the tightness figures need; with
        early stops only the errors are meaningful, and cheaper.
    random_state : int, Generator, RandomState or None
        Of the attacks.
    **settings
        Of :func:`convexnn.certify`: ``n_jobs``, ``time_limit`` (of every run), ``sample_time_limit``, ``verbose``.

    Returns
    -------
    RobustErrorReport

    Raises
    ------
    InvalidInputError
        For models, data, radii, norms or methods that cannot be used.
    """
    named = dict(models) if isinstance(models, Mapping) else {"model": models}
    if norm not in BALLS:
        raise InvalidInputError(f"norm must be one of {tuple(BALLS)}, got {norm!r}.")
    chosen = (methods,) if isinstance(methods, str) else tuple(methods)
    sizes = np.unique(np.asarray(radii, dtype=float))
    if not named or not chosen or not len(sizes):
        raise InvalidInputError("At least one model, one method and one radius are needed.")
    asked = CertifyOptions(early_stop=False) if options is None else options
    seed = as_seed(random_state)
    runs = {
        name: [
            certify(
                model, X, y, BALLS[norm](radius, clip=clip), method=how, options=asked, random_state=seed, **settings
            )
            for radius in sizes.tolist()
            for how in chosen
        ]
        for name, model in named.items()
    }
    found = collect_reports(runs)
    reached = [
        [_attacked(model, X, y, BALLS[norm](_inside(r), clip=clip), asked, seed) for r in sizes.tolist()]
        for model in named.values()
    ]
    return replace(found, attack=np.maximum(found.attack, _within_rounding(np.array(reached), found.bound.min(axis=2))))


def _within_rounding(reached: Array, bound: Array) -> Array:
    """What an attack reached; the bound where that is exceeded by no more than rounding. More is a contradiction."""
    with np.errstate(invalid="ignore"):
        close = reached - bound <= ROUNDING * np.maximum(1.0, np.abs(bound))
    return np.where(close, np.minimum(reached, bound), reached)


def _inside(radius: float) -> float:
    """A radius so much smaller that points which leave its ball by rounding are in the ball that is asked about."""
    return radius * (1.0 - 1e-9)


def _attacked(model: Any, X: ArrayLike, y: ArrayLike, ball: Any, options: CertifyOptions, seed: int) -> Array:
    """Margins that an attack of all samples reaches, also of those that were falsified by something weaker."""
    return attack(
        model,
        X,
        y,
        ball,
        method="best",
        steps=options.steps,
        restarts=options.restarts,
        loss="margin",
        random_state=seed,
    ).values


def collect_reports(reports: Mapping[str, Sequence[CertificationReport]]) -> RobustErrorReport:
    """Put finished certification reports together: for every model, one for each radius and method.

    Parameters
    ----------
    reports : mapping of str to sequence of CertificationReport
        The same radii, methods, norm, clip and samples for every model, in any order.

    Raises
    ------
    InvalidInputError
        When they do not fit together.
    """
    every = [report for runs in reports.values() for report in runs]
    if not every or not all(isinstance(report, CertificationReport) for report in every):
        raise InvalidInputError("A mapping from names to lists of certification reports is needed.")
    threat, radii = every[0].threat, sorted({_radius(report) for report in every})
    methods = tuple(dict.fromkeys(report.method for report in every))
    table: dict[tuple[str, float, str], CertificationReport] = {}
    for name, runs in reports.items():
        table |= {(name, _radius(report), report.method): report for report in runs}
        if len({report.network_fingerprint for report in runs}) > 1:
            raise InvalidInputError(f"The reports of {name!r} are about different networks.")
    if len(table) != len(every) or len(table) != len(reports) * len(radii) * len(methods):
        raise InvalidInputError("Every model needs exactly one report for every radius and method.")
    grid = [[[table[name, radius, method] for method in methods] for radius in radii] for name in reports]
    kinds = {(report.threat.norm, str(getattr(report.threat, "clip", None)), report.n_samples) for report in every}
    if len(kinds) > 1 or len({tuple(v.label for v in report.verdicts) for report in every}) > 1:
        raise InvalidInputError("The reports are about different norms, clips or samples.")
    return RobustErrorReport(
        names=tuple(reports),
        methods=methods,
        radii=np.array(radii),
        norm=threat.norm,
        clean=np.array([part[0][0].clean for part in grid]),
        attack=_stacked(grid, "lower").max(axis=2),
        bound=_stacked(grid, "margins"),
        certified=np.array([[[_certified(report) for report in line] for line in part] for part in grid]),
        rigorous=np.array([[_rigorous([line[k] for line in part]) for k in range(len(methods))] for part in grid]),
        seconds=_stacked(grid, "seconds"),
        clip=_clip_words(threat),
        facts=_facts(every, reports),
    )


def _stacked(grid: Any, name: str) -> Array:
    return np.array([[[getattr(report, name) for report in line] for line in part] for part in grid])


def _certified(report: CertificationReport) -> Bools:
    return np.array([status == "certified" for status in report.statuses])


def _rigorous(runs: Sequence[CertificationReport]) -> bool:
    return all(verdict.rigorous for report in runs for verdict in report.verdicts)


def _radius(report: CertificationReport) -> float:
    if not isinstance(report.threat, (L2Ball, LInfBall)):
        raise InvalidInputError("Reports against the radius need balls; a Box has none.")
    return float(report.threat.radius)


def _clip_words(threat: Any) -> str:
    if threat.clip is None:
        return ""
    low, high = (np.asarray(end, dtype=float) for end in threat.clip)
    return f"inputs stay in [{low.min():g}, {high.max():g}]"


def _facts(every: Sequence[CertificationReport], reports: Mapping[str, Sequence[CertificationReport]]) -> Any:
    first = every[0]
    facts = [("samples", f"{first.n_samples} with {first.n_inputs} inputs each, SHA-256 {first.data_digest[:16]}")]
    facts += [(f"network of {name}", f"SHA-256 {runs[0].network_fingerprint[:16]}") for name, runs in reports.items()]
    return (*facts, ("versions", versions_text("convexnn", "numpy", "scipy")))
