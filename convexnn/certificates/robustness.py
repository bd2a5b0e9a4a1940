"""Squared errors of several models under attack, from below and from above, at several radii."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks import attack
from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.regression import certified_squared_error
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network, as_network
from convexnn.threats import L2Ball, LInfBall, Threat

Array = NDArray[np.float64]

BALLS: dict[str, type[L2Ball] | type[LInfBall]] = {"l2": L2Ball, "linf": LInfBall}

#: An attacked point may leave its ball by a rounding error; an attack above a certificate by more than this is a bug.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class RobustnessTable:
    """Per-sample squared errors: clean, attacked (lower bounds) and certified (upper bounds).

    The worst case of sample ``i`` within a radius lies between ``attacked`` and ``certified``.

    Attributes
    ----------
    names : tuple of str
        The models, m of them.
    radii : array, shape (r,)
        Increasing, in input units.
    norm : str
        ``"l2"`` or ``"linf"``: norm of the perturbation.
    clean : array, shape (m, n)
        Squared errors without perturbation.
    attacked : array, shape (m, r, n)
        Squared errors that an attack reached: lower bounds on the worst case.
    certified : array, shape (m, r, n)
        Squared errors that no perturbation exceeds: upper bounds on the worst case.
    certificates : tuple of Certificate
        The l2 Lipschitz certificates behind ``certified``, one a model.
    """

    names: tuple[str, ...]
    radii: Array
    norm: str
    clean: Array
    attacked: Array
    certified: Array
    certificates: tuple[Certificate, ...]

    def __post_init__(self) -> None:
        """Refuse a table in which an attack exceeds a certificate: one of the two would be wrong."""
        excess = self.attacked - self.certified
        if (excess > ROUNDING * np.maximum(1.0, self.certified)).any():
            raise CertificateError(f"An attack exceeds the certified squared error by {excess.max():.3g}.")

    @property
    def clean_mse(self) -> Array:
        """Mean squared errors, shape (m,)."""
        return np.asarray(self.clean.mean(axis=-1))

    @property
    def attacked_mse(self) -> Array:
        """Mean attacked squared errors, shape (m, r): lower bounds on the worst-case mean."""
        return np.asarray(self.attacked.mean(axis=-1))

    @property
    def certified_mse(self) -> Array:
        """Mean certified squared errors, shape (m, r): upper bounds on the worst-case mean."""
        return np.asarray(self.certified.mean(axis=-1))

    @property
    def lipschitz(self) -> Array:
        """Certified Lipschitz bounds (l2), shape (m,)."""
        return np.array([certificate.bound for certificate in self.certificates])

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
    certificates: Mapping[str, Certificate] | None = None,
    random_state: Any = None,
    **options: Any,
) -> RobustnessTable:
    """Attack and certify every model at every radius; everything is recomputed from the networks.

    A larger ball contains a smaller one, so what was reached at a smaller radius counts at a larger one.

    Parameters
    ----------
    models : mapping of str to model
        Regressors with one output, anything that :func:`convexnn.network.as_network` takes.
    X : array-like, shape (n, d)
        Raw input units of the models.
    y : array-like, shape (n,)
    radii : sequence of float
        Nonnegative, input units.
    norm : {"l2", "linf"}
    clip : pair of float or array, optional
        Data range that perturbed inputs keep.
    certificates : mapping of str to Certificate, optional
        l2 Lipschitz certificates to use; a missing one is computed. Each is checked against its network.
    random_state : int, Generator, RandomState or None
        Of the attacks.
    **options
        ``method``, ``steps``, ``restarts`` of :func:`convexnn.attacks.attack`.

    Returns
    -------
    RobustnessTable

    Raises
    ------
    InvalidInputError
        For unusable radii, an unknown norm or networks with several outputs.
    CertificateError
        When a given certificate does not check, or an attack exceeds a certificate.
    """
    sizes = _checked_radii(radii)
    if norm not in BALLS:
        raise InvalidInputError(f"norm must be one of {tuple(BALLS)}, got {norm!r}.")
    if not models:
        raise InvalidInputError("No models were given; a mapping from names to models is needed.")
    networks = {name: _scalar_network(name, model) for name, model in models.items()}
    given = certificates or {}
    proofs = {name: given[name] if name in given else lipschitz(network) for name, network in networks.items()}
    points, targets = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    threats = [BALLS[norm](radius, clip=clip) for radius in sizes]
    columns = [
        (
            (network(points) - targets) ** 2,
            _attacked(network, points, targets, threats, random_state, options),
            np.stack([certified_squared_error(network, points, targets, t, proofs[name]) for t in threats]),
        )
        for name, network in networks.items()
    ]
    clean, attacked, certified = (np.stack(part) for part in zip(*columns, strict=True))
    return RobustnessTable(tuple(networks), sizes, norm, clean, attacked, certified, tuple(proofs.values()))


def _attacked(
    network: Network, X: Array, y: Array, threats: Sequence[Threat], random_state: Any, options: Mapping[str, Any]
) -> Array:
    reached = [attack(network, X, y, threat, random_state=random_state, **options).values for threat in threats]
    best: Array = np.maximum.accumulate(np.stack(reached), axis=0)
    return best


def _checked_radii(radii: Sequence[float]) -> Array:
    sizes = np.unique(np.asarray(radii, dtype=float))
    if sizes.size == 0 or not np.isfinite(sizes).all() or sizes[0] < 0:
        raise InvalidInputError(f"radii must be finite and nonnegative, at least one, got {list(np.ravel(radii))}.")
    return sizes


def _scalar_network(name: str, model: Any) -> Network:
    network = as_network(model)
    if network.n_outputs != 1:
        raise InvalidInputError(f"The table needs regressors with one output; {name!r} has {network.n_outputs}.")
    return network
