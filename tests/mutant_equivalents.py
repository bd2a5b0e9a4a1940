"""Mutants that prove no false bound and loosen none beyond its limit: by function, the change and why.

A change that stands more than once in a function is named with its line: ``change in: line``.
"""

from __future__ import annotations

_PROPOSED = "a number that is proposed: others are tried, and what counts is proved by a factorization"
_SLOPES = "no activation has a negative slope"
_TWICE = "what this lets through is refused by the next test of the same numbers"
_ANY = "any multipliers are valid: others are taken, which can only loosen the bound"
_ARROW = "without anything to relax the reader's bound is valid as well, or infinite; smooth units are refused before"
_BEST = "the reach is rounded up by sixteen eps of its lengths and four of the whole, of which five are needed"
_CENTRE = "any centre is valid, and the error of the general terms is that of all columns"
_DISTANCE = "the distance holds a factor 1 + 1e-14, 45 eps: more than the rounding of this quotient"
_EVEN = "the maximum over all points is even in the gradient"
_FAR_BELOW = (
    "entries that underflow are covered by the relative error of the blocks and by 2**-1000 in it; this "
    "term is below both"
)
_FLAT = "it differs only where B or A is zero, and the number is not used there"
_FSUM = "math.fsum is rounded once, and the magnitude of the rows, which it is multiplied with, is rounded up"
_HALVES = "two sums are off by half an ulp each, and either step to the next number pays for both"
_INVERSE = "the inverse is known up to 4 gamma(r + 2) of its length only: more than the rounding of 1 / lam"
_LIMIT = "row_norms_up, the factors 1 + 4 eps and 1 - 16 eps: two of the three pay for the norm and two quotients"
_LOOSER = "only looser: a maximum of two valid bounds, or inf where no input is left"
_LOWER = "an upper end that is negative is nearer to zero than the lower one"
_NEAR_END = (
    "a stationary point that near to an end gains less than the allowance of the value there, 16 units of "
    "its sizes; where a piece ends at zero nothing is missed since the point is known relatively"
)
_NORM = "a norm is taken of it, and beside any number that is not zero it is lost"
_NOTHING = "without a matrix it is an error and no bound, and with radius zero the mass of every pair is zero"
_PART = "8 eps of the parts of the difference, added beside it, is more than its last rounding"
_RESIDUAL = "the residual holds 2 gamma(n + 8) of sizes that are larger than it: more than the units of this factor"
_SCALE = "any scale of the multipliers is valid: the best theta is inserted"
_SEARCH = "it decides how long better multipliers are looked for; every bound on the way is valid"
_SECOND = "the length of a second-order term, and 2 gamma of the first where one is needed"
_SHARE = "a ratio and a product are off by three units; the ends 8 eps apart and 16 eps of the sizes each pay alone"
_SHARPER = "it decides whether a sharper bound is computed as well; both are valid"
_SHIFT = (
    "multipliers of sum zero see no shift, what is left of their sum is paid for with the largest target, "
    "and the rounding with what was shifted"
)
_SIGN = "the factor is one or minus one"
_SIXTEEN = "A, B and their quotients are off by six units of rounding in all, and 1 + 16 u and 4 u |e| pay for them"
_STEEP = (
    "the line above a piece is needed only beyond the stationary point, where it is higher by more than its rounding"
)
_SUM = "the sum that is rounded here holds four units of the diagonal and of rho beyond what they need"
_TERMS = "4 gamma(n + 8) of the sizes, the same sum's allowance, is more than this rounding of an ulp"
_VANISHING = "products that vanish are off by 2**-1074 each, and another term TINY of the same sum pays for them"
_WRONG = "what is wrong holds 2 gamma(n + 8) of the same sizes, and what is spread twice: one of each is needed"

EQUIVALENT: dict[str, dict[str, str]] = {
    "convexnn.rigorous.rounding:column_sums": {
        "2.0 -> 1.0": "the factor covers the rounding of the sum of absolute values, m u of it: no column that fits "
        "into a test loses half of it there and all of it in the tree",
    },
    "convexnn.rigorous.eigenvalues:_proved_eigenvalue": {
        "4.0 -> 8.0": _PROPOSED,
        "4.0 -> 2.0": _PROPOSED,
        "2.0 * n -> 2.0 / n": _PROPOSED,
        "2.0 -> 4.0": _PROPOSED,
        "2.0 -> 1.0": _PROPOSED,
        "2.0 * n * UNIT * float(np.max(np.abs(values))) -> 2.0 * n * UNIT / float(np.max(np.abs(values)))": _PROPOSED,
    },
    "convexnn.rigorous.eigenvalues:gram_max_eigenvalue": {
        "math.nextafter(ldexp_up(sqrt_up(square), exponent) + error, math.inf) -> "
        "ldexp_up(sqrt_up(square), exponent) + error": "product_up moves its first factor up by an ulp, which is more "
        "than the rounding of this sum",
    },
    "convexnn.rigorous.eigenvalues:lack_of_definiteness": {
        "np.abs(A) -> A": _PROPOSED,
        "64.0 * n -> 64.0 / n": _PROPOSED,
        "64.0 -> 32.0": _PROPOSED,
        "n * UNIT * size -> n * UNIT / size": _PROPOSED,
        "64.0 * n * UNIT * size -> 64.0 * n * UNIT / size": _PROPOSED,
    },
    "convexnn.certificates.lipschitz:check_product_l2": {"abs(s) -> s": _SLOPES},
    "convexnn.certificates.lipschitz:check_product_linf": {"abs(s) -> s": _SLOPES},
    "convexnn.certificates.lipschitz:_body_norm": {"abs(s) -> s": _SLOPES},
    "convexnn.lipsdp.deep_bound:upper_bound_deep": {
        "abs(value) -> value": _SLOPES,
    },
    "convexnn.lipsdp.vector:upper_bound_vector": {
        "(1.0 + norm_up(P) + norm_up(R)) * (norm_up(root) + norm_up(1.0 / root)) -> (1.0 + norm_up(P) + "
        "norm_up(R)) / (norm_up(root) + norm_up(1.0 / root))": _FAR_BELOW,
        "1.0 + norm_up(P) + norm_up(R) -> 1.0 + norm_up(P) - norm_up(R)": _FAR_BELOW,
        "norm_up(root) + norm_up(1.0 / root) -> norm_up(root) - norm_up(1.0 / root)": _FAR_BELOW,
        "scale * inner.size -> scale / inner.size": _FAR_BELOW,
        "1.0 + norm_up(P) -> 1.0 - norm_up(P)": _FAR_BELOW,
        "1.0 / root -> 1.0 * root": _FAR_BELOW,
        "np.isfinite(weights).all() and (weights > 0.0).all() -> "
        "np.isfinite(weights).all() or (weights > 0.0).all()": _TWICE,
        "np.isfinite(P).all() and np.isfinite(R).all() -> np.isfinite(P).all() or np.isfinite(R).all()": _TWICE,
    },
    "convexnn.regions.check:majorant_offsets": {
        "B == 0 -> B != 0": _NEAR_END,
        "0.0 * A -> 0.0 / A": _FLAT,
        "size_B / A + (1.0 + size_A / A) * np.abs(B / A) -> size_B / A - (1.0 + size_A / A) * np.abs(B / A)": _NEAR_END,
        "q != 0 -> q == 0": _SIXTEEN,
        "B != 0 -> B == 0": _SIXTEEN,
        "size_B * np.abs(a) -> size_B / np.abs(a)": _STEEP,
        "size_B / A -> size_B * A": _NEAR_END,
        "1.0 + size_A / A -> 1.0 - size_A / A": _NEAR_END,
        "np.abs(B / A) -> B / A": _NEAR_END,
        "size_A / A -> size_A * A": _NEAR_END,
        "B / A -> B * A": _NEAR_END,
        "np.nextafter(0.25 * (B_up / A_down * B_up) * (1.0 + 16.0 * UNIT) + TINY + e, np.inf) -> 0.25 * (B_up"
        " / A_down * B_up) * (1.0 + 16.0 * UNIT) + TINY + e": _SIXTEEN,
        "2.0 * UNIT * size_B * (B != 0) -> 2.0 * UNIT * size_B / (B != 0)": _FLAT,
        "2.0 * UNIT * size_A -> 2.0 * UNIT / size_A": _SIXTEEN,
    },
    "convexnn.regions.check:quadratic_maximum": {
        "np.nextafter(best + _forming_error(V, curvature, kind), np.inf) -> best + _forming_error(V, "
        "curvature, kind)": _SUM,
    },
    "convexnn.regions.check:_with_rho": {
        "(n + 2) * n -> (n + 2) / n": _VANISHING,
        "1e-12 * (abs(total) + abs(value)) -> 1e-12 / (abs(total) + abs(value))": _SEARCH,
        "abs(total) -> total": _SEARCH,
        "abs(value) -> value": _SEARCH,
        "size * size / (4.0 * low) * (1.0 + 16.0 * UNIT) -> size * size / (4.0 * low) / (1.0 + 16.0 * UNIT)": _RESIDUAL,
        "1.0 + 16.0 * UNIT -> 1.0 - 16.0 * UNIT": _RESIDUAL,
    },
    "convexnn.regions.check:proved_bound": {
        "np.isfinite(al).all() and np.isfinite(be).all() -> np.isfinite(al).all() or np.isfinite(be).all()": _TWICE,
        "4.0 * gamma(G + 16) * float(np.abs(be) @ parts.reach) + r * TINY -> 4.0 * gamma(G + 16) * "
        "float(np.abs(be) @ parts.reach) - r * TINY": _VANISHING,
    },
    "convexnn.regions.folding:folded_query": {
        "abs(s) -> s": _SLOPES,
    },
    "convexnn.relaxations.arrow.evidence:check_arrow": {
        "not rows or not has_relaxation(query, bounds) -> not rows and (not has_relaxation(query, bounds))": _ARROW,
        "np.minimum(found, priced_bounds(query, bounds, read_prices(query, multiplier))) -> np.maximum(found,"
        " priced_bounds(query, bounds, read_prices(query, multiplier)))": _LOOSER,
        "-np.inf -> np.inf": _LOOSER,
    },
    "convexnn.regions.chain:chain_bound": {
        "lift and np.isfinite(best) -> lift or np.isfinite(best)": _ANY,
        "y + lift * chain.depth * np.abs(y) -> y - lift * chain.depth * np.abs(y)": _ANY,
        "lift * chain.depth * np.abs(y) -> lift * chain.depth / np.abs(y)": _ANY,
        "np.abs(y) -> y": _ANY,
    },
    "convexnn.regions.chain:_proved": {
        "np.isfinite(S).all() and np.isfinite(E).all() -> np.isfinite(S).all() or np.isfinite(E).all()": _TWICE,
        "-2.0 -> 2.0": _EVEN,
        "(n + 2) * n -> (n + 2) / n": _VANISHING,
        "np.abs(M) + spread -> np.abs(M) - spread": _WRONG,
        "2 * n -> 2 / n": _WRONG,
        "(np.abs(g - 2.0 * Mw) + wrong) * (1.0 + 8.0 * UNIT) -> (np.abs(g - 2.0 * Mw) + wrong) / (1.0 + 8.0 *"
        " UNIT)": _RESIDUAL,
        "length * length / (4.0 * low) * (1.0 + 16.0 * UNIT) -> length * length / (4.0 * low) / (1.0 + 16.0 *"
        " UNIT)": _RESIDUAL,
        "1.0 + 8.0 * UNIT -> 1.0 - 8.0 * UNIT": _RESIDUAL,
        "1.0 + 16.0 * UNIT -> 1.0 - 16.0 * UNIT": _RESIDUAL,
        "error * (1.0 + 16.0 * UNIT * n) -> error / (1.0 + 16.0 * UNIT * n)": _WRONG,
        "1.0 + 16.0 * UNIT * n -> 1.0 - 16.0 * UNIT * n": _WRONG,
        "16.0 * UNIT * n -> 16.0 * UNIT / n": _WRONG,
    },
    "convexnn.regions.facets:_top": {
        "np.nextafter(z, np.inf) -> z": _TERMS,
        "np.nextafter(z, -np.inf) -> z": _TERMS,
        "found * (1.0 + math.copysign(4.0 * UNIT, found)) -> found / (1.0 + math.copysign(4.0 * UNIT, found))": _TERMS,
        "1.0 + math.copysign(4.0 * UNIT, found) -> 1.0 - math.copysign(4.0 * UNIT, found)": _TERMS,
    },
    "convexnn.regions.polytope_support:support_up": {
        "np.abs(upper) -> upper": _LOWER,
        "m + d + 2 -> m + d - 2": _VANISHING,
        "np.nextafter(found + error, np.inf) -> found + error": _TERMS,
    },
    "convexnn.relaxations.lipschitz_bounds:_check": {
        "np.nextafter(check_interval(point, {}) + np.array(rises), np.inf) -> check_interval(point, {}) + "
        "np.array(rises)": _HALVES,
        "np.nextafter(found + _rounding(query, distance), np.inf) -> found + _rounding(query, distance)": _HALVES,
    },
    "convexnn.relaxations.quadratic_outputs:check_quadratic": {
        "-np.inf -> np.inf": _LOOSER,
    },
    "convexnn.relaxations.quadratic_outputs:_proved": {
        "2.0 * gamma(len(y) + 16) * size + rows.objective_error + np.finfo(float).tiny * len(y) -> 2.0 * "
        "gamma(len(y) + 16) * size + rows.objective_error - np.finfo(float).tiny * len(y)": _NORM,
        "np.finfo(float).tiny * len(y) -> np.finfo(float).tiny / len(y)": _NORM,
    },
    "convexnn.restrictions.base:ConeProgram.lower_bound": {
        "max(value, self._proved(p, *enclosed_stationarity(s, p, rows), dual)) -> min(value, self._proved(p, "
        "*enclosed_stationarity(s, p, rows), dual))": _LOOSER,
        "s.constant + value -> s.constant - value": _SHARPER,
        "self._proved(p, Z, np.zeros_like(error), dual) - value > ROUNDOFF_SHARE * (s.constant + value) -> "
        "self._proved(p, Z, np.zeros_like(error), dual) - value <= ROUNDOFF_SHARE * (s.constant + value)": _SHARPER,
        "self._proved(p, Z, np.zeros_like(error), dual) - value -> self._proved(p, Z, np.zeros_like(error), "
        "dual) + value": _SHARPER,
    },
    "convexnn.restrictions.polynomial_evidence:proved_bound": {
        "slopes / max(float(slopes.max(initial=0.0)), np.finfo(float).tiny) -> slopes * "
        "max(float(slopes.max(initial=0.0)), np.finfo(float).tiny)": _SCALE,
    },
    "convexnn.restrictions.robust_relu_dual:lower_bound": {
        "2 * terms.lam / distance * (1 - 4e-16) -> 2 * terms.lam / distance / (1 - 4e-16)": _DISTANCE,
        "1 - 4e-16 -> 1 + 4e-16": _DISTANCE,
    },
    "convexnn.restrictions.robust_relu_dual:stationarity": {
        "multipliers * np.where(terms.slopes >= 0.5, 1.0, -1.0) -> multipliers / np.where(terms.slopes >= "
        "0.5, 1.0, -1.0)": _SIGN,
    },
    "convexnn.restrictions.certified_margin_dual:margin_lower_bound": {
        "float(row_norms_up(size).max(initial=0.0)) * (1.0 + 4.0 * EPS) -> "
        "float(row_norms_up(size).max(initial=0.0)) / (1.0 + 4.0 * EPS)": _LIMIT,
        "min(limit, terms.loss.steepest / float((slopes / weight).max())) * (1.0 - 16.0 * EPS) -> min(limit, "
        "terms.loss.steepest / float((slopes / weight).max())) / (1.0 - 16.0 * EPS)": _LIMIT,
        "1.0 + 4.0 * EPS -> 1.0 - 4.0 * EPS": _LIMIT,
        "1.0 - 16.0 * EPS -> 1.0 + 16.0 * EPS": _LIMIT,
    },
    "convexnn.restrictions.certified_margin_dual:_stationarity": {
        "dual.matrix is not None and terms.radius > 0 -> dual.matrix is not None or terms.radius > 0": _NOTHING,
        "4 * EPS * np.abs(Z[:, :-1]) -> 4 * EPS / np.abs(Z[:, :-1])": _PART,
        "np.abs(Z[:, :-1]) -> Z[:, :-1]": _PART,
        "-1 -> 1": _CENTRE,
        "4 * EPS * np.abs(Z[:, :-1]) + TINY -> 4 * EPS * np.abs(Z[:, :-1]) - TINY": _PART,
    },
    "convexnn.restrictions.certified_margin_dual:norm_functional": {
        "weight / (2.0 * best) * (1.0 - 8.0 * EPS) -> weight / (2.0 * best) / (1.0 - 8.0 * EPS)": _BEST,
        "weight > 0 and R.any() and Z.any() -> weight > 0 or R.any() or Z.any()": _TWICE,
        "1.0 - 8.0 * EPS -> 1.0 + 8.0 * EPS": _BEST,
        "-exponents[0] -> exponents[0]": _ANY,
        "share * values.sum() / d -> share * values.sum() * d": _ANY,
        "share * values.sum() -> share / values.sum()": _ANY,
    },
    "convexnn.restrictions.certified_margin_dual:_reach_up": {
        "np.abs(along) -> along": _SECOND,
        "d + 8 -> d - 8": _SECOND,
        "(first * (1.0 + gamma(d + 8)) + 2.0 * far * far * length) * (1.0 / np.sqrt(spectrum)) + TINY -> "
        "(first * (1.0 + gamma(d + 8)) + 2.0 * far * far * length) * (1.0 / np.sqrt(spectrum)) - TINY": _VANISHING,
        "np.abs(along) + gamma(d + 8) * size -> np.abs(along) - gamma(d + 8) * size": _SECOND,
    },
    "convexnn.restrictions.certified_margin_dual:_best_share": {
        "np.isfinite(conjugate).all() and math.isfinite(lost) -> np.isfinite(conjugate).all() or "
        "math.isfinite(lost)": _TWICE,
        "ratio * (1.0 + side * 8.0 * EPS) -> ratio / (1.0 + side * 8.0 * EPS)": _SHARE,
        "1.0 + side * 8.0 * EPS -> 1.0 - side * 8.0 * EPS": _SHARE,
        "-1.0 -> 1.0": _SHARE,
        "side * 8.0 -> side / 8.0": _SHARE,
        "np.abs(conjugate) + ratio -> np.abs(conjugate) - ratio": _SHARE,
        "np.abs(conjugate) -> conjugate": _SHARE,
        "-math.fsum((weight * conjugate).ravel().tolist()) - 16.0 * EPS * lost - conjugate.size * TINY -> "
        "-math.fsum((weight * conjugate).ravel().tolist()) - 16.0 * EPS * lost + conjugate.size * TINY": _SHARE,
    },
    "convexnn.global_gap.l2_bound:DualBound.of": {
        "np.abs(nu) -> nu": _FSUM,
    },
    "convexnn.global_gap.lipschitz_bound:DualBound.of": {
        "rows.y - rows.y[0] -> rows.y + rows.y[0]": _SHIFT,
        "shifted - rows.weight @ shifted -> shifted + rows.weight @ shifted": _SHIFT,
        "product_up(_inverse_norm(multipliers.root), _inverse_norm(multipliers.root), 1 / lam) * (1 + 4 * "
        "UNIT) -> product_up(_inverse_norm(multipliers.root), _inverse_norm(multipliers.root), 1 / lam) / (1 "
        "+ 4 * UNIT)": _INVERSE,
        "1 + 4 * UNIT -> 1 - 4 * UNIT": _INVERSE,
    },
}
