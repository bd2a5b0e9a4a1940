"""The parts of a robustness table that run on their own: read a model, prove its bounds, attack it at one radius.

The functions take numpy arrays and small values, so that they run in other processes and on other machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks import attack
from convexnn.attacks.objectives import BinaryMargin, SquaredError, build_objective
from convexnn.certificate import Certificate, register_check
from convexnn.certificates.classification import largest_margins, radii_from
from convexnn.certificates.distance import certified_radius
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.local_margins import has_local_bounds, local_intervals
from convexnn.certificates.margins import rival_bounds
from convexnn.certificates.polynomial import polynomial_interval, polynomial_margins
from convexnn.certificates.regression import evaluation_error, largest_size, output_reach
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.quadratic.evaluation import evaluation_error as quadratic_error
from convexnn.quadratic.form import is_quadratic
from convexnn.rigorous import gamma
from convexnn.threats import Threat

Array = NDArray[np.float64]

LOSSES = {"regression": "squared", "classification": "margin"}


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to be judged: its network and what it is judged by (encoded targets).

    Attributes
    ----------
    name : str
    network : Network
    objective : SquaredError, BinaryMargin or ClassMargin
        Holds the targets as numbers (n, k), signs (n,) or class indices (n,).
    """

    name: str
    network: Network
    objective: Any

    @property
    def is_classifier(self) -> bool:
        """Whether labels are predicted."""
        return not isinstance(self.objective, SquaredError)

    @property
    def labels(self) -> NDArray[np.intp]:
        """Class indices of the samples; with one output, 1 is the class where it is positive."""
        y = self.objective.y
        return np.asarray(y > 0 if isinstance(self.objective, BinaryMargin) else y).astype(np.intp)

    def outputs(self, X: Array) -> Array:
        """Outputs of the network, shape (n, k)."""
        return self.network(X).reshape(len(X), -1)


@dataclass(frozen=True, eq=False)
class Proof:
    """What is certified about a subject: its l2 certificate, and the bounds of its outputs or margins by norm.

    Quadratic functions have no bounds: their worst cases are known without.
    """

    certificate: Certificate
    bounds: Mapping[str, Array]


def read_subjects(models: Mapping[str, Any], y: ArrayLike, n: int, task: str | None) -> list[Subject]:
    """Networks and encoded targets of all models; they must all be regressors or all classifiers.

    A network without ``classes_`` takes those of the first model that has them.
    """
    if task not in (None, *LOSSES):
        raise InvalidInputError(f"task must be one of {tuple(LOSSES)} or None, got {task!r}.")
    if not models:
        raise InvalidInputError("No models were given; a mapping from names to models is needed.")
    labelled = [model for model in models.values() if getattr(model, "classes_", None) is not None]
    subjects = []
    for name, model in models.items():
        network = _read_network(name, model)
        bare = not hasattr(model, "predict") and not hasattr(model, "classes_")
        source = SimpleNamespace(classes_=labelled[0].classes_) if labelled and bare else model
        loss = None if task is None else LOSSES[task]
        subjects.append(Subject(name, network, build_objective(source, y, n, network.n_outputs, loss)))
    if len({subject.is_classifier for subject in subjects}) > 1:
        kinds = ", ".join(f"{s.name!r}: {'classifier' if s.is_classifier else 'regressor'}" for s in subjects)
        raise InvalidInputError(f"One table holds regressors or classifiers, not both ({kinds}); say which by task=.")
    return subjects


def _read_network(name: str, model: Any) -> Network:
    try:
        return as_network(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"The model {name!r} gives no network, so there is no gradient to attack it with and no weights to "
            f"certify: {error}"
        ) from error


def prove(network: Network, is_classifier: bool, norm: str, certificate: Certificate | None) -> Proof:
    """Lipschitz bounds in l2 and, for perturbations in linf without a given certificate, in linf as well."""
    if certificate is None and is_quadratic(network):
        bounded = np.isfinite(network.activation.slopes).all()
        return Proof(lipschitz(network) if bounded else _no_constant(network), {})
    own = lipschitz(network) if certificate is None else certificate
    if own.quantity != "lipschitz" or own.threat != "l2":
        raise InvalidInputError(
            f"An l2 Lipschitz certificate is needed, this one bounds {own.quantity} ({own.threat})."
        )
    checked = own.check(network)
    norms = ["l2"] if norm == "l2" or certificate is not None else ["l2", "linf"]
    if is_classifier and network.n_outputs > 1:
        return Proof(own, {name: rival_bounds(network, name, certificate) for name in norms})
    bounds = {"l2": np.array([[checked]])}
    if "linf" in norms:
        bounds["linf"] = np.array([[lipschitz(network, norm=np.inf).bound]])
    return Proof(own, bounds)


def _no_constant(network: Network) -> Certificate:
    """What can be said of the Lipschitz constant of a function that has none."""
    return Certificate("lipschitz", math.inf, math.inf, "l2", "unbounded_slopes", {}, network.fingerprint())


register_check("unbounded_slopes", lambda _network, _multiplier: math.inf, quantity="lipschitz", threat="l2")


def attacked_values(
    network: Network, X: Array, y: Array, loss: str, threat: Threat, seed: int, options: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Squared errors or margins that an attack reached, and misclassifications (nan for the squared loss)."""
    found = attack(network, X, y, threat, loss=loss, random_state=seed, **options)
    wrong = np.full(len(X), np.nan) if found.success is None else found.success.astype(float)
    return found.values, wrong


def certified_values(subject: Subject, X: Array, threats: Sequence[Threat], bounds: Mapping[str, Array]) -> Array:
    """Upper bounds on squared errors or margins over every threat set, shape (r, n): the least over all bounds known.

    What holds on a larger threat set holds on those before it in the sequence, which it must contain.
    """
    if not bounds:
        return np.array([_quadratic_values(subject, X, threat) for threat in threats])
    if subject.is_classifier:
        found = [largest_margins(subject.network, X, subject.labels, threat, bounds) for threat in threats]
    else:
        found = [_certified_squares(subject, X, threat, bounds) for threat in threats]
    return np.minimum.accumulate(np.array(found)[::-1], axis=0)[::-1]


def _quadratic_values(subject: Subject, X: Array, threat: Threat) -> Array:
    """Upper bounds for polynomial networks, exact up to rounding for l2 balls; the rounding of outputs included."""
    network = subject.network
    rounding = quadratic_error(network, largest_size(X, threat))
    if subject.is_classifier:
        return polynomial_margins(network, X, subject.labels, threat) + 2.0 * rounding.max(axis=1)
    lower, upper = polynomial_interval(network, X, threat)
    return _largest_squares(lower - rounding, upper + rounding, subject.objective.y)


def _largest_squares(lower: Array, upper: Array, y: Array) -> Array:
    """Largest ``|f - y|^2`` of outputs in these intervals, shapes (n, k), rounded up."""
    reached = np.maximum(np.abs(upper - y), np.abs(lower - y))
    return np.asarray((reached**2).sum(axis=1) * (1.0 + 4.0 * gamma(y.shape[1] + 8)))


def _certified_squares(subject: Subject, X: Array, threat: Threat, bounds: Mapping[str, Array]) -> Array:
    found = [_lipschitz_squares(subject, X, threat, L[0, 0], norm) for norm, L in bounds.items()]
    if has_local_bounds(subject.network):
        found.append(_largest_squares(*local_intervals(subject.network, X, threat), subject.objective.y))
    least: Array = np.min(found, axis=0)
    return least


def _lipschitz_squares(subject: Subject, X: Array, threat: Threat, bound: float, norm: str) -> Array:
    """``(|f(x) - y|_2 + L |x' - x|)^2``, given a Lipschitz bound with both sides in ``norm``, rounding included."""
    network, y = subject.network, subject.objective.y
    factor = np.sqrt(network.n_outputs) if norm == "linf" else 1.0  # |f(x') - f(x)|_2 <= sqrt(k) times the linf norm
    rounding = np.linalg.norm(evaluation_error(network, largest_size(X, threat)), axis=1)
    rise = factor * output_reach(X, threat, bound, norm) + 2.0 * rounding
    squares: Array = (np.linalg.norm(subject.outputs(X) - y, axis=1) + rise) ** 2
    return squares * (1.0 + 4.0 * gamma(network.n_outputs + 8))


def radii_of(subject: Subject, X: Array, bounds: Mapping[str, Array], norm: str) -> Array:
    """Certified radii of a classifier in ``norm``; an l2 bound speaks of linf radii through sqrt(d)."""
    if not bounds:
        radii = certified_radius(subject.network, X, subject.labels)
        return radii / np.sqrt(X.shape[1]) * (1.0 - 4.0 * gamma(8)) if norm == "linf" else radii
    return radii_from(subject.network, X, subject.labels, bounds, norm)


def clean_values(subject: Subject, X: Array) -> tuple[Array, Array]:
    """Squared errors or margins without perturbation, and misclassifications (nan for regressors)."""
    outputs = subject.outputs(X)
    wrong = subject.objective.success(outputs)
    return subject.objective.value(outputs), np.full(len(X), np.nan) if wrong is None else wrong.astype(float)
