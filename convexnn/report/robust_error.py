"""Errors of classifiers against the radius: clean, under attack, certified; and how tight every method is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks import attack
from convexnn.attacks.registry import as_seed
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.report.sheet import Cell, Sheet, to_text
from convexnn.threats import L2Ball, LInfBall
from convexnn.values import ByValue
from convexnn.verification import CertificationReport, CertifyOptions, certify

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

BALLS: dict[str, type[L2Ball] | type[LInfBall]] = {"l2": L2Ball, "linf": LInfBall}
NORMS = {"l2": "ℓ₂", "linf": "ℓ∞"}

#: An attack may exceed a bound by this, relative to its size, through rounding in float64.
ROUNDING = 1e-9

#: Notes that belong to every report.
MEANINGS = (
    (
        "certified",
        "No perturbation within the radius changes the prediction from the label: proved by a bound on the margin "
        "that is recomputed from its multipliers, rounding included.",
    ),
    (
        "falsified",
        "A perturbed input was found that lies in the set and is misclassified; its outputs were evaluated again.",
    ),
    ("unknown", "Neither: the attack found nothing and the bound is not below zero. The truth is one of the two."),
)


@dataclass(frozen=True, eq=False)
class RobustErrorReport(ByValue):
    """Margins of n samples at r radii for m models, between attacks and the bounds of p methods.

    A sample's margin is ``max_{t != y} f_t - f_y``, negative where the prediction is right. A larger ball contains a
    smaller one: what an attack reached counts at larger radii, what was proved counts at smaller ones. So always

        clean error <= attack error <= certified error,   each nondecreasing in the radius.

    Attributes
    ----------
    names : tuple of str
        Models.
    methods : tuple of str
    radii : array, shape (r,)
        Increasing, raw input units.
    norm : {"l2", "linf"}
    clean : array, shape (m, n)
        Margins of the samples themselves.
    attack : array, shape (m, r, n)
        LOWER bounds on the worst margin, attained.
    bound : array, shape (m, r, p, n)
        UPPER bounds on the worst margin; ``inf`` where a method has none.
    certified : bool array, shape (m, r, p, n)
    rigorous : bool array, shape (m, p)
        False where a bound rests on a solver's word.
    seconds : array, shape (m, r, p)
        Wall seconds of a method on all samples, attacks included.
    clip : str
        Of the perturbed inputs, in words; empty without.
    facts : tuple of (str, str)
        What else should stand on the page: data, networks, versions.
    """

    names: tuple[str, ...]
    methods: tuple[str, ...]
    radii: Array
    norm: str
    clean: Array = field(repr=False)
    attack: Array = field(repr=False)
    bound: Array = field(repr=False)
    certified: Bools = field(repr=False)
    rigorous: Bools = field(repr=False)
    seconds: Array = field(repr=False)
    clip: str = ""
    facts: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Spread what holds at one radius to the others; refuse what contradicts itself."""
        m, r, p, n = len(self.names), len(self.radii), len(self.methods), self.clean.shape[-1]
        shapes = {"clean": (m, n), "attack": (m, r, n), "bound": (m, r, p, n), "certified": (m, r, p, n)}
        shapes |= {"rigorous": (m, p), "seconds": (m, r, p)}
        wrong = [
            f"{name} {getattr(self, name).shape}"
            for name, shape in shapes.items()
            if getattr(self, name).shape != shape
        ]
        if wrong or not min(m, r, p, n):
            raise InvalidInputError(
                f"{m} models, {r} radii, {p} methods and {n} samples do not fit: {', '.join(wrong)}."
            )
        if (np.diff(self.radii) <= 0).any() or not self.radii[0] >= 0:
            raise InvalidInputError(f"radii must be nonnegative and increase, got {self.radii.tolist()}.")
        if np.isnan(self.attack).any() or np.isnan(self.bound).any():
            raise InvalidInputError("Margins must not be nan; a bound that is missing is inf.")
        attack = np.maximum.accumulate(np.maximum(self.attack, self.clean[:, None]), axis=1)
        bound = np.minimum.accumulate(self.bound[:, ::-1], axis=1)[:, ::-1]
        certified = np.logical_or.accumulate(self.certified[:, ::-1], axis=1)[:, ::-1]
        if (certified & (attack >= 0)[:, :, None]).any() or (attack[:, :, None] > bound).any():
            raise CertificateError("An attack exceeds a certified bound: one of the two would be wrong.")
        for name, value in (("attack", attack), ("bound", bound), ("certified", certified)):
            object.__setattr__(self, name, value)

    # -- figures ----------------------------------------------------------------------------------
    @property
    def n_unknown(self) -> NDArray[np.intp]:
        """Samples that are neither attacked nor certified by any method, shape (m, r)."""
        return np.asarray((~self.certified.any(axis=2) & (self.attack < 0)).sum(axis=-1))

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return int(self.clean.shape[-1])

    @property
    def clean_error(self) -> Array:
        """Shares of samples that are misclassified without perturbation (ties count), shape (m,)."""
        return np.asarray((self.clean >= 0).mean(axis=-1))

    @property
    def attack_error(self) -> Array:
        """Shares that an attack misclassifies, shape (m, r): LOWER bounds on the robust error."""
        return np.asarray((self.attack >= 0).mean(axis=-1))

    @property
    def certified_error(self) -> Array:
        """Shares that a method does not certify, shape (m, r, p): UPPER bounds on the robust error."""
        return np.asarray((~self.certified).mean(axis=-1))

    @property
    def best_certified_error(self) -> Array:
        """Shares that no method certifies, shape (m, r): UPPER bounds on the robust error."""
        return np.asarray((~self.certified.any(axis=2)).mean(axis=-1))

    @property
    def tightness(self) -> Array:
        """``bound - attack`` of every sample, shape (m, r, p, n): a bound is at most so far from the truth."""
        return np.asarray(self.bound - self.attack[:, :, None])

    def sheet(self) -> Sheet:
        """One line a model and radius."""
        certified = [f"certified <=\n{method}" for method in self.methods]
        columns = ("model", f"{self.norm}\nradius", "clean\nerror", "attack\nerror >=", *certified, "unknown")
        rows: list[tuple[Cell, ...]] = []
        for i, name in enumerate(self.names):
            for j, radius in enumerate(self.radii.tolist()):
                low = self.attack_error[i, j]
                errors = [_share(self.clean_error[i]), _share(low), *map(_share, self.certified_error[i, j])]
                rows.append((name, f"{radius:g}", *errors, str(self.n_unknown[i, j])))
        notes = (
            "The robust error, of the worst perturbations, lies between the attack error and every certified error.",
            f"{self.n_samples} samples; unknown: samples that are neither attacked nor certified by any method.",
            *(() if self.rigorous.all() else (f"Not rigorous, a solver's word: {', '.join(self._words())}.",)),
        )
        return Sheet("Robust error", columns, tuple(rows), notes)

    def tightness_sheet(self) -> Sheet:
        """One line a model, radius and method: quantiles of ``bound - attack`` over the samples that have a bound."""
        columns = ("model", f"{self.norm} radius", "method", "bounds", "median", "90 %", "largest", "s/sample")
        rows: list[tuple[Cell, ...]] = []
        for i, name in enumerate(self.names):
            for j, radius in enumerate(self.radii.tolist()):
                for k, method in enumerate(self.methods):
                    gaps = self.tightness[i, j, k]
                    gaps = gaps[np.isfinite(gaps)]
                    levels = np.quantile(gaps, [0.5, 0.9, 1.0]).tolist() if len(gaps) else [None] * 3
                    shown = [None if level is None else f"{level:.3g}" for level in levels]
                    cost = f"{self.seconds[i, j, k] / self.n_samples:.3g}"
                    rows.append((name, f"{radius:g}", method, str(len(gaps)), *shown, cost))
        return Sheet(
            "Tightness: bound - attack", columns, tuple(rows), ("A bound is at most this far from the worst margin.",)
        )

    def _words(self) -> list[str]:
        return [method for k, method in enumerate(self.methods) if not self.rigorous[:, k].all()]

    def __str__(self) -> str:
        """Plain text: the table of errors."""
        return to_text(self.sheet())

    def to_html(
        self, path: str | os.PathLike[str], *, title: str = "Robust error", radius: float | None = None
    ) -> Path:
        """Write one self-contained HTML page: figures, tables, the meaning of the words; returns the path.

        Nothing is loaded from elsewhere, no script runs, and the same report gives the same bytes.

        Parameters
        ----------
        path : path-like
        title : str
        radius : float, optional
            Of the tightness figures, one of ``radii``; by default the middle one.
        """
        from convexnn.report.robust_error_page import page

        target = Path(path)
        target.write_text(page(self, title, self.index_of(radius)), encoding="utf-8")
        return target

    def index_of(self, radius: float | None) -> int:
        """Position of a radius; of the middle one for None."""
        if radius is None:
            return len(self.radii) // 2
        found = np.flatnonzero(self.radii == radius)
        if not len(found):
            raise InvalidInputError(f"The radius must be one of {self.radii.tolist()}, got {radius!r}.")
        return int(found[0])


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
    import platform
    from importlib.metadata import version

    first = every[0]
    facts = [("samples", f"{first.n_samples} with {first.n_inputs} inputs each, SHA-256 {first.data_digest[:16]}")]
    facts += [(f"network of {name}", f"SHA-256 {runs[0].network_fingerprint[:16]}") for name, runs in reports.items()]
    packages = ", ".join(f"{name} {version(name)}" for name in ("convexnn", "numpy", "scipy"))
    return (*facts, ("versions", f"{packages}, Python {platform.python_version()}"))


def _share(value: Any) -> str:
    return f"{float(value):.3f}"
