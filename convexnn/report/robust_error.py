"""Errors of classifiers against the radius: clean, under attack, certified; and how tight every method is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convexnn.decimals import DOWN, UP, share_written
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.pages.document import written
from convexnn.report.sheet import Cell, Sheet, to_text
from convexnn.values import ByValue

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
                certified_errors = [self._share(high, UP) for high in self.certified_error[i, j]]
                # the clean error is rounded as the attack's is: what reads clean <= attack is so in print
                errors = [self._share(self.clean_error[i], DOWN), self._share(low, DOWN), *certified_errors]
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

        return written(page(self, title, self.index_of(radius)), path)

    def index_of(self, radius: float | None) -> int:
        """Position of a radius; of the middle one for None."""
        if radius is None:
            return len(self.radii) // 2
        found = np.flatnonzero(self.radii == radius)
        if not len(found):
            raise InvalidInputError(f"The radius must be one of {self.radii.tolist()}, got {radius!r}.")
        return int(found[0])

    def _share(self, value: float, up: bool) -> str:
        """A fraction of the samples, rounded to the side on which it stays a bound."""
        return share_written(round(value * self.n_samples), self.n_samples, 3, up) if np.isfinite(value) else "nan"
