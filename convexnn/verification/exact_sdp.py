"""The semidefinite relaxation checked in rational numbers: forms, slack matrix and its definiteness without rounding.

With h = (1, z), z the unstable units, and the inputs xi of a chart, multipliers make a quadratic form with

    w'f + c  <=  cost - a'Z a  <=  cost - h'S h,    S = Zhh - B N^-1 B',

for every state a = (h, xi) of the network (docs/theory/rigor.md, Proposition 2). Elimination of S, the constant last,
proves its lower block positive definite and gives the best multiplier of the constant. Where numbers would grow long
they are replaced by dyadic ones on the safe side (relative 2**-100): inequalities, not errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation import Query
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.relaxations.arrow.chart import chart_of
from convexnn.relaxations.arrow.evidence import has_relaxation
from convexnn.relaxations.arrow.forms import compose as compose_rounded
from convexnn.relaxations.arrow.problem import Relaxation
from convexnn.relaxations.arrow.products import read_products
from convexnn.relaxations.prices import read_prices, slope_prices
from convexnn.verification.exact_bounds import ExactBounds, outputs, priced
from convexnn.verification.exact_forms import ExactForms, compose
from convexnn.verification.exact_numbers import Rationals, fraction, rational, rational_type, rationals, round_up

Array = NDArray[np.float64]
Parts = dict[str, Rationals]

#: Significant bits that are kept where a number may give way.
BITS = 110
#: Repairs of the lower block of S that are tried, relative to its largest entry.
REPAIRS = (0.0, *(2.0**-power for power in range(64, -2, -3)))
#: Multipliers of inputs that are not positive are replaced by this share of the largest.
LEAST_NU = 1e-12


def sdp_between(query: Query, multiplier: Mapping[str, Array], bounds: ExactBounds, layout: LayerBounds) -> Rationals:
    """Rational upper bounds (q,) from multipliers of the arrow between given bounds (see `check_arrow`).

    Parameters
    ----------
    query : Query
    multiplier : mapping of str to array
    bounds : ExactBounds
        Not crossed.
    layout : LayerBounds
        The bounds in float64 by which the multipliers are laid out; nothing is proved by them.
    """
    prices = slope_prices(query, layout)
    found = priced(bounds, *outputs(query), lambda k, _: prices[k])
    if any("/price" in key for key in multiplier):
        given = read_prices(query, multiplier)
        if all(np.isfinite(layer).all() for layer in given):
            found = np.minimum(found, priced(bounds, *outputs(query), lambda k, _: given[k]))
    rows = [row for row in range(query.n_rows) if f"row{row}/y" in multiplier]
    if not rows or layout.empty or not has_relaxation(query, layout):
        return found
    readers: dict[tuple[int, ...], _Reader] = {}
    for row in rows:
        if f"row{row}/nu" not in multiplier:
            raise CertificateError(f"The multiplier holds row{row}/y without row{row}/nu.")
        y, nu, products = multiplier[f"row{row}/y"], multiplier[f"row{row}/nu"], multiplier.get(f"row{row}/products")
        shape = np.shape(y)
        readers[shape] = readers[shape] if shape in readers else _Reader.of(query, layout, bounds, shape)
        value = readers[shape].bound(row, y, nu, products)
        found[row] = found[row] if value is None else min(found[row], value)
    return found


@dataclass(frozen=True, eq=False)
class _Reader:
    """The relaxation of a query: its layout in float64, its forms in rational numbers.

    Attributes
    ----------
    query : Query
    relaxation : Relaxation
        Says which multiplier belongs to which row; its numbers only scale the variables.
    forms : ExactForms
    signed : tuple of (rational forms (x, 1 + m + d), sizes (x,))
        Forms that are <= 0 because of the signs of the query, and what their multipliers are divided by.
    """

    query: Query
    relaxation: Relaxation
    forms: ExactForms
    signed: tuple[Rationals, Array]

    @classmethod
    def of(cls, query: Query, rounded: LayerBounds, bounds: ExactBounds, shape: tuple[int, ...]) -> _Reader:
        chart = chart_of(query.inputs)
        plain = compose_rounded(query, rounded, chart)
        relaxation = Relaxation(chart, plain, False)
        if plain.m and shape == (relaxation.n_rows + plain.m,):
            relaxation = Relaxation(chart, plain, True)
        forms = compose(query, bounds, chart, plain.layer, plain.unit, plain.scale)
        return cls(query, relaxation, forms, _signed(query, rounded, forms))

    def bound(self, row: int, y: Array, nu: Array, products: Array | None = None) -> Any:
        """Rational bound of a row, None where these multipliers prove nothing."""
        parts = self._parts(y, nu)
        if parts is None:
            return None
        mixed = self._products(products)
        if mixed is None:
            return None
        S, cost = self._small_matrix(row, parts, mixed)
        reach = (self.forms.upper * self.forms.upper).sum() if self.relaxation.m else rational(0)
        for repair in REPAIRS:
            found = _least_value(S, repair)
            if found is not None:
                value, paid = found
                return round_up(cost - value + paid * reach, 4 * BITS)
        return None

    def _parts(self, y: Array, nu: Array) -> Parts | None:
        """Multipliers by the name of their rows, with the right signs, for the variables of the forms."""
        relaxation, given = self.relaxation, [np.asarray(part, dtype=np.float64) for part in (y, nu)]
        if (given[0].shape, given[1].shape) != ((relaxation.n_rows,), (relaxation.n_nu,)):
            raise CertificateError(
                f"Multipliers of shapes {given[0].shape} and {given[1].shape}; the query with these bounds needs "
                f"({relaxation.n_rows},) and ({relaxation.n_nu},)."
            )
        v = np.concatenate(given)
        if not np.isfinite(v).all():
            return None
        v = np.where(relaxation.positive, np.maximum(v, 0.0), v)
        least = LEAST_NU * max(float(np.max(v[relaxation.n_rows :], initial=0.0)), LEAST_NU)
        factor = rationals(self.forms.unit) / rationals(relaxation.forms.scale)
        powers = {"over": factor, "zero": factor * factor, "box": factor * factor, "cut": factor}
        found = {name: _short(rationals(v[relaxation.group(name)]) * power) for name, power in powers.items() if
                 relaxation.group(name).stop}  # fmt: skip
        extra = rationals(v[relaxation.group("extra")])
        sizes = rationals(self.signed[1])
        found["signs"] = _short(extra[: len(sizes)] / sizes) if len(sizes) else extra[:0]
        found["ball"] = extra[len(sizes) :]
        found["nu"] = rationals(np.maximum(v[relaxation.n_rows :], least))
        return found

    def _products(self, given: Array | None) -> list[tuple[int, int, Any]] | None:
        """Products ``(i, j, c)`` for the variables of the forms, c rational; None where a number is not finite."""
        if given is None:
            return []
        relaxation, values = read_products(self.relaxation, given)
        if not np.isfinite(values).all():
            return None
        pairs, factor = relaxation.products, rationals(self.forms.unit) / rationals(relaxation.forms.scale)
        found = _short(rationals(pairs.signs * values) * factor[pairs.i] * factor[pairs.j])
        return [(int(i), int(j), c) for i, j, c in zip(pairs.i, pairs.j, found, strict=True)]

    def _small_matrix(self, row: int, parts: Parts, products: list[tuple[int, int, Any]]) -> tuple[Rationals, Any]:
        """S with the multiplier of the constant left out, and the cost of the other multipliers."""
        forms, m, d = self.forms, self.relaxation.m, self.relaxation.d
        half, zero = rational_type()(1, 2), rational(0)
        linear = -forms.outputs[row]
        Z = np.full((1 + m, 1 + m), zero, dtype=object)
        B = np.full((1 + m, d), zero, dtype=object)
        gaps = forms.units.copy()
        gaps[np.arange(m), 1 + np.arange(m)] -= rational(1)  # s - z
        for i, j, c in [*((j, j, parts["zero"][j]) for j in range(m)), *products]:  # c z_i (s_j - z_j)
            Z[1 + i] = Z[1 + i] + half * c * gaps[j][: 1 + m]
            Z[:, 1 + i] = Z[:, 1 + i] + half * c * gaps[j][: 1 + m]
            B[1 + i] = B[1 + i] + half * c * gaps[j][1 + m :]
            if i != j and c < 0:
                linear = linear - c * forms.upper[i] * gaps[j]
        for j in range(m):
            linear = linear + parts["over"][j] * gaps[j]
            Z[1 + j, 1 + j] = Z[1 + j, 1 + j] + parts["box"][j]
            linear[1 + j] = linear[1 + j] - parts["box"][j] * forms.upper[j]
            if "cut" in parts:
                linear = linear + parts["cut"][j] * self._chord(j)
        for value, form in zip(parts["signs"], self.signed[0], strict=True):
            linear = linear + value * form
        N, cost = self._diagonal(parts, linear)
        Z[0] = Z[0] + half * linear[: 1 + m]
        Z[:, 0] = Z[:, 0] + half * linear[: 1 + m]
        B[0] = half * linear[1 + m :]
        inverse = np.array([round_up(rational(1) / value, BITS) for value in N], dtype=object)
        return (Z - (B * inverse) @ B.T if d else Z), cost

    def _diagonal(self, parts: Parts, linear: Rationals) -> tuple[Rationals, Any]:
        """N of the inputs and the cost; the ball of a clipped ball adds to both and to the linear part."""
        chart, d = self.relaxation.chart, self.relaxation.d
        nu, cost = parts["nu"], parts["nu"].sum()
        if chart.is_ball:
            return np.full(d, nu[0], dtype=object), cost
        if not chart.is_clipped:
            return nu, cost
        inputs = self.query.inputs
        radius, half = rational(float(inputs.radius)), rationals(chart.half[chart.kept])
        rho = _short(parts["ball"] / (radius * radius))[0]
        offset = rationals(chart.centre) - rationals(inputs.centre)
        linear[1 + self.relaxation.m :] += rational(2) * rho * half * offset[chart.kept]
        return nu + rho * half * half, cost + rho * (radius * radius - (offset * offset).sum())

    def _chord(self, j: int) -> Rationals:
        """``z - c s + c l <= 0`` with c at least the slope of the triangle's upper side."""
        low, high = self.forms.lower[j], self.forms.upper[j]
        c = round_up(high / (high - low), BITS) if high > low else rational(0)
        found = -c * self.forms.units[j]
        found[0] = found[0] + c * low
        found[1 + j] = found[1 + j] + rational(1)
        return np.asarray(found)


def _short(values: Rationals) -> Rationals:
    """Numbers that may be anything (of their sign), with few bits."""
    return np.array([round_up(value, BITS) for value in values], dtype=object)


def _signed(query: Query, rounded: LayerBounds, forms: ExactForms) -> tuple[Rationals, Array]:
    """Forms ``-sign s <= 0`` of units whose sign is not clear without it, in the order of the multipliers."""
    found, sizes = [], []
    for k, sign in enumerate(query.signs or ()):
        low, up = rounded.lower[k], rounded.upper[k]
        for j in np.flatnonzero(((sign > 0) & (low <= 0)) | ((sign < 0) & (up >= 0))):
            found.append(forms.hidden[k][j] * rational(-int(sign[j])))
            sizes.append(max(abs(low[j]), abs(up[j])) or 1.0)
    return np.array(found, dtype=object).reshape(len(found), forms.outputs.shape[1]), np.array(sizes)


def _least_value(S: Rationals, repair: float) -> tuple[Any, Any] | None:
    """Lower bound on ``min {h'S h : h = (1, z)}`` with a repair added to the block of z, and that repair; None without.

    S is scaled to integers and lowered by what that rounds off; fraction-free elimination with positive pivots proves
    the block of z positive definite, and the last pivot is the Schur complement times the one before.

    Implements: convexnn, Proposition 2 of docs/theory/rigor.md.
    """
    p = len(S)
    size = max(abs(fraction(value)) for value in S.ravel())
    if size == 0:
        return rational(0), rational(0)
    step = BITS + size.denominator.bit_length() - size.numerator.bit_length()
    unit = rational_type()(1 << -step, 1) if step < 0 else rational_type()(1, 1 << step)
    T = np.array([[_floor(value / unit) for value in line] for line in S], dtype=object)
    T[np.arange(p), np.arange(p)] -= p  # entries are off by less than one: Gershgorin
    paid = int(repair * 2.0**64) * (1 << BITS) >> 64
    T[np.arange(1, p), np.arange(1, p)] += paid
    order = [*range(1, p), 0]
    T = T[np.ix_(order, order)]
    previous = 1
    for k in range(p - 1):
        pivot = T[k, k]
        if pivot <= 0:
            return None
        T[k + 1 :, k + 1 :] = (pivot * T[k + 1 :, k + 1 :] - np.outer(T[k + 1 :, k], T[k, k + 1 :])) // previous
        previous = pivot
    return rational_type()(int(T[-1, -1]), int(previous)) * unit, rational(paid) * unit


def _floor(x: Any) -> int:
    exact = fraction(x)
    return exact.numerator // exact.denominator
