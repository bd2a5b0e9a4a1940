"""Which methods run on a network, in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convexnn.activations import LeakyReLU, Polynomial, ReLU
from convexnn.attacks import PGD
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.quadratic.form import is_quadratic
from convexnn.threats import Threat
from convexnn.verification.registry import METHODS, is_there

#: Beyond so many hidden units the first-order method takes the place of the interior point method.
LARGE = 2500


@dataclass(frozen=True)
class CertifyOptions:
    """How hard a run tries; none of it can make a verdict wrong.

    Attributes
    ----------
    steps, restarts : int
        Of the strong projected gradient attack.
    tol : float
        Relative gap at which optimization stops.
    early_stop : bool
        Stop a method as soon as the sign of a bound is known, and leave falsified samples alone. False gives the best
        bounds of every sample, which takes longer.
    """

    steps: int = 40
    restarts: int = 5
    tol: float = 1e-4
    early_stop: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no count or no tolerance."""
        PGD(self.steps, self.restarts)
        if not 0 < self.tol < 1:
            raise InvalidInputError(f"tol must lie between 0 and 1, got {self.tol!r}.")


@dataclass(frozen=True)
class Options(CertifyOptions):
    """The options of a run with what is said apart.

    Attributes
    ----------
    sample_time_limit : float
        Wall seconds for the stages of one sample.
    keep_evidence : bool
    """

    sample_time_limit: float = math.inf
    keep_evidence: bool = False


@dataclass(frozen=True)
class Plan:
    """Methods in order of cost: cheap ones run on blocks of samples before the strong attack, the others after it."""

    cheap: tuple[str, ...]
    heavy: tuple[str, ...]
    attack: str = "pgd"

    @property
    def names(self) -> tuple[str, ...]:
        """All methods in order."""
        return self.cheap + self.heavy


def choose_plan(network: Network, threat: Threat, method: str | Sequence[str]) -> Plan:
    """The plan of a method or of several in order; "auto" looks at the activation, the depth, the size and the norm.

    Raises
    ------
    InvalidInputError
        For names that are not known.
    """
    attack = "best" if is_quadratic(network) else "pgd"
    if method == "auto":
        plan = _automatic(network, threat, attack)
        return Plan(tuple(filter(is_there, plan.cheap)), tuple(filter(is_there, plan.heavy)), attack)
    names = (method,) if isinstance(method, str) else tuple(method)
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise InvalidInputError(f"Unknown method {method!r}; expected 'auto' or names among {sorted(METHODS)}.")
    return Plan((), names, attack)


def _automatic(network: Network, threat: Threat, attack: str) -> Plan:
    if is_quadratic(network):
        return Plan(("quadratic",), (), attack)
    if not isinstance(network.activation, ReLU | LeakyReLU):
        lipschitz = () if isinstance(network.activation, Polynomial) else ("max_gradient", "lipsdp")
        return Plan(("ibp", "crown"), ("alpha_crown", *lipschitz), attack)
    relaxation = "sdp" if sum(network.n_hidden) <= LARGE else "sdp_first_order"
    exact = ("branch_and_bound",) if threat.norm == "l2" else ("branch_and_bound", "milp")
    return Plan(("ibp", "crown"), ("alpha_crown", relaxation, *exact), attack)
