"""What fitting a classifier that is safe on a region needs: the safe class, weighted draws, trainers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from convexnn.certificate import Certificate
from convexnn.certificates.region import certified_regions
from convexnn.certificates.region_polytope import EXACT, METHOD, certified_polytope
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.regions.polytope import Polytope
from convexnn.regions.region import BALL, Region, as_regions
from convexnn.restrictions.rows import distinct_rows
from convexnn.training.region_facets import FacetOptions, train_region_facets
from convexnn.training.region_options import RegionOptions, RegionTraining
from convexnn.training.region_safe import train_safe_region

Array = NDArray[np.float64]

METHODS = ("auto", "pairs", "dense", "facets")
#: What the other methods and unions take around regions that are no balls.
SURROUND = {
    "box": (
        "Around a box with axes (d, r) lies ellipsoid(center, sqrt(r) * axes), which the other methods and unions take."
    ),
    "polytope": (
        "Around a Polytope P lies ellipsoid(0.5 * (P.lower + P.upper), 0.5 * sqrt(d) * (P.upper - P.lower)), d its "
        "inputs, which the other methods and unions take."
    ),
    BALL: "Balls, ellipsoids and unions of them have method='pairs'.",
}


@dataclass(frozen=True, eq=False)
class Sides:
    """Two classes, one of which is proved on the regions.

    Attributes
    ----------
    classes : array, shape (2,)
        In increasing order.
    safe : int
        Position of the class that the regions belong to, 0 or 1.
    accept : bool array, shape (n,)
        Whether a sample is of the other class.
    """

    classes: NDArray[Any]
    safe: int
    accept: NDArray[np.bool_]

    @classmethod
    def of(cls, y: ArrayLike, weight: Array | None, safe_class: Any) -> Sides:
        """Classes of training labels; rows of weight zero count as left out.

        Raises
        ------
        InvalidInputError
            For more than two classes, for one class (unless ``safe_class`` names the other one), for a safe class that
            ``y`` does not hold when it holds two, and when there is nothing to accept.
        """
        column = column_or_1d(y, warn=True)
        check_classification_targets(column)
        present = np.unique(column if weight is None else column[weight > 0])
        if len(present) > 2:
            raise InvalidInputError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(column)}: {len(present)} classes came; merge all but the one that the region is for."
            )
        classes, safe = _with_safe(present, safe_class)
        return cls(classes, safe, np.asarray(column == classes[1 - safe]))


def _with_safe(present: NDArray[Any], safe_class: Any) -> tuple[NDArray[Any], int]:
    """Both classes in increasing order and the position of the safe one."""
    if len(present) == 2:
        if safe_class is None:
            return present, 0
        found = [k for k, label in enumerate(present.tolist()) if label == safe_class]
        if not found:
            raise InvalidInputError(f"safe_class={safe_class!r} was given; y holds the classes {present.tolist()}.")
        return present, found[0]
    if safe_class is None or present.tolist() == [safe_class]:
        raise InvalidInputError(
            f"y holds one class only ({present.tolist()}, rows of weight zero left out). Samples of the class that is "
            "to be accepted are needed; those of the safe class may be left out when safe_class names it."
        )
    try:
        classes = np.array(sorted([present.tolist()[0], safe_class]))
    except TypeError as error:
        raise InvalidInputError(
            f"safe_class={safe_class!r} cannot be sorted with the class {present.tolist()[0]!r} of y."
        ) from error
    return classes, classes.tolist().index(safe_class)


def given_regions(region: Any, n_inputs: int) -> tuple[Region, ...] | tuple[Polytope]:
    """The regions that a classifier was given: the members of a union, or one polytope.

    Raises
    ------
    InvalidInputError
        Without one, and for what is no region of ``n_inputs`` inputs or a union with a polytope.
    """
    if region is None:
        raise InvalidInputError(
            "A region is needed, e.g. SafeRegionClassifier(L2Ball(1.0)): the set of inputs on which the safe class "
            "is to be proved."
        )
    members = tuple(region) if isinstance(region, list | tuple) else (region,)
    found = [one for one in members if isinstance(one, Polytope)]
    if not found:
        return as_regions(region, n_inputs)
    if len(members) > 1:
        raise InvalidInputError(
            f"A polytope is a region alone; it came in a union of {len(members)}. {SURROUND['polytope']}"
        )
    if found[0].n_inputs != n_inputs:
        raise InvalidInputError(f"The polytope has {found[0].n_inputs} coordinates, X has {n_inputs} columns.")
    return (found[0],)


def _kind(region: Region | Polytope) -> str:
    return "polytope" if isinstance(region, Polytope) else region.kind


def trainer_name(method: str, regions: Sequence[Region | Polytope]) -> str:
    """The trainer of a method: pairs for balls and ellipsoids, facets for a box or a polytope.

    Raises
    ------
    InvalidInputError
        For an unknown method, and for regions that the trainer does not take.
    """
    if method not in METHODS:
        raise InvalidInputError(f"method={method!r} was given; expected one of {METHODS}.")
    kinds = {_kind(region) for region in regions}
    name = ("pairs" if kinds == {BALL} else "facets") if method == "auto" else method
    if name != "facets" and kinds != {BALL}:
        other = sorted(kinds - {BALL})[0]
        raise InvalidInputError(f"method={name!r} is for balls and ellipsoids, and a {other} came. {SURROUND[other]}")
    if name == "facets" and (len(regions) > 1 or kinds == {BALL}):
        raise InvalidInputError(
            f"method='facets' is for one box, rotated box or polytope; {len(regions)} region(s) of the kinds "
            f"{sorted(kinds)} came. {SURROUND[sorted(kinds, key=list(SURROUND).index)[0]]}"
        )
    return name


def trained(
    name: str, regions: Sequence[Region | Polytope], drawn: tuple[Any, Any], settings: Mapping[str, Any]
) -> RegionTraining:
    """Outcome of a trainer.

    Parameters
    ----------
    name : {"pairs", "dense", "facets"}
    regions : sequence of Region, or one Polytope in it
    drawn : pair
        Of :func:`samples`.
    settings : mapping
        Fields of the trainer's options; what it does not have and what is None is left out.
    """
    kind = FacetOptions if name == "facets" else RegionOptions
    settings = dict(settings)
    if name == "facets" and settings.get("hidden_layers") is not None:
        checked = RegionOptions(hidden_units=settings["hidden_units"], hidden_layers=settings["hidden_layers"])
        if checked.is_deep:
            raise InvalidInputError(
                f"hidden_layers={settings['hidden_layers']!r}: boxes and polytopes have one layer. "
                f"{SURROUND[_kind(regions[0])]}"
            )
        settings["hidden_units"] = checked.units(regions[0].n_inputs)
    known = {field.name for field in fields(kind)}
    options = kind(**{key: value for key, value in settings.items() if key in known and value is not None})
    if isinstance(options, RegionOptions):
        return train_safe_region(list(regions), *drawn, method=name, options=options)
    result = train_region_facets(regions[0], *drawn, options=options)
    if result.status != "finished":
        warnings.warn(
            f"Training ended early ({result.status.replace('_', ' ')}) after {result.steps} steps; "
            "the best safe network so far is kept.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return result


def proved_regions(certificate: Certificate) -> tuple[Region, ...] | tuple[Polytope]:
    """The regions that a certificate of a trainer is about: of a polytope's, the polytope."""
    if certificate.method in (METHOD, EXACT):
        return (certified_polytope(certificate),)
    return certified_regions(certificate)


def proved_bound(training: RegionTraining, regions: Sequence[Region | Polytope]) -> float:
    """The largest bound on the regions, recomputed from the network and the certificates alone: negative.

    Raises
    ------
    CertificateError
        When a certificate is not about its region, does not check, or proves a bound that is not negative.
    """
    for certificate, region in zip(training.certificates, regions, strict=True):
        if proved_regions(certificate) != (region,):
            raise CertificateError("A certificate of the trained network is about another region.")
    bound = training.check()
    if not bound < 0:
        raise CertificateError(f"The proof of the trained network gives the bound {bound:.6g}, which is not negative.")
    return bound


def inside(X: Array, regions: Sequence[Region | Polytope]) -> NDArray[np.bool_]:
    """Whether rows (n, d) lie in one of the regions, shape (n,)."""
    found = np.zeros(len(X), dtype=bool)
    for region in regions if len(X) else ():
        found |= region.contains(X)
    return found


def samples(X: Array, accept: NDArray[np.bool_], weight: Array | None) -> tuple[Any, Any]:
    """What a trainer takes: distinct rows and labels, or a function that draws them by weight.

    Equal rows are merged and sorted first, so that a weight of two equals a row given twice and the order of the rows
    does not matter.
    """
    rows = distinct_rows(X, accept.astype(np.float64), weight, with_targets=True)
    labels = (rows.y > 0.5).astype(np.int64)
    parts = [np.flatnonzero(labels == k) for k in (1, 0)]
    if all(np.ptp(rows.weight[part]) <= 1e-12 * rows.weight[part].max() for part in parts if len(part)):
        return rows.X, labels
    return _sampler(rows.X, labels, [(part, rows.weight[part]) for part in parts if len(part)]), None


def _sampler(
    X: Array, labels: NDArray[np.int64], parts: list[tuple[NDArray[np.intp], Array]]
) -> Callable[[int, np.random.Generator], tuple[Array, NDArray[np.int64]]]:
    def draw(size: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        """Rows of both classes with probabilities in proportion to their weights, by one grid with a random start."""
        chosen = np.concatenate([part[_grid(weight, size, rng)] for part, weight in parts])
        return X[chosen], labels[chosen]

    return draw


def _grid(weight: Array, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    ends = np.cumsum(weight)
    at = (rng.random() + np.arange(size)) / size * ends[-1]
    return np.minimum(np.searchsorted(ends, at, side="right"), len(weight) - 1)
