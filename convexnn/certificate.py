"""What is claimed, for which network, by which multiplier; anybody can check it again.

A theorem's module registers a *check*: a small function that recomputes the bound from a network and
a multiplier. A :class:`Certificate` never carries evidence that its check did not produce.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.archive import read_archive, write_archive
from convexnn.decimals import written
from convexnn.exceptions import CertificateError, ConvexNNError, InvalidInputError
from convexnn.inputs import refuse_complex
from convexnn.network import Network
from convexnn.values import ByValue

Array = NDArray[np.float64]
Check = Callable[[Network, Mapping[str, Array]], float]

FORMAT = "convexnn.certificate"
VERSION = 1
#: Modules that register checks: loaded when a method is not known yet, since nothing imports them before they are used.
HOMES = (
    "certificates.lipschitz", "certificates.region", "certificates.region_polytope", "certificates.subjects",
)  # fmt: skip
_CHECKS: dict[str, Check] = {}
_CLAIMS: dict[str, tuple[str | None, str | None, str]] = {}


def register_check(
    method: str,
    check: Check,
    *,
    quantity: str | None = None,
    threat: str | None = None,
    arithmetic: str = "float64+slack",
) -> Check:
    """Make ``check(network, multiplier) -> upper bound`` the verifier of certificates of ``method``.

    ``quantity`` and ``threat`` say what the check bounds, ``arithmetic`` how it computes; a certificate of this
    method that claims something else is then refused.
    """
    _CHECKS[method] = check
    _CLAIMS[method] = (quantity, threat, arithmetic)
    return check


def registered_methods() -> tuple[str, ...]:
    """Names of the methods whose certificates can be checked."""
    _load_checks()
    return tuple(sorted(_CHECKS))


def _load_checks() -> None:
    for home in HOMES:
        import_module(f"convexnn.{home}")


@contextmanager
def readable_multipliers() -> Iterator[None]:
    """CertificateError where a check trips over arrays that hold no numbers, such as strings."""
    try:
        yield
    except ConvexNNError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise CertificateError(f"The multiplier does not hold numbers that the check can read: {error}") from error


@dataclass(frozen=True, eq=False)
class Certificate(ByValue):
    """An upper bound on a quantity of one network, with the multiplier that proves it.

    Attributes
    ----------
    quantity : str
        What is bounded, e.g. ``"lipschitz"``.
    bound : float
        The upper bound, rounding slack included; ``inf`` when nothing could be proved.
    slack : float
        How much of ``bound`` is there to cover floating-point rounding.
    threat : str
        Norm of the input perturbation the statement is about, ``"l2"`` or ``"linf"``, raw input units.
    method : str
        Name of the theorem; its registered check recomputes the bound.
    multiplier : mapping of str to array
        Any multiplier gives a valid bound; a bad one only a loose bound.
    fingerprint : str
        SHA-256 of the network the statement is about.
    arithmetic : str
        ``"float64+slack"`` or ``"exact"``.
    lower : float
        A value that the bound cannot be below (``nan`` when not computed); shows how tight it is.
    details : mapping of str to str or float
        Anything worth printing; never used by the check.
    """

    quantity: str
    bound: float
    slack: float
    threat: str
    method: str
    multiplier: Mapping[str, Array] = field(repr=False)
    fingerprint: str = field(repr=False)
    arithmetic: str = "float64+slack"
    lower: float = math.nan
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def check(self, network: Network) -> float:
        """Recompute the bound for ``network`` from the multiplier alone.

        Returns
        -------
        float
            The recomputed upper bound, at most the claimed ``bound`` up to 1e-12 of it (another order of summation).

        Raises
        ------
        CertificateError
            When the network is another one, the claim is not what the method proves or contradicts itself, or the
            multiplier does not prove the claimed bound.
        """
        if network.fingerprint() != self.fingerprint:
            raise CertificateError("The certificate is about another network: the fingerprints differ.")
        if self.method not in _CHECKS:
            _load_checks()
        if self.method not in _CHECKS:
            raise CertificateError(f"No check is known for the method {self.method!r}; known: {registered_methods()}.")
        self._refuse_other_claims()
        refuse_complex(self.multiplier)
        with readable_multipliers():
            bound = float(_CHECKS[self.method](network, self.multiplier))
        tolerance = 1e-12 * abs(self.bound) if math.isfinite(self.bound) else 0.0
        if math.isnan(bound) or math.isnan(self.bound) or bound > self.bound + tolerance:
            raise CertificateError(
                f"The multiplier proves {self.quantity} <= {bound:.10g}, not the claimed {self.bound:.10g}."
            )
        if not self.slack >= 0 or self.lower > self.bound:
            raise CertificateError(
                f"The claim contradicts itself: bound {self.bound:.10g}, slack {self.slack:.10g} (at least zero), "
                f"lower {self.lower:.10g} (at most the bound)."
            )
        return bound

    def _refuse_other_claims(self) -> None:
        quantity, threat, arithmetic = _CLAIMS[self.method]
        if quantity not in (None, self.quantity) or threat not in (None, self.threat):
            raise CertificateError(
                f"The claim is about {self.quantity} ({self.threat}), "
                f"but a {self.method} certificate is about {quantity} ({threat})."
            )
        if self.arithmetic != arithmetic:
            raise CertificateError(f"A {self.method} certificate is {arithmetic!r}, not {self.arithmetic!r}.")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write claim and multipliers to an ``.npz`` file (plain arrays and a JSON header, no pickle)."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "quantity": self.quantity,
            "bound": repr(float(self.bound)),
            "slack": repr(float(self.slack)),
            "lower": repr(float(self.lower)),
            "threat": self.threat,
            "method": self.method,
            "fingerprint": self.fingerprint,
            "arithmetic": self.arithmetic,
            "details": dict(self.details),
        }
        return write_archive(path, header, {f"multiplier_{name}": a for name, a in self.multiplier.items()})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read a certificate written by :meth:`save`. It proves nothing until :meth:`check` is called."""
        header, arrays = read_archive(path, format=FORMAT, version=VERSION)
        try:
            multiplier = {name.removeprefix("multiplier_"): np.asarray(a, dtype=float) for name, a in arrays.items()}
            return cls(
                quantity=str(header["quantity"]),
                bound=float(header["bound"]),
                slack=float(header["slack"]),
                threat=str(header["threat"]),
                method=str(header["method"]),
                multiplier=multiplier,
                fingerprint=str(header["fingerprint"]),
                arithmetic=str(header["arithmetic"]),
                lower=float(header["lower"]),
                details=dict(header["details"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{path} does not hold a valid certificate: {error}") from error

    def __str__(self) -> str:
        """One line: quantity, direction, bound (rounded up), method."""
        return f"{self.quantity} ({self.threat}) <= {written(self.bound, 8)} by {self.method}, {self.arithmetic}"
