"""Every certifier against networks that are meant to hurt: never below what is attained, whatever its multiplier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.propagation import Effort, Query, crown_bounds, interval_bounds
from convexnn.propagation.crown import interval_rows, row_bounds
from convexnn.relaxations.arrow.certifier import propose_sdp
from convexnn.relaxations.arrow.targets import Strengthening
from convexnn.threats import L2Ball, LInfBall
from convexnn.verification import certify
from convexnn.verification.exact import EXACT, exact_values
from convexnn.verification.exact_numbers import rational, rationals
from convexnn.verification.registry import METHODS, get_certifier
from tests.certifier_cases import Case, attained, corrupted, random_case, random_network
from tests.relu_truth import exact_max

CHEAP = ("ibp", "crown", "alpha_crown", "lp", "sdp")
DEAR = ("max_gradient", "lipsdp", "sdp_first_order", "milp", "branch_and_bound")
EFFORT = {"alpha_crown": Effort(max_iter=12), "sdp_first_order": Effort(max_iter=60)}
ACCURACY = 2e-6  # of the truth by enumeration, relative to the sizes involved


def cases(seed: int, n: int) -> Iterator[tuple[int, Case]]:
    for place in range(n):
        yield place, random_case(np.random.default_rng([seed, place]), small=place % 2 == 0)


def methods(place: int, every: int) -> tuple[str, ...]:
    """All of them now and then."""
    return CHEAP + DEAR if place % every == 0 else CHEAP


def at_least(bound, values) -> bool:
    """Whether float64 upper bounds are at least rational numbers; inf is."""
    return all(b == np.inf or (np.isfinite(b) and rational(float(b)) >= v) for b, v in zip(bound, values, strict=True))


def size_of(query: Query) -> float:
    """What errors of solvers are relative to: the numbers that meet in the outputs."""
    top = interval_bounds(query)
    reach = np.maximum(np.abs(top.lower[-1]), np.abs(top.upper[-1]))
    W, b = query.network.layers[-1]
    total = np.abs(query.weights) @ (np.abs(W) @ reach + np.abs(b)) + np.abs(query.offset)
    return float(np.max(total)) + 1e-6


def check_case(place: int, case: Case, names, every: int) -> dict[str, np.ndarray]:
    """Bounds of all methods; fails where one is below what is attained or, for every so many, below the truth."""
    query, rng = case.query, np.random.default_rng([7, place])
    layers, found, points, multipliers = crown_bounds(query), {}, [], {}
    for name in names:
        certifier = get_certifier(name)
        if certifier.refusal(query) is None:
            evidence = certifier.propose(query, EFFORT.get(name, Effort()), layers)
            found[name] = certifier.check(query, evidence.multiplier)
            multipliers[name] = evidence.multiplier
            points.append(evidence.points)
            if name == "milp":
                found["milp (the solver's word)"] = np.asarray(evidence.details["solver_bound"])
    values, scale = attained(query, rng, points), size_of(query)
    truth = exact_max(query) if case.small and place % every == 0 else np.full(query.n_rows, -np.inf)
    for name, bounds in found.items():
        assert bounds.shape == (query.n_rows,)
        assert not np.isnan(bounds).any(), (place, case.kind, name)
        assert (bounds >= truth - ACCURACY * scale).all(), (place, case.kind, name, bounds - truth)
        if values is not None and name in METHODS:
            assert at_least(bounds, values), (place, case.kind, name, bounds)
    for name in set(multipliers) & set(EXACT) if place % every == 0 else ():
        exact = exact_values(query, name, multipliers[name])
        if exact is not None and values is not None:
            assert (exact >= values).all(), (place, case.kind, name, "exact")
            assert at_least(found[name], exact), (place, case.kind, name, found[name], exact)
    found["truth"], found["scale"] = truth, np.full(query.n_rows, scale)
    return found


def check_orders(place: int, case: Case, found) -> None:
    """Bounds that theory puts in order, between the same bounds of the layers."""
    query, layers = case.query, crown_bounds(case.query)
    slack = ACCURACY * found["scale"]
    assert (found["lp"] <= row_bounds(query, layers) + slack).all(), (place, case.kind, "LP <= CROWN")
    assert (found["lp"] <= interval_rows(query, layers) + slack).all(), (place, case.kind, "LP <= intervals")
    assert (found["crown"] <= found["ibp"] + slack).all(), (place, case.kind)
    assert (found["alpha_crown"] <= found["crown"] + slack).all(), (place, case.kind)
    known = np.isfinite(found["truth"]).all()
    if known and "branch_and_bound" in found:
        gap = found["branch_and_bound"] - found["truth"]
        assert (gap <= 1e-3 * (np.abs(found["truth"]) + found["scale"])).all(), (place, case.kind, gap)
    if known and "milp" in found and not query.inputs.has_ball:  # a ball is replaced by its box
        gap = np.abs(found["milp (the solver's word)"] - found["truth"])
        assert (gap <= 1e-4 * found["scale"]).all(), (place, case.kind, gap)


def run(seed: int, n: int, every: int) -> None:
    """The n cases of a seed; every so many by all methods, against enumeration and in rational numbers."""
    for place, case in cases(seed, n):
        check_orders(place, case, check_case(place, case, methods(place, every), every))


def test_no_bound_is_below_what_is_attained() -> None:
    run(1, 30, 10)


@pytest.mark.slow
def test_no_bound_is_below_what_is_attained_on_more_networks() -> None:
    run(2, 80, 4)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [Strengthening(), Strengthening(triangle=True, products=False)])
def test_the_semidefinite_bound_is_never_above_the_linear_one(extra) -> None:
    asked = 0
    for place, case in cases(3, 60):  # at the default tolerance
        query, layers = case.query, crown_bounds(case.query)
        lp, sdp = get_certifier("lp"), get_certifier("sdp")
        evidence = propose_sdp(query, Effort(), layers, extra=extra)
        found = sdp.check(query, evidence.multiplier)
        linear = lp.check(query, lp.propose(query, Effort(), layers).multiplier)
        assert (found <= linear + 1e-12 * size_of(query)).all(), (place, case.kind, found - linear, evidence.status)
        asked += any("price" in key for key in evidence.multiplier)
        if extra.triangle and place % 5 == 0:  # the row makes the order a theorem, up to the tolerance
            alone = propose_sdp(query, Effort(tol=1e-7), layers, extra=replace(extra, linear=False))
            assert (sdp.check(query, alone.multiplier) <= linear + 1e-5 * size_of(query)).all(), (place, case.kind)
    assert asked > 5  # it was in doubt


def check_corrupted(seed: int, n: int, names) -> tuple[int, int]:
    """Numbers of corrupted multipliers that were read and refused."""
    read = refused = 0
    for place, case in cases(seed, n):
        query, rng = case.query, np.random.default_rng([8, place])
        values = attained(query, rng)
        if values is None:
            continue
        moved = random_case(np.random.default_rng([seed, place + 1000]), small=True).query
        for name in names:
            certifier = get_certifier(name)
            if certifier.refusal(query) is not None or certifier.refusal(moved) is not None:
                continue
            own, other = (certifier.propose(q, Effort(max_iter=12), None).multiplier for q in (query, moved))
            for change, multiplier in corrupted(rng, own, other):
                try:
                    bounds = certifier.check(query, multiplier)
                except CertificateError:
                    refused += 1
                    continue
                read += 1
                assert bounds.shape == (query.n_rows,)
                assert at_least(bounds, values), (place, case.kind, name, change, bounds)
    return read, refused


def test_corrupted_multipliers_prove_nothing_false() -> None:
    read, refused = check_corrupted(4, 3, CHEAP)
    assert read > 60
    assert refused > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name != "quadratic"])
def test_corrupted_multipliers_of_every_method_prove_nothing_false(name) -> None:
    assert sum(check_corrupted(5, 8, (name,))) > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXACT if name != "branch_and_bound"])
def test_corrupted_multipliers_prove_nothing_false_in_rational_numbers(name) -> None:
    for place, case in cases(6, 3):
        query, rng = case.query, np.random.default_rng([9, place])
        values, certifier = attained(query, rng), get_certifier(name)
        own = certifier.propose(query, Effort(max_iter=12), None).multiplier
        for change, multiplier in corrupted(rng, own, {}):
            try:
                exact = exact_values(query, name, multiplier)
            except CertificateError:
                continue
            assert values is None or exact is None or (exact >= values).all(), (place, case.kind, change)


@pytest.mark.parametrize("threat", [L2Ball(0.15), LInfBall(0.05)], ids=["l2", "linf"])
def test_the_cascade_reports_the_best_of_what_it_ran(threat, rng) -> None:
    from convexnn.verification.plan import CertifyOptions

    network, X = random_network(rng, (4, 8, 6, 3)), rng.random((4, 4))
    y = network(X).argmax(axis=1)
    options = CertifyOptions(early_stop=False)
    ran = ("ibp", "crown", "lp", "sdp")
    together = certify(network, X, y, threat, method=ran, options=options, random_state=0)
    for name in ran:
        alone = certify(network, X, y, threat, method=name, options=options, random_state=0)
        assert (together.margins <= alone.margins + 1e-9).all(), name
        assert (alone.lower <= together.margins).all()


EXTREMES = [
    (1.0, 1e300, 1e160),
    (1e-310, 1e300, 1.0),
    (1e300, 1e300, 1.0),
    (1e-160, 1e-160, 1e-160),
    (1e150, 1e-150, 1e308),
]


@pytest.mark.parametrize(("first", "second", "size"), EXTREMES)
def test_numbers_that_overflow_or_vanish_prove_nothing_false(first, second, size, rng) -> None:
    (W, b), (V, c) = random_network(rng, (3, 4, 2)).layers
    network = Network(((first * W, first * b), (second * V, c)))
    for threat in (L2Ball(0.1 * size), LInfBall(0.1 * size), L2Ball(0.1 * size, (-size, size))):
        query = Query.of_rivals(network, 0.3 * size * rng.standard_normal(3), 0, threat)
        with np.errstate(all="ignore"):
            values = attained(query, rng)
        for name in CHEAP + DEAR:
            certifier = get_certifier(name)
            if certifier.refusal(query) is None and values is not None:
                bounds = certifier.check(query, certifier.propose(query, EFFORT.get(name, Effort()), None).multiplier)
                assert at_least(bounds, values), (name, threat, bounds)


def test_mixed_integer_programs_without_integers_are_linear_ones(rng) -> None:
    """HiGHS reports 0 as the bound of a program without binaries; the linear bound is exact there."""
    network = random_network(rng, (3, 4, 2))
    W, b = network.layers[0]
    network = Network(((W, b + 9.0), network.layers[1]))
    query = Query.of_rivals(network, rng.random(3), 0, LInfBall(0.1))
    evidence = get_certifier("milp").propose(query, Effort(), None)
    np.testing.assert_allclose(evidence.details["solver_bound"], exact_max(query), atol=1e-6)


def test_rational_values_are_those_of_the_network(rng) -> None:
    for _, case in cases(9, 10):
        X = case.query.inputs.centre[None]
        from tests.certifier_cases import exact_row_values

        values = exact_row_values(case.query, X[0])
        np.testing.assert_allclose(
            [float(np.float64(v.p) / np.float64(v.q)) if hasattr(v, "p") else float(v) for v in values],
            case.query.values(X)[0],
            rtol=1e-6,
            atol=1e-9 * size_of(case.query),
        )
    assert at_least([np.inf, 1.0], rationals([1e300, 1.0]))
    assert not at_least([1.0], rationals([np.nextafter(1.0, 2)]))
    assert not at_least([-np.inf], rationals([0.0]))
