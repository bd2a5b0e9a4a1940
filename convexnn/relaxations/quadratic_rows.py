"""The relaxation of a quadratic question about a ReLU network: rows ``a'A a <= b`` of ``a = (1, z, xi)``.

z are the relu of the unstable units, xi the scaled inputs (:mod:`convexnn.relaxations.arrow.forms`); stable units are
substituted. Rows hold up to a slack that covers the rounding of the forms:

    constant a_0^2 = 1; over s - z <= 0; zero z (z - s) = 0; box z (z - u) <= 0; corner (s - z)(s - l) <= 0;
    span (s - l)(s - u) <= 0; chord z <= u (s - l)/(u - l); signs; the rows of the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.query import Query, Signs
from convexnn.relaxations.arrow.chart import Chart, chart_of
from convexnn.relaxations.arrow.forms import Forms, compose
from convexnn.relaxations.quadratic_specification import QuadraticSpec
from convexnn.rigorous import UNIT, gamma

Array = NDArray[np.float64]

#: Units whose pre-activation is known no better than this, relative to its range, keep the row "box" alone.
BLURRED = 1e-3
#: Rows of the units, in the order of the multipliers; only "zero" is an equation.
UNIT_ROWS = ("over", "zero", "box", "corner", "span", "chord")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rank-two rows ``a' sym(p q') a``, unit rows ``a_i^2``, bent rows ``sum_i c_i a_i^2 + 2 t'a a_0``, right sides.

    Multipliers are ordered: rank-two rows (the first is the constant), unit rows, bent rows.

    Attributes
    ----------
    P, Q : array, shape (K, n)
    units : int array, shape (U,)
    curvature, tilt : array, shape (B, n)
    level : array, shape (K + U + B,)
        b.
    slack : array, shape (K + U + B,)
        What the rounding of the forms may add to the left side on the set.
    free : bool array, shape (K + U + B,)
        Equations.
    objective : array, shape (n, n)
        O, of the function to be bounded.
    objective_error : array, shape (n, n)
        Entrywise bounds on the rounding of O.
    objective_slack : float
        What the rounding of the outputs may add to the function on the set.
    reach : array, shape (n,)
        Largest absolute value of every entry of a.
    blocks : tuple of slices
        Units of every layer in a, then the inputs.
    names : tuple of (str, slice)
        Where the groups of rows stand.
    """

    P: Array
    Q: Array
    units: NDArray[np.intp]
    curvature: Array
    tilt: Array
    level: Array
    slack: Array
    free: NDArray[np.bool_]
    objective: Array
    objective_error: Array
    objective_slack: float
    reach: Array
    blocks: tuple[slice, ...]
    names: tuple[tuple[str, slice], ...]
    forms: Forms = field(repr=False)
    chart: Chart = field(repr=False)

    @property
    def n(self) -> int:
        """Length of a."""
        return len(self.objective)

    @property
    def is_ball(self) -> bool:
        """Whether the inputs are bounded by one ball alone: ``|xi| <= 1``."""
        return self.chart.is_ball

    @property
    def square(self) -> float:
        """Upper bound on ``|a|^2`` on the set (before rounding)."""
        m = self.forms.m
        inputs = 1.0 if self.is_ball else float(self.chart.d)
        return float(1.0 + np.sum(self.reach[1 : 1 + m] ** 2) + inputs)

    def combine(self, v: Array) -> Array:
        """``sum_k v_k A_k``, shape (n, n)."""
        K, U = len(self.P), len(self.units)
        S = (self.P.T * v[:K]) @ self.Q
        S = 0.5 * (S + S.T)
        S[self.units, self.units] += v[K : K + U]
        for weight, bend, lean in zip(v[K + U :], self.curvature, self.tilt, strict=True):
            S[np.diag_indices_from(S)] += weight * bend
            S[0] += weight * lean
            S[:, 0] += weight * lean
        return np.asarray(S)

    def apply(self, M: Array) -> Array:
        """``<A_k, M>`` of a symmetric M, shape (K + U + B,)."""
        diagonal = np.diagonal(M)
        two = np.einsum("ki,ki->k", self.P @ M, self.Q)
        return np.concatenate([two, diagonal[self.units], self.curvature @ diagonal + 2.0 * self.tilt @ M[0]])

    def absolute(self, v: Array) -> Array:
        """``sum_k |v_k| |A_k|`` entrywise, shape (n, n)."""
        K, U = len(self.P), len(self.units)
        size = np.abs(v)
        S = (np.abs(self.P).T * size[:K]) @ np.abs(self.Q)
        S = 0.5 * (S + S.T)
        S[self.units, self.units] += size[K : K + U]
        for weight, bend, lean in zip(size[K + U :], np.abs(self.curvature), np.abs(self.tilt), strict=True):
            S[np.diag_indices_from(S)] += weight * bend
            S[0] += weight * lean
            S[:, 0] += weight * lean
        return np.asarray(S)

    def states(self, xi: Array) -> Array:
        """Lifted vectors (N, n) of the network at scaled inputs (N, d), in float64."""
        a = np.zeros((len(xi), self.n))
        a[:, 0], a[:, 1 + self.forms.m :] = 1.0, xi
        for block in self.blocks[:-1]:
            index = np.arange(block.start, block.stop)
            a[:, index] = np.maximum(a @ self.forms.units[index - 1].T, 0.0)
        return a


def rows_of(network: Network, inputs: InputSet, signs: Signs | None, bounds: Any, spec: QuadraticSpec) -> Rows:
    """The relaxation of one question.

    Parameters
    ----------
    network : Network
    inputs : InputSet
    signs : tuple of int8 arrays or None
        As in a Query.
    bounds : LayerBounds
    spec : QuadraticSpec
    """
    k = network.n_outputs
    query = Query(network, inputs, np.eye(k), np.zeros(k), signs)
    chart = chart_of(inputs)
    forms = compose(query, bounds, chart)
    m, d = forms.m, chart.d
    n = 1 + m + d
    reach = np.concatenate([[1.0], forms.upper, np.ones(d)])
    groups = [("constant", *_constant(n)), *_unit_rows(forms, n), ("signs", *_sign_rows(forms, n))]
    P, Q, slack = (np.concatenate([group[part] for group in groups]) for part in (1, 2, 3))
    units = np.arange(1 + m, n) if not chart.is_ball else np.arange(0)
    curvature, tilt, level = _bent(chart, n, m)
    names, start = [], 0
    sizes = [(group[0], len(group[1])) for group in groups] + [("inputs", len(units)), ("ball", len(level))]
    for name, size in sizes:
        names.append((name, slice(start, start + size)))
        start += size
    at = dict(names)
    free = np.zeros(start, dtype=bool)
    free[at["constant"]] = True
    free[at["zero"]] = forms.units_error <= BLURRED
    right = np.zeros(start)
    right[at["constant"]], right[at["inputs"]], right[at["ball"]] = 1.0, 1.0, level
    objective, error, extra = _objective(chart, forms, spec, reach)
    return Rows(
        P=P,
        Q=Q,
        units=units,
        curvature=curvature,
        tilt=tilt,
        level=right,
        slack=np.concatenate([slack, np.zeros(len(units) + len(level))]),
        free=free,
        objective=objective,
        objective_error=error,
        objective_slack=extra,
        reach=reach,
        blocks=_blocks(forms, n),
        names=tuple(names),
        forms=forms,
        chart=chart,
    )


def _blocks(forms: Forms, n: int) -> tuple[slice, ...]:
    edges = [1, *(1 + int(np.sum(forms.layer <= k)) for k in range(int(forms.layer.max(initial=-1)) + 1)), n]
    return tuple(slice(low, high) for low, high in zip(edges, edges[1:], strict=False))


def _constant(n: int) -> tuple[Array, Array, Array]:
    e0 = np.zeros((1, n))
    e0[0, 0] = 1.0
    return e0, e0, np.zeros(1)


def _unit_rows(forms: Forms, n: int) -> list[tuple[str, Array, Array, Array]]:
    """Rows of the unstable units; s is known up to its error, a product with s up to that times the other factor."""
    m = forms.m
    e0, z = np.zeros((m, n)), np.zeros((m, n))
    e0[:, 0], z[np.arange(m), 1 + np.arange(m)] = 1.0, 1.0
    s, error, low, high = forms.units, forms.units_error, forms.lower, forms.upper
    below, above = s.copy(), s.copy()
    below[:, 0] -= low
    above[:, 0] -= high
    ceiling = z.copy()
    ceiling[:, 0] -= high
    slope = high / (high - low)
    chord = z - slope[:, None] * below
    width = high - low
    # what the float64 forms may be off by: the error of s, and the roundings of the entries written here
    off = (error + 4.0 * UNIT * (np.abs(s[:, 0]) + np.abs(low) + np.abs(high))) * (1.0 + 1e-9)
    double = off * (2.0 * width + off) * 2.0
    rounding = (
        16.0 * UNIT * (1.0 + slope) * ((np.abs(below) @ np.ones(n)) * np.maximum(1.0, high.max(initial=1.0)) + high)
    )
    sharp = forms.units_error <= BLURRED
    groups = [
        ("over", e0, s - z, off),
        ("zero", z, z - s, high * off * (1.0 + 1e-9)),
        ("box", z, ceiling, np.zeros(m)),
        ("corner", s - z, below, double),
        ("span", below, above, double),
        ("chord", e0, chord, slope * off * (1.0 + 1e-9) + rounding),
    ]
    keep = sharp[:, None]
    return [
        (name, np.where(keep, P, z), np.where(keep, Q, ceiling), np.where(sharp, spare, 0.0))
        for name, P, Q, spare in groups
    ]


def _sign_rows(forms: Forms, n: int) -> tuple[Array, Array, Array]:
    e0 = np.zeros((len(forms.signs), n))
    e0[:, 0] = 1.0
    return e0, forms.signs, forms.signs_error


def _bent(chart: Chart, n: int, m: int) -> tuple[Array, Array, Array]:
    """The ball: ``|xi|^2 <= 1``, or the row of a clipped ball."""
    count = 1 if chart.is_ball or chart.is_clipped else 0
    curvature, tilt, level = np.zeros((count, n)), np.zeros((count, n)), np.ones(count)
    if chart.is_ball:
        curvature[0, 1 + m :] = 1.0
    elif chart.is_clipped:
        curvature[0, 1 + m :], tilt[0, 1 + m :], level[0] = chart.curvature, chart.tilt, chart.level
    return curvature, tilt, level


def _objective(chart: Chart, forms: Forms, spec: QuadraticSpec, reach: Array) -> tuple[Array, Array, float]:
    """``O = G'MG`` for ``[1, x, f] = G a + error``, entrywise rounding of O, and what the error of f may add."""
    n, d = len(reach), spec.n_inputs
    G = np.zeros((len(spec.matrix), n))
    G[0, 0] = 1.0
    G[1 : 1 + d, 0] = chart.centre
    G[1 + chart.kept, 1 + forms.m + np.arange(chart.d)] = chart.half[chart.kept]
    G[1 + d :] = forms.outputs
    M, size = spec.matrix, np.abs(spec.matrix)
    error = np.concatenate([np.zeros(1 + d), forms.outputs_error])
    lifted = G.T @ M @ G
    relative = 2.0 * gamma(2 * len(M) + 8)
    spread = relative * (np.abs(G).T @ size @ np.abs(G))
    extra = 2.0 * error @ size @ (np.abs(G) @ reach) + error @ size @ error
    return 0.5 * (lifted + lifted.T), spread, float(extra) * (1.0 + 1e-9)
