"""From trained groups to a network in raw inputs whose negativity on the regions is proved for its stored weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import LeakyReLU, ReLU
from convexnn.certificate import Certificate
from convexnn.certificates.region import QUANTITY, THREAT, region_bound
from convexnn.certificates.region_lower import consistent
from convexnn.certificates.region_methods import Question, exact_rho
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.regions.region import BOX, Region
from convexnn.rigorous import UNIT
from convexnn.training.region_frame import UnitFrame
from convexnn.training.region_majorants_torch import Groups

Array = NDArray[np.float64]

MARGIN = 1e-9  # relative, of the shift: what its own rounding may cost
TRIES = 8
NEWTON = 1000  # groups up to which the majorants are optimized once more, by interior point steps


@dataclass(frozen=True)
class ProofEffort:
    """How the final bound is found and proved; fields as in :class:`RegionOptions`."""

    arithmetic: str
    finish: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """Majorants of one region in its unit variable, one a group: ``al (v'e)^2 + be v'e``, shape (n,) each."""

    curvature: Array
    slope: Array


@dataclass(frozen=True, eq=False)
class RawNetwork:
    """Units in raw inputs: W (h, d), b, v (h,), the group of each unit, evidence of each region, factor of v, leak."""

    W: Array
    b: Array
    v: Array
    groups: NDArray[np.intp]
    evidence: tuple[Evidence, ...]
    factor: float
    leak: float = 0.0

    def network(self, bias: float) -> Network:
        """The network with an output bias."""
        return Network.shallow(self.W, self.b, self.v, bias, LeakyReLU(self.leak) if self.leak else ReLU())


def power_of_two(scale: float) -> float:
    """The nearest one, by which a network is multiplied exactly; 1 where there is none."""
    return 2.0 ** round(math.log2(scale)) if math.isfinite(scale) and scale > 0 else 1.0


def raw_network(groups: Groups, frame: UnitFrame, scale: float) -> RawNetwork:
    """Fold the frame back into the weights and multiply the output by a power of two near ``scale`` (exactly).

    Parameters
    ----------
    groups : Groups
        In float64 on the CPU.
    frame : UnitFrame
    scale : float
    """
    U, S, b, c, al, be = (getattr(groups, name).numpy() for name in ("U", "S", "b", "c", "al", "be"))
    factor = power_of_two(scale)
    W, at_center = frame.raw(U)
    group, unit = np.nonzero(c)
    if not len(group):  # every output weight is zero: one unit stays
        group, unit = np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp)
    signs = S[group, unit]
    used, number = np.unique(group, return_inverse=True)
    leads = signs[np.unique(number, return_index=True)[1]]  # the direction of a group is that of its first unit
    evidence = []
    for ball, curvature, slope in zip(frame.balls, al, be, strict=True):
        start = np.zeros(len(U)) if ball.shift is None else U @ ball.shift
        tilt = (slope + 2.0 * curvature * start)[used] * leads
        evidence.append(Evidence(factor * curvature[used], factor * tilt))
    biases = b[group, unit] - signs * at_center[group]
    weights = signs[:, None] * W[group], biases, factor * c[group, unit]
    return RawNetwork(*weights, number, tuple(evidence), factor, groups.leak)


def proved(
    raw: RawNetwork, regions: Sequence[Region], effort: ProofEffort, margin: float = 0.0
) -> tuple[Network, tuple[Certificate, ...]]:
    """Shift the output bias until ``f < 0`` on every region is proved, and return network and certificates.

    The bound of the unshifted network is rounded up; the bias of the shifted one is a float64 number, and that network
    is proved again.

    Parameters
    ----------
    raw : RawNetwork
    regions : sequence of Region
    effort : ProofEffort
    margin : float, default 0.0
        Nonnegative; subtracted as well.

    Raises
    ------
    CertificateError
        When no finite bound can be proved, which takes weights near overflow.
    """
    plain = raw.network(0.0)
    found = [_best(plain, region, raw, one, effort) for region, one in zip(regions, raw.evidence, strict=True)]
    bound = max(certificate.bound for certificate in found)
    for attempt in range(TRIES):
        shift = bound + 4.0**attempt * MARGIN * max(abs(bound), 1.0)
        if not math.isfinite(shift):
            break
        network = raw.network(-shift - margin)
        certificates = tuple(_about(one, network, _lowered(one.lower, shift, margin)) for one in found)
        if max(certificate.bound for certificate in certificates) < 0.0:
            return network, certificates
    raise CertificateError("No finite bound of the network could be proved on the regions; are its weights huge?")


def _best(network: Network, region: Region, raw: RawNetwork, own: Evidence, effort: ProofEffort) -> Certificate:
    """The certificate with the smallest bound among the trained majorants and what else is worth trying."""
    found = [_of_majorants(network, region, raw.groups, own)]
    if len(own.curvature) <= NEWTON:
        found.append(region_bound(network, region, method="paired", time_limit=effort.seconds))
    best = min(found, key=lambda certificate: certificate.bound)
    if effort.arithmetic == "exact":
        best = _exactly(network, region, best)
    if effort.finish == "branch_and_bound":
        split = region_bound(network, region, method="splits", time_limit=effort.seconds, arithmetic=effort.arithmetic)
        found.append(split)
        best = min(best, split, key=lambda certificate: certificate.bound)
    attained = [certificate.lower for certificate in found if not math.isnan(certificate.lower)]
    return replace(best, lower=consistent(max(attained), best.bound) if attained else math.nan)


def _of_majorants(network: Network, region: Region, groups: NDArray[np.intp], own: Evidence) -> Certificate:
    multiplier = {
        "output": np.ones(1),
        "0/center": region.center,
        "0/axes": region.axes,
        "0/kind": np.array([float(region.kind == BOX)]),
        "0/groups": groups.astype(float),
        "0/curvature": own.curvature,
        "0/slope": own.slope,
        "0/rho": np.zeros(region.n_axes),  # of boxes; the one number of a ball is found by the check
    }
    draft = Certificate(QUANTITY, math.inf, 0.0, THREAT, "region_paired", multiplier, network.fingerprint())
    return _about(draft, network)


def _about(certificate: Certificate, network: Network, lower: float = math.nan) -> Certificate:
    """The claim that the same evidence proves for this network, recomputed; ``lower`` was attained, if anything."""
    draft = replace(certificate, bound=math.inf, lower=math.nan, fingerprint=network.fingerprint())
    bound = draft.check(network)
    return replace(draft, bound=bound, lower=consistent(lower, bound))


def _lowered(lower: float, shift: float, margin: float) -> float:
    """What a network attains with the output bias ``-shift - margin`` instead of zero, its rounding included."""
    return lower - shift - margin - 8.0 * UNIT * (abs(lower) + abs(shift) + margin)


def _exactly(network: Network, region: Region, certificate: Certificate) -> Certificate:
    """The same majorants over the rational numbers, with a multiplier of the ball lifted until that succeeds."""
    asked = Question(network, region, np.ones(1), "paired", True)
    stored = {key.removeprefix("0/"): values for key, values in certificate.multiplier.items()}
    multiplier = {**certificate.multiplier, "0/rho": exact_rho(asked, stored, certificate.bound)}
    draft = replace(certificate, method="region_paired_exact", arithmetic="exact", multiplier=multiplier)
    return _about(draft, network)
