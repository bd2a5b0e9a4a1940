"""Products of two units in the semidefinite relaxation, and the linear relaxation beside it: what both must keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn.exceptions import CertificateError
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.propagation.query import Effort
from convexnn.relaxations.arrow import SDP
from convexnn.relaxations.arrow.certifier import propose_sdp
from convexnn.relaxations.arrow.evidence import Reader, linear_bounds
from convexnn.relaxations.arrow.linear_prices import triangle_values
from convexnn.relaxations.arrow.method import minimize
from convexnn.relaxations.arrow.problem import ArrowProblem
from convexnn.relaxations.arrow.products import stored, with_products
from convexnn.relaxations.arrow.targets import PLAIN, Strengthening, relaxation_of
from convexnn.relaxations.linear import LP
from convexnn.relaxations.reference import sdp_reference
from convexnn.verification.exact import exact_values
from convexnn.verification.exact_numbers import fraction, rational
from tests._arrow_instances import SETS, random_query, sampled_maximum
from tests.certifier_cases import attained

TIGHT = Effort(tol=1e-7)
ROUNDS = 8
#: Boxes always, the other sets in the slow suite.
QUICK_BOX = [pytest.param(kind, marks=[] if kind == "box" else pytest.mark.slow) for kind in SETS]


def strengthened(query, row=0):
    """The relaxation after products were added until none is violated, and its outcome for a row."""
    relaxation = replace(relaxation_of(query, crown_bounds(query)), triangle=True)
    for _ in range(ROUNDS):
        outcome = minimize(ArrowProblem(relaxation, relaxation.forms.outputs[row]), TIGHT)
        more = with_products(relaxation, outcome.primal)
        if more is None:
            break
        relaxation = more
    return relaxation, outcome


def open_query(rng, kind, widths=(5, 8, 6, 2), rows=1):
    """One whose bound has a gap, so that products are worth a second run."""
    for _ in range(50):
        query = random_query(rng, widths, kind, radius=1.2, rows=rows)
        evidence = propose_sdp(query, Effort())
        if any(key.endswith("products") for key in evidence.multiplier):
            return query, evidence
    raise AssertionError("no gap in 50 networks")


@pytest.mark.parametrize("kind", QUICK_BOX)
def test_all_violated_products_give_the_value_of_all_products(rng, kind):
    query, _ = open_query(rng, kind, (4, 6, 2))
    bounds = crown_bounds(query)
    options = {"tol_gap_rel": 1e-8, "tol_gap_abs": 1e-8, "tol_feas": 1e-8}
    plain, expected = (
        sdp_reference(query, bounds, triangle=True, products=products, **options)[0] for products in (False, True)
    )
    relaxation, outcome = strengthened(query)
    assert len(relaxation.products)
    assert expected < plain - 3e-4  # they do something
    np.testing.assert_allclose(outcome.bound, expected, atol=3e-5)


@pytest.mark.parametrize("kind", SETS)
def test_products_only_tighten_and_never_below_what_is_attained(rng, kind):
    query, evidence = open_query(rng, kind, rows=2)
    plain = SDP.check(query, propose_sdp(query, Effort(), extra=PLAIN).multiplier)
    found = SDP.check(query, evidence.multiplier)
    assert np.all(found <= plain)
    assert np.any(found < plain - 1e-4)
    assert np.all(found >= sampled_maximum(rng, query))


@pytest.mark.parametrize("kind", QUICK_BOX)
def test_corrupted_products_never_prove_too_much(rng, kind):
    query, evidence = open_query(rng, kind, (3, 5, 2), rows=2)
    reached = attained(query, rng)
    low = np.array([float(fraction(v)) for v in reached]) - 1e-12
    key = next(key for key in evidence.multiplier if key.endswith("products"))
    good = evidence.multiplier[key]
    numbers = [
        -good[:, 2],
        1e6 * good[:, 2],
        rng.permutation(good[:, 2]),
        1e300 * good[:, 2],
        np.full(len(good), np.nan),
    ]
    triples = [np.column_stack([good[:, :2], values]) for values in numbers]
    triples += [good[:, [1, 0, 2]], np.repeat(good, 3, axis=0), good[:0], good * [0, 0, 1]]
    triples += [np.column_stack([good[:, 0], good[:, 0], good[:, 2]])]  # a unit with itself
    for bad in triples:
        found = SDP.check(query, {**evidence.multiplier, key: bad})
        assert np.all(found >= low)
        assert np.all(found <= linear_bounds(query, crown_bounds(query)))
        assert np.all(exact_values(query, "sdp", {**evidence.multiplier, key: bad}) >= reached)


def test_wrong_products_are_refused(rng):
    query, evidence = open_query(rng, "box")
    good = evidence.multiplier["row0/products"]
    for bad in (good[:, :2], good[0], good + [0.5, 0, 0], good + [100, 0, 0], -good, good * [np.nan, 1, 1]):
        with pytest.raises(CertificateError, match="Products"):
            SDP.check(query, {**evidence.multiplier, "row0/products": bad})


@pytest.mark.parametrize("kind", SETS)
def test_the_exact_check_reads_products_and_prices(rng, kind):
    query, evidence = open_query(rng, kind, (3, 5, 2))
    multiplier = {**evidence.multiplier, **LP.propose(query, Effort()).multiplier}
    rounded, exact = SDP.check(query, multiplier), exact_values(query, "sdp", multiplier)
    assert exact[0] <= rational(float(rounded[0]))
    assert rounded[0] <= float(fraction(exact[0])) + 1e-6 * (1 + abs(rounded[0]))
    assert exact[0] >= max(attained(query, rng))
    prices = {key: value for key, value in multiplier.items() if "price" in key}
    np.testing.assert_array_equal(SDP.check(query, prices), np.minimum(LP.check(query, prices), SDP.check(query, {})))


def test_rounding_costs_little_with_products(rng):
    for scale in (1e-3, 1.0, 1e3):
        query = random_query(rng, (6, 9, 2), "box", radius=1.0, scale=scale)
        relaxation, outcome = strengthened(query)
        y, nu, products = stored(relaxation, outcome.v)
        found = Reader.of(query, crown_bounds(query)).for_length(y.shape).bound(0, y, nu, products)
        assert outcome.bound <= found <= outcome.bound + 1e-7 * (1.0 + abs(outcome.bound))


@pytest.mark.parametrize("kind", SETS)
def test_the_simple_point_of_the_triangles_is_below_their_program(rng, kind):
    close = []
    for widths in ((3, 5, 2), (4, 6, 5, 2)):
        query = random_query(rng, widths, kind, radius=1.0, rows=3)
        low, bounds = (
            triangle_values(query, crown_bounds(query)),
            LP.check(query, LP.propose(query, Effort()).multiplier),
        )
        assert np.all(low <= bounds)
        assert np.all(np.isfinite(low))  # linear bounds contain it
        close.append((bounds - low).min())
    assert min(close) < 0.2


def test_prices_are_added_only_where_the_linear_relaxation_might_win(rng):
    added = 0
    for _ in range(15):
        query = random_query(rng, (2, 4, 2), "box", radius=0.6)
        evidence = propose_sdp(query, Effort(), extra=Strengthening(products=False))
        linear = LP.check(query, LP.propose(query, Effort()).multiplier)
        assert SDP.check(query, evidence.multiplier)[0] <= linear[0]
        added += "row0/price0" in evidence.multiplier
    assert 0 < added < 15
