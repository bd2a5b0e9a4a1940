"""Polytopes: boxes and ranges by any multipliers, bounds of networks on them, and networks trained to be safe there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn import region_bound
from convexnn.certificate import Certificate
from convexnn.certificates.region_facets import facet_bound
from convexnn.certificates.region_polytope import certified_polytope
from convexnn.cli import main
from convexnn.estimators.safe_region_fit import trainer_name
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.regions import Polytope, as_region, rotated_box
from convexnn.regions.polytope_programs import highest
from convexnn.regions.polytope_support import exact_support, proved_box, support_up
from convexnn.training.region_facets import FacetOptions, train_region_facets

QUICK = FacetOptions(pricing_steps=200, steps=20, batch_size=128, random_state=0)


def corner(d):
    """``{x >= 0, sum x <= 1}``: its vertices are the origin and the unit vectors."""
    return Polytope(np.vstack([-np.eye(d), np.ones((1, d))]), np.r_[np.zeros(d), 1.0])


def simplex(d, rng):
    """The simplex of d + 1 random points."""
    V = rng.standard_normal((d + 1, d))
    inverse = np.linalg.inv(np.column_stack([V, np.ones(d + 1)]))  # barycentric coordinates are (x, 1) inverse >= 0
    return Polytope(-inverse[:d].T, inverse[d])


def cut_cube(d, rng):
    """A rotated cube without one corner, off the origin."""
    Q, u, shift = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.standard_normal(d), rng.standard_normal(d)
    A = np.vstack([Q, -Q, u / np.linalg.norm(u)])
    return Polytope(A, np.r_[np.ones(2 * d), 0.7] + A @ shift)


def shell(polytope, factor):
    """Sampler on the surface of the polytope blown up from its center."""
    center = polytope.center

    def draw(n, rng):
        D = rng.standard_normal((n, polytope.n_inputs))
        gauge = ((D @ polytope.A.T) / (polytope.b - polytope.A @ center)).max(axis=1)
        return center + factor * D / gauge[:, None]

    return draw


def pairs(d, n, rng):
    U = rng.standard_normal((n, d))
    return Network.shallow(np.vstack([U, -U]), rng.standard_normal(2 * n), rng.standard_normal(2 * n), 0.3)


def hostile(lam, rng):
    """Multipliers of other orders of magnitude, signs and kinds than those that were found."""
    spoiled = lam * (1.0 + 0.1 * rng.standard_normal(lam.shape))
    broken = np.where(rng.random(lam.shape) < 0.3, rng.choice([np.nan, np.inf, -1.0, 1e300, 0.0], lam.shape), lam)
    return spoiled, broken, np.zeros_like(lam), 10.0 ** rng.uniform(-320, 300, lam.shape)


def fractions(values):
    return np.array([Fraction(float(x)) for x in np.ravel(values)], dtype=object).reshape(np.shape(values))


def test_any_multipliers_bound_linear_functions(rng):
    """u.x of the vertices of a simplex <= exact bound <= rounded bound, without tolerance; those of HiGHS are tight."""
    P, U = corner(3), rng.standard_normal((4, 3)) * 10.0 ** rng.uniform(-8, 8, (4, 1))
    true = np.array([max(u.max(), Fraction(0)) for u in fractions(U)])
    lam = highest(P.rows, U, P.box)[0]
    for weights in (lam, *hostile(lam, rng)):
        exact, rounded = exact_support(P.rows, U, weights, P.box), support_up(P.rows, U, weights, P.box)
        assert (true <= exact).all()
        assert all(np.isinf(top) or e <= Fraction(float(top)) for e, top in zip(exact, rounded, strict=True))
    gap = support_up(P.rows, U, lam, P.box) - true.astype(float)
    assert (gap <= 1e-12 * np.abs(U).max(axis=1)).all()


def test_boxes_hold_the_polytope_whatever_proves_them(rng):
    P = corner(4)
    assert np.allclose(P.lower, 0.0, atol=1e-12)
    assert np.allclose(P.upper, 1.0, atol=1e-12)
    found = 0
    for proof in (P.proof, *hostile(P.proof, rng), P.proof * 1.001):
        for support in (support_up, exact_support):
            box = proved_box(P.rows, proof, support)
            if box is not None:
                assert (box[0] <= 0).all()
                assert (box[1] >= 1).all()
                found += 1
    assert found >= 4
    wider = Polytope.stored(P.A, P.b, P.proof * 1.001, np.zeros((0, 4)))
    assert (wider.upper > P.upper).all()
    with pytest.raises(InvalidInputError, match="not proved to be bounded"):
        Polytope.stored(P.A, P.b, 0 * P.proof, np.zeros((0, 4)))


def test_points_of_polytopes(rng):
    P = simplex(3, rng)
    X = P.sample(200, rng)
    assert P.contains(X, 0.0).all()
    assert P.contains(P.center[None], 0.0).all()
    assert not P.contains(shell(P, 1.001)(200, rng)).any()
    assert P.contains(P.vertices(rng.standard_normal((5, 3)))).all()
    assert Polytope(P.A, P.b) == P
    flat = Polytope([[1.0, 1.0], [-1.0, -1.0]], [0.0, 0.0], -1.0, [1.0, 2.0])
    assert flat.contains([[0.5, -0.5], [0.5, 0.5]]).tolist() == [True, False]


@pytest.mark.parametrize("box", [True, False])
def test_attained_below_exact_below_rounded(box, rng):
    for d in (2, 4):
        A, b = rng.standard_normal((2 * d, d)), rng.random(2 * d) + 0.2
        wide = np.vstack([A, np.eye(d), -np.eye(d)])
        P = Polytope(A, b, -2.0, 2.0) if box else Polytope(wide, np.r_[b, np.full(2 * d, 2.0)])
        net = pairs(d, 4, rng)
        exact, rounded = (region_bound(net, P, method="facets", arithmetic=k) for k in ("exact", "float64+slack"))
        assert max(net(P.sample(300, rng)).max(), exact.lower) <= exact.bound <= rounded.bound
        assert rounded.bound <= exact.bound + 1e-9
        assert exact.check(net) == exact.bound
        assert rounded.check(net) == rounded.bound
        assert certified_polytope(rounded) == P


def test_a_box_as_a_polytope_has_the_bound_of_the_box(rng):
    center, half, net = rng.standard_normal(3), rng.random(3) + 0.1, pairs(3, 5, rng)
    P = Polytope(np.vstack([np.eye(3), -np.eye(3)]), np.r_[center + half, half - center])
    assert region_bound(net, P).bound == pytest.approx(facet_bound(net, rotated_box(center, half)).bound, abs=1e-9)


def test_spoiled_certificates_are_looser_or_refused(rng, tmp_path):
    P, net = corner(3), pairs(3, 4, rng)
    found = region_bound(net, P, method="facets")
    loaded = Certificate.load(found.save(tmp_path / "proof.npz"))
    assert loaded.check(net) == found.bound
    net.save(tmp_path / "net.npz")
    assert main(["check", str(tmp_path / "proof.npz"), str(tmp_path / "net.npz")]) == 0
    top = float(net(np.vstack([np.zeros(3), np.eye(3)])).max())

    def claim(bound, **changes):
        spoiled = {**found.multiplier, **changes}
        return Certificate(found.quantity, bound, 0.0, "region", found.method, spoiled, net.fingerprint())

    for lam in hostile(found.multiplier["multipliers"], rng):
        assert top <= claim(np.inf, multipliers=lam).check(net)
    with pytest.raises(CertificateError, match="not the claimed"):
        claim(found.bound, multipliers=0 * found.multiplier["multipliers"]).check(net)
    with pytest.raises(CertificateError, match="not the claimed"):
        claim(found.bound - 1e-6).check(net)
    for changes in ({"multipliers": np.zeros((1, 2, 4))}, {"proof": np.zeros((6, 4))}, {"proof": np.zeros(3)},
                    {"b": np.zeros(3)}, {"A": np.full((4, 3), np.nan)}, {"extra": np.zeros(1)}):  # fmt: skip
        with pytest.raises(CertificateError):
            claim(np.inf, **changes).check(net)


def test_what_is_no_polytope_is_refused(rng):
    net, P = pairs(2, 2, rng), corner(2)
    for A, b, match in (
        ([[1.0, 0.0], [-1.0, 0.0]], [0.0, -1.0], "empty"),
        ([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0], "unbounded"),
        (np.zeros((0, 2)), [], "no rows"),
        ([[1.0, 0.0]], [1.0, 2.0], "shape"),
        ([[1.0, np.nan]], [1.0], "NaN"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            Polytope(A, b)
    with pytest.raises(InvalidInputError, match="empty"):
        Polytope([[1.0, 0.0]], [-2.0], -1.0, 1.0)
    with pytest.raises(InvalidInputError, match="both"):
        Polytope([[1.0, 0.0]], [-2.0], lower=-1.0)
    for region, method in ((P, "paired"), ([P, P], "facets")):
        with pytest.raises(InvalidInputError, match="method='facets'"):
            region_bound(net, region, method=method)
    with pytest.raises(InvalidInputError, match="coordinates"):
        region_bound(net, corner(3))
    with pytest.raises(InvalidInputError, match=r"lower and upper must be numbers or have shape \(2,\)"):
        Polytope([[1.0, 0.0]], [1.0], [0.0, 0.0, 0.0], 1.0)
    for chosen, regions in (("pairs", [P]), ("facets", [P, P])):
        with pytest.raises(InvalidInputError, match="Around a Polytope P lies ellipsoid"):
            trainer_name(chosen, regions)
    with pytest.raises(InvalidInputError, match=r"P\.lower, P\.upper\), which contains it"):
        as_region(P, 2)
    flat = Polytope([[1.0, 1.0], [-1.0, -1.0]], [0.0, 0.0], -1.0, 1.0)
    with pytest.raises(InvalidInputError, match="flat"):
        train_region_facets(flat, np.full((3, 2), 2.0), options=QUICK)


@pytest.mark.parametrize(("make", "d"), [(simplex, 3), (cut_cube, 4)])
def test_facets_of_polytopes_are_found(make, d, rng):
    """Exactly proved safe, most of what lies outside accepted, and not by the start."""
    P = make(d, rng)
    found = train_region_facets(P, shell(P, 1.3)(1500, rng), np.ones(1500), options=QUICK)
    assert found.certificate.arithmetic == "exact"
    assert found.lower <= found.bound < 0
    assert found.check() == found.bound
    assert found.network(P.sample(500, rng)).max() < 0
    assert found.network(shell(P, 1.3)(5000, rng)).__gt__(0).mean() >= 0.99
    assert found.start_accuracy < 0.7
    assert len(found.network.W) == 3 * d


@pytest.mark.slow
@pytest.mark.parametrize("make", [simplex, cut_cube])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_five_inputs_from_dense_starts(make, seed):
    rng = np.random.default_rng(seed)
    P = make(5, rng)
    found = train_region_facets(P, shell(P, 1.3), random_state=seed)
    assert found.bound < 0
    assert found.network(P.sample(2000, rng)).max() < 0
    assert found.network(shell(P, 1.3)(20000, rng)).__gt__(0).mean() >= 0.99
    assert found.start_accuracy < 0.5
