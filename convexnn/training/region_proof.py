"""From trained groups to a network in raw inputs whose negativity on the regions is proved for its stored weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.regions.region import Region
from convexnn.training.region_frame import UnitFrame
from convexnn.training.region_majorants_torch import Groups

Array = NDArray[np.float64]

MARGIN = 1e-9  # relative, of the shift: what its own rounding may cost
TRIES = 12


@dataclass(frozen=True, eq=False)
class Evidence:
    """Majorants of one region in its unit variable, one a group: ``al (v'e)^2 + be v'e``, shape (n,) each."""

    curvature: Array
    slope: Array


@dataclass(frozen=True, eq=False)
class RawNetwork:
    """Units in raw inputs: W (h, d), b, v (h,), the group of each unit, evidence of each region, the factor of v."""

    W: Array
    b: Array
    v: Array
    groups: NDArray[np.intp]
    evidence: tuple[Evidence, ...]
    factor: float

    def network(self, bias: float) -> Network:
        """The network with an output bias."""
        return Network.shallow(self.W, self.b, self.v, bias)


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
    factor = 2.0 ** round(math.log2(scale)) if math.isfinite(scale) and scale > 0 else 1.0
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
    return RawNetwork(signs[:, None] * W[group], biases, factor * c[group, unit], number, tuple(evidence), factor)


def proved(raw: RawNetwork, regions: Sequence[Region], margin: float = 0.0) -> tuple[Network, tuple[Any, ...]]:
    """Shift the output bias until ``f < 0`` on every region is proved, and return network and certificates.

    The bound of the unshifted network is rounded up; the bias of the shifted one is a float64 number, and that network
    is proved again.

    Parameters
    ----------
    raw : RawNetwork
    regions : sequence of Region
    margin : float, default 0.0
        Nonnegative; subtracted as well.

    Raises
    ------
    CertificateError
        When no finite bound can be proved, which takes weights near overflow.
    """
    bound = _largest(certified(raw, raw.network(0.0), regions))
    for attempt in range(TRIES):
        shift = bound + 4.0**attempt * MARGIN * max(abs(bound), 1.0)
        if not math.isfinite(shift):
            break
        network = raw.network(-shift - margin)
        certificates = certified(raw, network, regions)
        if _largest(certificates) < 0.0:
            return network, certificates
    raise CertificateError("No finite bound of the network could be proved on the regions; are its weights huge?")


def _largest(certificates: Sequence[Any]) -> float:
    return max(float(certificate.bound) for certificate in certificates)


def certified(raw, network, regions):
    from types import SimpleNamespace
    from convexnn.regions.ridges import Units
    from convexnn.regions.check import units_bound

    out = []
    for region, ev in zip(regions, raw.evidence, strict=True):
        W, b = region.first_layer(network.W, network.b)
        u = Units(W, b, raw.v, float(np.ravel(network.c)[0]), region.kind, groups=raw.groups)
        out.append(SimpleNamespace(bound=units_bound(u, ev.curvature, ev.slope)))
    return tuple(out)
