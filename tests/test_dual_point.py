"""One conic program for a global lower bound: what comes out is recomputed, whatever the solver found."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn import InvalidInputError, train_global
from convexnn.global_gap import best_dual_point, dual_point, kappa_upper
from convexnn.global_gap.dual_point import BallProof, Cuts, proved_kappa
from convexnn.global_gap.kappa import magnitude, response
from convexnn.global_gap.l2_bound import DualBound


def teacher(rng, n=40, d=2):
    X = rng.normal(size=(n, d))
    y = np.maximum(np.c_[X, np.ones(n)] @ rng.normal(size=(d + 1, 4)), 0) @ rng.normal(size=4)
    return X, (y - y.mean()) / y.std() + 0.3 * rng.normal(size=n)


def test_one_conic_program_bounds_every_network(rng):
    X, y = teacher(rng)
    best = train_global(X, y, 0.05, tol=1e-3, random_state=0)
    bounds = [best_dual_point(X, y, 0.05, neighbours=k).lower for k in (0, 2, 6)]
    assert bounds == sorted(bounds)
    assert 0.7 * best.objective < bounds[-1] <= best.objective


def test_scales_weights_and_repetitions(rng):
    X, y = teacher(rng, 20)
    plain = best_dual_point(X, y, 0.05).lower
    for size in (1e-3, 1e3):
        assert best_dual_point(X, size * y, 0.05 * size).lower == pytest.approx(size**2 * plain, rel=1e-4)
    twice = best_dual_point(np.vstack([X, X[:4]]), np.r_[y, y[:4]], 0.05).lower
    weight = np.r_[np.full(4, 2.0), np.ones(16)]
    assert best_dual_point(X, y, 0.05, sample_weight=weight).lower == pytest.approx(twice, rel=1e-5)
    assert best_dual_point(X, np.ones(20), 0.05).lower == 0
    with pytest.raises(InvalidInputError, match="neighbours"):
        best_dual_point(X, y, 0.05, neighbours=-1)


def test_no_proof_goes_below_kappa(rng):
    X = np.c_[rng.normal(size=(15, 2)), np.ones(15)]
    nu = rng.normal(size=15)
    cuts = Cuts.nearest(X, 3)
    size, kappa = 15 + len(cuts.t), kappa_upper(X, nu, tol=1e-7).lower
    for scale in (1e-3, 0.3, 10.0):
        for _ in range(20):
            parts = [scale * rng.normal(size=s) for s in (len(cuts.t), size, size)]
            parts[1] = np.abs(parts[1]) if rng.random() < 0.5 else parts[1]
            assert proved_kappa(X, nu, cuts, (BallProof(*parts), BallProof(*parts))) >= kappa
    broken = BallProof(parts[0], np.full(size, np.nan), parts[2])
    assert proved_kappa(X, nu, cuts, (broken, broken)) == np.inf


def test_cuts_hold_everywhere(rng):
    X = np.c_[rng.normal(size=(12, 2)), np.ones(12)]
    cuts = Cuts.nearest(X, 4)
    assert (cuts.t > 0).all()
    rows, W = cuts.rows(X), rng.normal(size=(500, 3))
    extra = cuts.coefficients(12) @ rng.random(len(cuts.t))
    assert (response(rows, extra, W) >= -1e-12).all()


def test_a_failed_solver_gives_the_trivial_bound(rng, monkeypatch):
    X, y = teacher(rng, 10)
    monkeypatch.setattr(dual_point, "_solve", lambda *_: None)
    assert best_dual_point(np.vstack([X, X[:1]]), np.r_[y, y[0] + 2], 0.1).lower == pytest.approx(
        2 / 11
    )  # 2 (1/2 + 1/2)


def test_the_bound_of_corrupted_multipliers_is_still_one(rng, monkeypatch):
    X, y = teacher(rng, 30)
    best = train_global(X, y, 0.05, random_state=0)
    honest = dual_point._solve

    def noisy(*arguments):
        nu, proofs = honest(*arguments)
        shaken = [
            BallProof(p.pairs + 0.01 * rng.normal(size=p.pairs.shape), p.quadratic * rng.random(), p.linear * 1.1)
            for p in proofs
        ]
        return nu * (1 + 0.1 * rng.normal(size=nu.shape)), tuple(shaken)

    monkeypatch.setattr(dual_point, "_solve", noisy)
    for _ in range(5):
        found = best_dual_point(X, y, 0.05)
        assert 0 <= found.lower <= best.objective
        assert found.kappa.upper <= 100 * magnitude(np.c_[X, np.ones(30)], found.nu)


def test_many_columns_use_the_conic_program(rng):
    X, y = teacher(rng, 40, 9)
    found = train_global(X, y, 0.3, tol=0.05, random_state=0, time_limit=30)
    assert found.status == "global"
    assert found.lower_bound <= found.objective


def test_underflowed_products_prove_nothing():
    """A quadratic part of 5e-324 has no digits left; the best scaling by it is no bound."""
    assert DualBound(0.0, 1e-160, 5e-324, 0.1, 0.0).lower(1e-161) == 0.0
    assert DualBound(0.0, 1.0, 1.0, 0.1, 0.0).lower(0.1) == 0.25
