"""Region bounds from numbers at the ends of float64: products that vanish, quotients that overflow.

Every network here is evaluated by hand; a bound below its value would be false.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import Activation, Polynomial, ReLU, Tanh
from convexnn.certificates.region import region_bound
from convexnn.certificates.region_methods import Question, evaluated
from convexnn.network import Network
from convexnn.regions import ellipsoid, rotated_box
from convexnn.regions.region import Region
from convexnn.rigorous import is_psd_exact

LINE = rotated_box([0.0], [[1.0]])


def of_splits(network: Network, region: Region, **stored: object) -> float:
    arrays = {key: np.asarray(values, dtype=float) for key, values in stored.items()}
    return evaluated(Question(network, region, np.ones(1), "splits", False), arrays)


@pytest.mark.parametrize("small", [5e-324, 1e-300, 1e-200])
@pytest.mark.parametrize("make", [ellipsoid, rotated_box])
def test_groups_whose_pieces_are_beyond_float64_are_not_empty(make: Callable[..., Region], small: float) -> None:
    network = Network.shallow([[small, 0.0], [1e300, 1e300]], [0.3, 0.4], [1.0, 1.0], 0.5)
    region = make(np.zeros(2), np.ones(2))
    one = {"curvature": [[0.0]], "slope": [[0.0]], "rho": [[1.0, 1.0]]}
    assert of_splits(network, region, groups=[0, 0], tree=[[-1, 0]], **one) >= 1.2  # the value in the centre


@pytest.mark.parametrize(
    ("size", "curvature", "height"), [(0.5, 2.0**1023, 1e302), (2.0**508, 2.0**-1064, 2.0**-65)],
)  # fmt: skip
def test_huge_and_tiny_curvatures_that_cancel_hide_no_maximum(size: float, curvature: float, height: float) -> None:
    """A tent, and a group that is zero in the same direction; parts whose majorants cancel but for the top."""
    kinks, low, high = np.array([0.49, 0.5, 0.51]) * size, 0.49 * size, 0.51 * size
    steep = height / (0.01 * size)
    W, b, v = np.full((4, 1), size), np.array([0.0, *-kinks]), steep * np.array([0.0, 1.0, -2.0, 1.0])
    network = Network.shallow(W, b, v, 0.0)
    tree = [(0, low), (1, low), (-1, 0), (-1, 0), (0, high), (1, low), (-1, 0), (1, high), (-1, 0), (-1, 0), (1, high),
            (-1, 0), (-1, 0)]  # fmt: skip
    tilt = 2.0 ** np.ceil(np.log2(2.0 * steep))
    al, be = np.zeros((7, 2)), np.zeros((7, 2))
    for leaf, sign in ((1, -1.0), (2, 1.0), (4, -1.0), (5, 1.0)):  # parts of one point each
        be[leaf] = sign * tilt, -sign * tilt
    al[3], be[3] = (curvature, -curvature), (-curvature * size, curvature * size)
    found = of_splits(network, LINE, groups=[0, 1, 1, 1], tree=tree, curvature=al, slope=be, rho=np.zeros((7, 1)))
    assert float(network(np.array([[0.5]]))[0]) > 0.9 * height
    assert found >= 0.9 * height


@pytest.mark.parametrize(
    ("activation", "large", "small", "outer"),
    [(Polynomial(1.0, 0.0, 0.0), 1e150, 1e-20, 1e30), (ReLU(), 1e150, 1e20, 1e-200), (Tanh(), 1e150, 1e-14, 1e20)],
)
def test_ratios_within_a_group_do_not_vanish(activation: Activation, large: float, small: float, outer: float) -> None:
    network = Network.shallow([[large], [small]], [0.0, 0.0], [0.0, outer], 0.0, activation)
    top = float(network(np.array([[1.0]]))[0])
    assert top > 0
    for method in ("sdp_tight", "paired"):
        assert region_bound(network, LINE, method=method).bound >= top


def test_products_that_vanish_are_above_zero() -> None:
    network = Network.shallow([[1e-200]], [0.0], [1e-200], 0.0)  # 1e-400 at the end, which no float64 is
    for method in ("sdp_tight", "paired"):
        assert region_bound(network, LINE, method=method).bound > 0.0


def test_rational_matrices_may_be_beyond_float64() -> None:
    big = 10**400
    for number in (big, Fraction(big, 3)):
        assert is_psd_exact(np.array([[number, 1], [1, number]], dtype=object))
        assert not is_psd_exact(np.array([[-number, 1], [1, number]], dtype=object))
