"""Networks with two hidden layers in raw inputs, shifted until their negativity on the regions is proved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from convexnn.certificate import Certificate
from convexnn.certificates.region import region_bound
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.regions.region import Region
from convexnn.training.region_frame import UnitFrame
from convexnn.training.region_layers import Layers
from convexnn.training.region_proof import ProofEffort

MARGIN = 1e-7  # relative, of the shift: about what two runs of the solver differ by
TRIES = 10


def proved_layers(
    layers: Layers, frame: UnitFrame, factor: float, regions: Sequence[Region], effort: ProofEffort, margin: float = 0.0
) -> tuple[Network, tuple[Certificate, ...]]:
    """Fold the frame in, shift the output bias until ``f < 0`` on every region is proved; network and certificates.

    The multipliers of a certificate belong to one network, so that a shifted one is bounded anew.

    Parameters
    ----------
    layers : Layers
        In float64 on the CPU.
    frame : UnitFrame
    factor : float
        Of the output, a power of two.
    regions : sequence of Region
    effort : ProofEffort
    margin : float, default 0.0
        Nonnegative; subtracted as well.

    Raises
    ------
    CertificateError
        When no negative bound can be proved, which takes weights near overflow.
    """
    W1, b1, W2, b2, c = (getattr(layers, name).numpy() for name in ("W1", "b1", "W2", "b2", "c"))
    rows, at_center = frame.raw(W1)

    def network(bias: float) -> Network:
        return Network(((rows, b1 - at_center), (W2, b2), (factor * c[None], np.array([bias]))))

    bias = 0.0
    certificates = tuple(_best(network(bias), region, effort) for region in regions)
    for attempt in range(TRIES):
        bound = max(certificate.bound for certificate in certificates)
        if not math.isfinite(bound):
            break
        first = attempt == 0
        bias -= bound + 4.0**attempt * MARGIN * max(abs(bias), abs(bound), 1.0) + (margin if first else 0.0)
        shifted = network(bias)
        certificates = tuple(_best(shifted, region, effort) for region in regions)
        if max(certificate.bound for certificate in certificates) < 0.0:
            return shifted, certificates
    raise CertificateError("No finite bound of the network could be proved on the regions; are its weights huge?")


def _best(network: Network, region: Region, effort: ProofEffort) -> Certificate:
    """The certificate with the smallest bound among what is worth trying."""
    methods = ["arrow", *(["branch_and_bound"] if effort.finish == "branch_and_bound" else [])]
    found = [region_bound(network, region, method=name, time_limit=effort.seconds) for name in methods]
    best = min(found, key=lambda certificate: certificate.bound)
    if math.isfinite(best.bound):
        return best
    return region_bound(network, region, method="crown")
