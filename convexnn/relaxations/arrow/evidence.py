"""Rigorous bounds from any multipliers of the arrow: the small matrix S is formed again with its rounding errors.

For every state ``a = (h, xi)`` of the network on the set, with the multipliers' signs made right,

    w'f + c  <=  cost (y, nu) - a'Z a  <=  cost (y, nu) - h'S h  <=  cost (y, nu) + (-lambda_min(S))_+ (1 + sum u**2),

because ``a'Z a = |N^(1/2) xi + N^(-1/2) B'h|**2 + h'S h`` and the scaled units lie in [0, u]. Inputs need no repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation.layer_bounds import LayerBounds, read_bounds
from convexnn.propagation.query import Query
from convexnn.relaxations.arrow.chart import chart_of
from convexnn.relaxations.arrow.forms import compose
from convexnn.relaxations.arrow.problem import ArrowProblem, Relaxation
from convexnn.relaxations.arrow.products import read_products, spliced
from convexnn.relaxations.prices import priced_bounds, read_prices, slope_prices
from convexnn.relaxations.support import refuse_smooth_units
from convexnn.rigorous import UNIT, gamma, lack_of_definiteness, product_up, sum_up

Array = NDArray[np.float64]
#: Multipliers of inputs that are not positive are replaced by this share of the largest.
LEAST_NU = 1e-12
#: Covers the rounding of sums of up to 1e9 positive numbers.
SUMMATION = 1.0 + 1e-6


def linear_bounds(query: Query, bounds: LayerBounds) -> Array:
    """Rigorous bounds without multipliers: fixed lines through every unit (CROWN), shape (q,)."""
    with np.errstate(all="ignore"):
        return priced_bounds(query, bounds, slope_prices(query, bounds))


def has_relaxation(query: Query, bounds: LayerBounds) -> bool:
    """Whether there is anything to relax: a set with some width and finite bounds."""
    finite = all(np.isfinite(ends).all() for ends in (*bounds.lower, *bounds.upper))
    low, high = query.inputs.bounding_box()
    wide = bool(np.any(high > low)) and query.inputs.radius > 0.0
    return finite and wide and refuse_smooth_units(query) is None


def check_arrow(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Rigorous upper bounds from multipliers of the arrow, never above the linear bound of the row.

    Implements: convexnn, Proposition 2 of docs/theory/arrow_sdp.md.

    Parameters
    ----------
    query : Query
    multiplier : mapping of str to array
        ``row{r}/y`` and ``row{r}/nu`` for some of the rows, and evidence for the bounds. Any numbers are valid:
        entries with the wrong sign are set to zero, what is lacking of positive definiteness is paid for. A row may
        also have ``row{r}/products`` (n, 3), see :mod:`convexnn.relaxations.arrow.products`, and prices of the linear
        relaxation ``row{r}/price{layer}``: the smallest of what is proved counts.

    Returns
    -------
    array, shape (q,)
        The linear bound for rows without multipliers; ``-inf`` where the bounds say that the set is empty.

    Raises
    ------
    CertificateError
        When shapes do not match the query.
    """
    bounds = read_bounds(query, multiplier)
    if bounds.empty:
        return np.full(query.n_rows, -np.inf)
    found = linear_bounds(query, bounds)
    if any("/price" in key for key in multiplier):
        found = np.minimum(found, priced_bounds(query, bounds, read_prices(query, multiplier)))
    rows = [row for row in range(query.n_rows) if f"row{row}/y" in multiplier]
    if not rows or not has_relaxation(query, bounds):
        return found
    reader = Reader.of(query, bounds)
    for row in rows:
        if f"row{row}/nu" not in multiplier:
            raise CertificateError(f"The multiplier holds row{row}/y without row{row}/nu.")
        y, nu, products = multiplier[f"row{row}/y"], multiplier[f"row{row}/nu"], multiplier.get(f"row{row}/products")
        found[row] = min(found[row], reader.for_length(np.shape(y)).bound(row, y, nu, products))
    return found


@dataclass(frozen=True, eq=False)
class Reader:
    """Checks rows of one query: the relaxation in the coordinates of the inputs, and the errors of its forms.

    Attributes
    ----------
    relaxation : Relaxation
    reach : float
        Upper bound on ``|h|**2``.
    """

    relaxation: Relaxation
    reach: float

    @classmethod
    def of(cls, query: Query, bounds: LayerBounds, triangle: bool = False) -> Reader:
        """Compose the forms; nothing here comes from the search."""
        chart = chart_of(query.inputs)
        with np.errstate(all="ignore"):
            forms = compose(query, bounds, chart)
        upper = np.maximum(forms.upper, 0.0)
        return cls(Relaxation(chart, forms, triangle), sum_up(np.append(np.nextafter(upper * upper, np.inf), 1.0)))

    def for_length(self, shape: tuple[int, ...]) -> Reader:
        """The reader for multipliers y of a shape: those with rows for triangles are longer."""
        plain = self.relaxation
        if plain.triangle or plain.m == 0 or shape != (plain.n_rows + plain.m,):
            return self
        return self._with_triangles

    @cached_property
    def _with_triangles(self) -> Reader:
        return Reader(Relaxation(self.relaxation.chart, self.relaxation.forms, True), self.reach)

    def with_products(self, y: Array, products: Array) -> tuple[Reader, Array]:
        """The reader of one row with products of units, and its y with their multipliers at their place.

        Raises
        ------
        CertificateError
        """
        wanted = (self.relaxation.n_rows,)
        if np.shape(y) != wanted:
            raise CertificateError(f"The multiplier y has shape {np.shape(y)}; these bounds need {wanted}.")
        relaxation, values = read_products(self.relaxation, products)
        return Reader(relaxation, self.reach), spliced(relaxation, np.asarray(y, dtype=np.float64), values)

    def bound(self, row: int, y: Array, nu: Array, products: Array | None = None) -> float:
        """Rigorous upper bound of a row; ``inf`` for nan and infinite numbers."""
        if products is not None:
            reader, y = self.with_products(y, products)
            return reader.bound(row, y, nu)
        v = self._multipliers(row, y, nu)
        if not np.isfinite(v).all():
            return np.inf
        problem = ArrowProblem(self.relaxation, self.relaxation.forms.outputs[row])
        with np.errstate(all="ignore"):
            Z, B, N = problem.arrow(v)
            scaled = B / np.sqrt(N)
            error = self._matrix_error(problem, v, float(np.linalg.norm(scaled)), N)
            lack = lack_of_definiteness(Z - scaled @ scaled.T, error)
            costs = self.relaxation.cost * v
            spread = self._form_error(row, v) + 2.0 * UNIT * float(np.abs(costs).sum())
        if not np.isfinite(lack):
            return np.inf
        return sum_up([*costs, spread, product_up(lack, self.reach)])

    def _multipliers(self, row: int, y: Array, nu: Array) -> Array:
        """One vector with the signs made right."""
        relaxation = self.relaxation
        given = [np.asarray(part, dtype=np.float64) for part in (y, nu)]
        wanted = (relaxation.n_rows,), (relaxation.n_nu,)
        if (given[0].shape, given[1].shape) != wanted:
            raise CertificateError(
                f"The multipliers of row {row} have shapes {given[0].shape} and {given[1].shape}; the query with these "
                f"bounds needs {wanted[0]} and {wanted[1]}."
            )
        v = np.concatenate(given)
        v = np.where(relaxation.positive, np.maximum(v, 0.0), v)
        low = LEAST_NU * max(float(np.max(v[relaxation.n_rows :], initial=0.0)), LEAST_NU)
        v[relaxation.n_rows :] = np.maximum(v[relaxation.n_rows :], low)
        return v

    def _matrix_error(self, problem: ArrowProblem, v: Array, found: float, N: Array) -> float:
        """Upper bound on the Frobenius norm of what rounding did to S.

        The first row of Zhh is off by g times the absolute values of its summands, its other entries by a few
        roundings of theirs, B by g times its own (``whole``), and ``B N^-1 B'`` by its rounding and by what B is off.
        """
        relaxation = self.relaxation
        p, chord = relaxation.p, relaxation.chord
        y = np.abs(v[: relaxation.n_rows])
        on_constant = np.concatenate([y[relaxation.group("over")], y[relaxation.group("extra")]])
        cut = y[relaxation.group("cut")] if relaxation.triangle else np.zeros(relaxation.m)
        on_constant[: relaxation.m] += chord * cut
        zero, box = y[relaxation.group("zero")], y[relaxation.group("box")]
        rows, inputs, squares, lengths = self._absolute
        products = np.linalg.norm(zero * lengths) + np.linalg.norm((1.0 + relaxation.forms.upper) * box)
        below, sums = np.square(zero) @ squares, 0.0
        if len(relaxation.products):  # sums of many terms: the general allowance instead of that of a handful
            mixed = self._absolute_products(zero, y, on_constant)
            below = np.square(mixed @ inputs[: relaxation.m]).sum(axis=0)
            sums += float(np.linalg.norm(mixed @ rows[: relaxation.m]))
        sums += np.linalg.norm(on_constant @ rows) + y[0] + np.linalg.norm(problem.objective[:p])
        sums += (1.0 + np.abs(relaxation.chord_level)) @ cut + np.linalg.norm(chord * cut)
        top = on_constant @ inputs + np.abs(problem.objective[p:])
        whole = float(np.sqrt(((np.square(top) + below) / N).sum()))
        terms = relaxation.d + 2 * relaxation.m + len(relaxation.Rh) + 2 * len(relaxation.products) + 32
        relative = 4.0 * gamma(terms)
        total = relative * (sums + found * (found + 2.0 * whole) + relative * whole * whole)
        total += 4.0 * gamma(16) * products  # a handful of roundings each
        return float(total * SUMMATION + 1e-290 * (1.0 + whole) ** 2)

    def _absolute_products(self, zero: Array, y: Array, on_constant: Array) -> Array:
        """Absolute coefficients (m, m) of ``z_i r_j``, all added; those of ``r_j`` alone are added to on_constant."""
        relaxation = self.relaxation
        products, high = relaxation.products, ~relaxation.products.low
        values = y[relaxation.pairs]
        found = np.diag(np.abs(zero))
        np.add.at(found, (products.i, products.j), values)
        np.add.at(on_constant, products.j[high], relaxation.forms.upper[products.i[high]] * values[high])
        return found

    @cached_property
    def _absolute(self) -> tuple[Array, Array, Array, Array]:
        """Absolute values of the forms; squares of those of the units on the inputs, and lengths on h."""
        relaxation = self.relaxation
        own = np.square(relaxation.W[: relaxation.m])
        lengths = np.linalg.norm(relaxation.Rh[: relaxation.m], axis=1)
        return np.abs(relaxation.Rh), np.abs(relaxation.W), own, lengths

    def _form_error(self, row: int, v: Array) -> float:
        """What the errors of the forms can add to the bound."""
        relaxation, forms = self.relaxation, self.relaxation.forms
        over = v[relaxation.group("over")] + np.abs(v[relaxation.group("zero")]) * forms.upper
        products = relaxation.products  # either factor is at most u
        np.add.at(over, products.j, forms.upper[products.i] * np.abs(v[relaxation.pairs]))
        if relaxation.triangle:
            over = over + relaxation.chord * v[relaxation.group("cut")]
        signs = v[relaxation.group("extra")][: len(forms.signs_error)]
        total = float(over @ forms.units_error + signs @ forms.signs_error + forms.outputs_error[row])
        return total * SUMMATION
