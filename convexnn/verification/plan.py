"""Which methods run on a network, in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from convexnn.activations import LeakyReLU, Polynomial, ReLU
from convexnn.attacks import PGD, Attack, BestOf, CoordinateDescent, Exact
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.quadratic.form import is_quadratic
from convexnn.threats import Threat
from convexnn.verification.registry import METHODS, is_there

#: Relaxations for samples that are too large for the semidefinite one by interior points.
INSTEAD = ("alpha_crown", "sdp_first_order")

#: The attack before the expensive bounds; the strong one comes after them, when few samples are left.
MEDIUM = PGD(20, 2)


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


#: A stage among the methods: the strong attack.
ATTACK = "attack"


@dataclass(frozen=True)
class Plan:
    """What runs on a sample, in order.

    Attributes
    ----------
    cheap : tuple of str
        Methods that run on blocks of samples, after a short attack.
    attack : Attack
        That runs next, on whole blocks.
    heavy : tuple of str
        Methods for one sample after the other; "attack" is the strong attack.
    strong : Attack
    instead : tuple of str
        Heavy methods that run only where "sdp" gave no bound, because the sample is too large for it.
    """

    cheap: tuple[str, ...]
    attack: Attack
    heavy: tuple[str, ...]
    strong: Attack
    instead: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All methods in order."""
        return self.cheap + self.heavy


def choose_plan(network: Network, threat: Threat, method: str | Sequence[str], options: CertifyOptions) -> Plan:
    """The plan of a method or of several in order; "auto" looks at the activation, the depth, the size and the norm.

    Raises
    ------
    InvalidInputError
        For names that are not known.
    """
    strong = _strong_attack(network, options)
    if method == "auto":
        cheap, heavy = _automatic(network, threat)
        first = MEDIUM if ATTACK in heavy else strong
        return Plan(tuple(filter(_usable, cheap)), first, tuple(filter(_usable, heavy)), strong, INSTEAD)
    names = (method,) if isinstance(method, str) else tuple(method)
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise InvalidInputError(f"Unknown method {method!r}; expected 'auto' or names among {sorted(METHODS)}.")
    return Plan((), strong, names, strong)


def _automatic(network: Network, threat: Threat) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Methods for blocks, and methods for single samples."""
    if is_quadratic(network):
        return ("quadratic", "ibp", "crown"), ()
    if not isinstance(network.activation, ReLU | LeakyReLU):
        lipschitz = () if isinstance(network.activation, Polynomial) else ("max_gradient", "lipsdp")
        return ("ibp", "crown"), (ATTACK, "alpha_crown", *lipschitz)
    exact = ("branch_and_bound",) if threat.norm == "l2" else ("branch_and_bound", "milp")
    return ("ibp", "crown"), ("sdp", *INSTEAD, ATTACK, *exact)


def _usable(name: str) -> bool:
    return name == ATTACK or is_there(name)


def _strong_attack(network: Network, options: CertifyOptions) -> Attack:
    """Projected gradients from several starts; for polynomial networks also the exact attacks that apply."""
    pgd = PGD(options.steps, options.restarts)
    if not is_quadratic(network):
        return pgd
    return BestOf((Exact(required=False), CoordinateDescent(options.restarts, required=False), pgd))
