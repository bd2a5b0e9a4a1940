"""Errors of several models under attack, from below and from above, at several radii."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks import Attack
from convexnn.attacks.registry import as_seed
from convexnn.certificate import Certificate
from convexnn.certificates.records import as_frame, flat, write_csv
from convexnn.certificates.subjects import (
    LOSSES,
    Proof,
    Subject,
    attacked_values,
    certified_values,
    clean_values,
    prove,
    radii_of,
    read_subjects,
)
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.inputs import as_floats
from convexnn.threats import L2Ball, LInfBall, Threat

Array = NDArray[np.float64]

BALLS: dict[str, type[L2Ball] | type[LInfBall]] = {"l2": L2Ball, "linf": LInfBall}
KINDS = ("clean", "attacked", "certified")

#: Squared errors at larger radii overflow.
LARGEST_RADIUS = 1e100

#: An attacked point may leave its ball by a rounding error; an attack above a certificate by more than this is a bug.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Sandwich:
    """A quantity of every sample: clean, attacked (lower bounds on the worst case), certified (upper bounds).

    Attributes
    ----------
    clean : array, shape (m, n)
        Without perturbation.
    attacked : array, shape (m, r, n)
        Reached by an attack.
    certified : array, shape (m, r, n)
        Exceeded by no perturbation; never below ``attacked``, not even by rounding.

    Raises
    ------
    CertificateError
        When an attack exceeds a certificate: one of the two would be wrong.
    """

    clean: Array
    attacked: Array
    certified: Array

    def __post_init__(self) -> None:
        """Refuse attacks above certificates; take up what they exceed them by within rounding."""
        excess = self.attacked - self.certified
        if (excess > ROUNDING * np.maximum(1.0, np.abs(self.certified))).any():
            raise CertificateError(f"An attack exceeds the certified value by {excess.max():.3g}.")
        object.__setattr__(self, "certified", np.maximum(self.certified, self.attacked))


@dataclass(frozen=True, eq=False)
class RobustnessTable(Sandwich):
    """Per-sample errors of several models: clean, attacked (lower bounds) and certified (upper bounds).

    The worst case of sample ``i`` within a radius lies between ``attacked`` and ``certified``. Errors are squared
    errors of regressors (summed over outputs), and 0 or 1 of classifiers: whether the sample is misclassified.

    Attributes
    ----------
    clean : array, shape (m, n)
        Errors without perturbation.
    attacked : array, shape (m, r, n)
        Errors that an attack reached: lower bounds on the worst case, nondecreasing in the radius and never below
        the clean ones.
    certified : array, shape (m, r, n)
        Errors that no perturbation exceeds: upper bounds on the worst case.
    names : tuple of str
        The models, m of them.
    radii : array, shape (r,)
        Increasing, in input units.
    norm : str
        ``"l2"`` or ``"linf"``: norm of the perturbation.
    certificates : tuple of Certificate
        Of the l2 Lipschitz constants, one a model.
    bounds : tuple of mapping of str to array
        The Lipschitz bounds behind ``certified``, by the norm of the inputs: of the outputs, shape (1, 1), or of the
        margins of a classifier with k outputs, shape (k, k).
    margins : Sandwich or None
        Of classifiers: ``max_{t != y} f_t - f_y`` (one output: ``-f`` for the second class, ``f`` for the first),
        positive where misclassified.
    certified_radii : array, shape (m, n), or None
        Of classifiers: no perturbation in ``norm`` up to this radius changes a right prediction.
    """

    names: tuple[str, ...]
    radii: Array
    norm: str
    certificates: tuple[Certificate, ...]
    bounds: tuple[Mapping[str, Array], ...] = ()
    margins: Sandwich | None = None
    certified_radii: Array | None = None

    @property
    def task(self) -> str:
        """``"regression"`` or ``"classification"``."""
        return "regression" if self.margins is None else "classification"

    def mean(self, kind: str) -> Array:
        """Mean error over the samples: ``"clean"`` (m,), ``"attacked"`` or ``"certified"`` (m, r)."""
        if kind not in KINDS:
            raise InvalidInputError(f"kind must be one of {KINDS}, got {kind!r}.")
        means: Array = getattr(self, kind).mean(axis=-1)
        return means

    def _of(self, task: str, kind: str) -> Array:
        if self.task != task:
            other = "accuracy" if task == "regression" else "mse"
            raise InvalidInputError(f"This table is of a {self.task}; use {kind}_{other} or mean({kind!r}).")
        return self.mean(kind)

    @property
    def clean_mse(self) -> Array:
        """Mean squared errors, shape (m,)."""
        return self._of("regression", "clean")

    @property
    def attacked_mse(self) -> Array:
        """Mean attacked squared errors, shape (m, r): lower bounds on the worst-case mean."""
        return self._of("regression", "attacked")

    @property
    def certified_mse(self) -> Array:
        """Mean certified squared errors, shape (m, r): upper bounds on the worst-case mean."""
        return self._of("regression", "certified")

    @property
    def clean_accuracy(self) -> Array:
        """Fraction of samples classified right, shape (m,)."""
        return 1.0 - self._of("classification", "clean")

    @property
    def attacked_accuracy(self) -> Array:
        """Fraction that no attack changed, shape (m, r): UPPER bounds on the robust accuracy."""
        return 1.0 - self._of("classification", "attacked")

    @property
    def certified_accuracy(self) -> Array:
        """Fraction that no perturbation changes, shape (m, r): LOWER bounds on the robust accuracy."""
        return 1.0 - self._of("classification", "certified")

    @property
    def lipschitz(self) -> Array:
        """Certified Lipschitz bounds of the outputs (l2), shape (m,)."""
        return np.array([certificate.bound for certificate in self.certificates])

    def to_columns(self) -> dict[str, list[Any]]:
        """Per-sample results as columns: one row a model, radius and sample."""
        parts: dict[str, Sandwich] = {"": self}
        if self.margins is not None:
            parts["margin_"] = self.margins
        values: dict[str, Any] = {}
        for prefix, part in parts.items():
            values[f"{prefix}clean"] = part.clean[:, None, :]
            values |= {f"{prefix}attacked": part.attacked, f"{prefix}certified": part.certified}
        if self.certified_radii is not None:
            values["certified_radius"] = self.certified_radii[:, None, :]
        names, samples = np.array(self.names)[:, None, None], np.arange(self.clean.shape[-1])
        return flat(model=names, norm=self.norm, radius=self.radii[:, None], sample=samples, **values)

    def to_frame(self) -> Any:
        """Per-sample results as a :class:`pandas.DataFrame`, one row a model, radius and sample; needs pandas."""
        return as_frame(self.to_columns())

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the per-sample results with all digits, one row a model, radius and sample; returns the path."""
        return write_csv(self.to_columns(), path)

    def __repr__(self) -> str:
        """Sizes on one line."""
        radii = ", ".join(f"{radius:g}" for radius in self.radii)
        return f"RobustnessTable({', '.join(self.names)}; {self.norm} radii {radii}; {self.clean.shape[-1]} samples)"


def robustness_table(
    models: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike,
    radii: Sequence[float],
    *,
    norm: str = "l2",
    clip: Any = None,
    task: str | None = None,
    certificates: Mapping[str, Certificate] | None = None,
    method: str | Attack = "best",
    steps: int = 40,
    restarts: int = 5,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> RobustnessTable:
    """Attack and certify every model at every radius; everything is recomputed from the networks.

    A larger ball contains a smaller one and the sample itself, so what was reached there counts at a larger radius.
    Regressors are certified by ``|f(x') - y| <= |f(x) - y| + L |x' - x|``, classifiers by the same for every margin
    ``f_t - f_y`` with a Lipschitz bound of its own, shallow (Leaky)ReLU networks by local bounds as well: the better
    one counts. Every model is attacked from the same random starts.

    Parameters
    ----------
    models : mapping of str to model
        Regressors, or classifiers: anything that :func:`convexnn.as_network` takes.
    X : array-like, shape (n, d)
        Raw input units of the models.
    y : array-like, shape (n,) or (n, k)
        Numbers or labels, as in :func:`convexnn.attack`.
    radii : sequence of float
        Nonnegative, input units.
    norm : {"l2", "linf"}
        Of the perturbation.
    clip : pair of float or array, optional
        Data range that perturbed inputs keep.
    task : {"regression", "classification"}, optional
        By default decided from the models and ``y``, as in :func:`convexnn.attack`.
    certificates : mapping of str to Certificate, optional
        l2 Lipschitz certificates to use; a missing one is computed. Each is checked against its network. A
        classifier with several outputs then has the bound ``sqrt(2) L`` for all margins instead of one for each.
    method : {"best", "pgd", "fgsm"} or Attack, default="best"
    steps, restarts : int
        Of PGD.
    random_state : int, Generator, RandomState or None
        Of the attacks.
    n_jobs : int, optional
        Jobs of joblib, over models and radii; the results do not depend on it.

    Returns
    -------
    RobustnessTable

    Raises
    ------
    InvalidInputError
        For unusable models, radii, data or labels, an unknown norm, certificates of models that are not given, or
        regressors and classifiers mixed.
    UnsupportedModelError
        When a model gives no network, for instance a forest: it has no gradient to attack.
    CertificateError
        When a given certificate does not check, or an attack exceeds a certificate.
    """
    sizes = _checked_radii(radii)
    if norm not in BALLS:
        raise InvalidInputError(f"norm must be one of {tuple(BALLS)}, got {norm!r}.")
    given = certificates or {}
    if not isinstance(models, Mapping) or not set(given) <= set(models):
        known = list(models) if isinstance(models, Mapping) else type(models).__name__
        raise InvalidInputError(f"models must map names to models, certificates some of these names; got {known}.")
    points = _numbers(X, "X")
    subjects = read_subjects(models, y, len(points), task)
    threats = [BALLS[norm](radius, clip=clip) for radius in sizes]
    options = {"method": method, "steps": steps, "restarts": restarts}
    reached = _attack_all(subjects, points, threats, as_seed(random_state), options, n_jobs)
    proofs = _parallel(n_jobs, prove, [(s.network, s.is_classifier, norm, given.get(s.name)) for s in subjects])
    return _assemble(subjects, points, threats, reached, proofs, norm)


def _assemble(
    subjects: Sequence[Subject],
    X: Array,
    threats: Sequence[L2Ball | LInfBall],
    reached: Array,
    proofs: Sequence[Proof],
    norm: str,
) -> RobustnessTable:
    """The table of what was reached (m, r, 2, n) and proved; the clean values count as reached at every radius."""
    pairs = list(zip(subjects, proofs, strict=True))
    clean = np.array([clean_values(subject, X) for subject in subjects])
    worst = np.maximum.accumulate(np.concatenate([clean[:, None], reached], axis=1), axis=1)[:, 1:]
    certified = np.array([certified_values(subject, X, threats, proof.bounds) for subject, proof in pairs])
    values, radii = Sandwich(clean[:, 0], worst[:, :, 0], certified), None
    shown, margins = values, None
    if subjects[0].is_classifier:
        wrong = np.maximum(values.certified >= 0, worst[:, :, 1]).astype(float)  # a tie is not certified
        shown, margins = Sandwich(clean[:, 1], worst[:, :, 1], wrong), values
        radii = np.array([radii_of(subject, X, proof.bounds, norm) for subject, proof in pairs])
    return RobustnessTable(
        shown.clean,
        shown.attacked,
        shown.certified,
        names=tuple(subject.name for subject in subjects),
        radii=np.array([threat.radius for threat in threats]),
        norm=norm,
        certificates=tuple(proof.certificate for proof in proofs),
        bounds=tuple(proof.bounds for proof in proofs),
        margins=margins,
        certified_radii=radii,
    )


def _attack_all(
    subjects: Sequence[Subject],
    X: Array,
    threats: Sequence[Threat],
    seed: int,
    options: Mapping[str, Any],
    n_jobs: int | None,
) -> Array:
    """Values and misclassifications of every model at every radius, shape (m, r, 2, n)."""
    calls = [
        (s.network, X, s.objective.y, LOSSES["classification" if s.is_classifier else "regression"], t, seed, options)
        for s in subjects
        for t in threats
    ]
    found = np.array(_parallel(n_jobs, attacked_values, calls))
    return found.reshape(len(subjects), len(threats), 2, -1)


def _parallel(n_jobs: int | None, function: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=n_jobs)(delayed(function)(*call) for call in calls))


def _checked_radii(radii: Sequence[float]) -> Array:
    sizes = np.unique(np.atleast_1d(as_floats(radii, "radii", largest=np.inf)))
    if sizes.size == 0 or not (sizes >= 0).all() or sizes[-1] > LARGEST_RADIUS:
        raise InvalidInputError(
            f"radii must be nonnegative and at most {LARGEST_RADIUS:g}, at least one; got {np.ravel(radii).tolist()}."
        )
    return sizes


def _numbers(values: Any, label: str) -> Array:
    return np.atleast_1d(as_floats(values, label))
