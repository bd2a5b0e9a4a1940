"""The semidefinite relaxation of a ReLU network in arrow form: rows, multipliers and the slack matrix they make.

With ``h = (1, z)`` and the input coordinates xi the dual slack is

    Z(y, nu) = [[Zhh, B], [B', diag(N)]],   N = nu (boxes), nu 1 (balls), nu + rho curvature (clipped balls),

and ``Z >= 0`` exactly when ``N > 0`` and the small matrix ``S = Zhh - B N^-1 B'`` is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convexnn.relaxations.arrow.chart import Chart
from convexnn.relaxations.arrow.forms import Forms
from convexnn.relaxations.arrow.rows import Places, Products, RowGroup

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What all rows of a query share: everything but the objective.

    Rows of the relaxation, with ``r = s - z``, u the upper bound of s, and all of them scaled:

        t: X_00 = 1;   over: r <= 0;   zero: z r = 0;   box: z (z - u) <= 0;   cut: triangle;   extra: forms <= 0.

    ``z >= 0`` follows from ``box``: ``u z >= z**2 >= 0``.

    Attributes
    ----------
    chart : Chart
    forms : Forms
    triangle : bool
        Whether the upper side of the triangle ``z <= u (s - l) / (u - l)`` is a row as well.
    products : Products
        Rows of pairs of units.
    """

    chart: Chart
    forms: Forms
    triangle: bool = False
    products: Products = field(default_factory=Products)
    Rh: Array = field(init=False)
    W: Array = field(init=False)
    R: Array = field(init=False)
    chord: Array = field(init=False)
    chord_level: Array = field(init=False)

    def __post_init__(self) -> None:
        """Split the forms into their parts on h and xi."""
        m, rows = self.forms.m, [self.forms.units, self.forms.signs]
        if self.chart.is_clipped:
            ball = np.zeros((1, 1 + m + self.chart.d))
            ball[0, 1 + m :] = 2.0 * self.chart.tilt
            rows.append(ball)
        stacked = np.vstack(rows)
        Rh = np.ascontiguousarray(stacked[:, : 1 + m])
        Rh[np.arange(m), 1 + np.arange(m)] -= 1.0  # exact: no form of a unit holds the unit itself
        chord = self.forms.upper / (self.forms.upper - self.forms.lower)
        ends = np.minimum(chord * self.forms.lower, chord * self.forms.upper - self.forms.upper)
        margin = 1e-15 * (np.abs(chord * self.forms.lower) + np.abs(chord * self.forms.upper) + self.forms.upper)
        W = np.ascontiguousarray(stacked[:, 1 + m :])
        object.__setattr__(self, "Rh", Rh)
        object.__setattr__(self, "W", W)
        object.__setattr__(self, "R", 0.5 * np.hstack([Rh, W]))
        object.__setattr__(self, "chord", chord)
        object.__setattr__(self, "chord_level", ends - margin)

    # -- sizes ------------------------------------------------------------------------------------
    @cached_property
    def m(self) -> int:
        """Unstable units."""
        return self.forms.m

    @cached_property
    def p(self) -> int:
        """Size of h."""
        return 1 + self.forms.m

    @cached_property
    def d(self) -> int:
        """Input coordinates."""
        return self.chart.d

    @property
    def extra(self) -> int:
        """Rows on the constant besides those of the units: signs and the ball of a clipped ball."""
        return len(self.Rh) - self.m

    @cached_property
    def n_rows(self) -> int:
        """Length of y."""
        return self.groups[-1].at.stop

    @cached_property
    def n_nu(self) -> int:
        """Length of nu."""
        return 1 if self.chart.is_ball else self.d

    @cached_property
    def groups(self) -> tuple[RowGroup, ...]:
        """The rows in the order of y."""
        m, p, x, pairs = self.m, self.p, self.extra, self.products
        constant, z, r, last = slice(0, 1), slice(1, p), slice(p, p + m), p + m + x
        parts: list[tuple[str, Places, Places, int, float]] = [
            ("t", constant, constant, 1, 1.0),
            ("over", constant, r, m, 1.0),
            ("zero", z, r, m, 1.0),
            ("box", z, slice(last, last + m), m, 1.0),
            ("cut", constant, slice(last + m, last + 2 * m), m * self.triangle, 1.0),
            ("low", 1 + pairs.i[pairs.low], p + pairs.j[pairs.low], int(pairs.low.sum()), 1.0),
            ("high", last + pairs.i[~pairs.low], p + pairs.j[~pairs.low], int((~pairs.low).sum()), -1.0),
            ("extra", constant, slice(p + m, last), x, 1.0),
        ]
        found, start = [], 0
        for name, left, right, size, sign in parts:
            if size:
                found.append(RowGroup(name, left, right, slice(start, start + size), sign))
            start += size
        return tuple(found)

    @cached_property
    def _places(self) -> dict[str, slice]:
        return {group.name: group.at for group in self.groups}

    def group(self, name: str) -> slice:
        """Multipliers of the rows of a name; empty when there are none."""
        return self._places.get(name, slice(0, 0))

    @cached_property
    def pairs(self) -> slice:
        """Multipliers of the rows of `products`, in their order."""
        stop = self.group("extra").start if self.extra else self.n_rows
        return slice(stop - len(self.products), stop)

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """Which multipliers (y, nu) must be >= 0 on their own, shape (n_rows + n_nu,)."""
        mask = np.ones(self.n_rows + self.n_nu, dtype=bool)
        mask[0] = False
        mask[self.group("zero")] = False
        mask[self.n_rows :] = self.chart.is_clipped  # otherwise Z > 0 says it
        return mask

    @cached_property
    def cost(self) -> Array:
        """Right sides: the bound is ``cost (y, nu)``, shape (n_rows + n_nu,)."""
        found = np.zeros(self.n_rows + self.n_nu)
        found[0] = 1.0
        found[self.n_rows :] = 1.0
        if self.chart.is_clipped:
            found[self.n_rows - 1] = self.chart.level
        return found

    # -- the linear map of the multipliers ----------------------------------------------------------
    def diagonal(self, v: Array) -> Array:
        """N of multipliers (y, nu), shape (d,)."""
        nu = v[self.n_rows :]
        if self.chart.is_ball:
            return np.full(self.d, nu[0])
        return nu + v[self.n_rows - 1] * self.chart.curvature if self.chart.is_clipped else nu

    def arrow(self, v: Array) -> tuple[Array, Array, Array]:
        """``(Zhh, B, N)`` of multipliers (y, nu), without the objective; linear."""
        m, p = self.m, self.p
        on_constant = np.concatenate([v[self.group("over")], v[self.group("extra")]])
        zero, box, cut = v[self.group("zero")], v[self.group("box")], v[self.group("cut")]
        if self.triangle:
            on_constant[:m] -= self.chord * cut
        half = np.empty((p, self.R.shape[1]))
        if len(self.products):
            np.matmul(self.mixed(zero, v[self.pairs], on_constant), self.R[:m], out=half[1:])
        else:
            np.multiply(zero[:, None], self.R[:m], out=half[1:])
        np.matmul(on_constant, self.R, out=half[0])
        B = half[:, p:]
        Z = half[:, :p] + half[:, :p].T
        index = np.arange(1, p)
        Z[index, index] += box
        line = -0.5 * self.forms.upper * box
        Z[0, 0] += v[0]
        if self.triangle:
            line += 0.5 * (1.0 - self.chord) * cut
            Z[0, 0] += self.chord_level @ cut
        Z[0, 1:] += line
        Z[1:, 0] += line
        return Z, B, self.diagonal(v)

    def mixed(self, zero: Array, pairs: Array, on_constant: Array) -> Array:
        """Coefficients (m, m) of ``z_i r_j``; the part of the products on ``r_j`` alone is added to on_constant."""
        products, high = self.products, ~self.products.low
        found = np.diag(zero)
        np.add.at(found, (products.i, products.j), products.signs * pairs)
        np.add.at(on_constant, products.j[high], self.forms.upper[products.i[high]] * pairs[high])
        return found

    def stack(self, base: Array) -> Array:
        """Gram matrix of the whole stack from that of ``[e0; z; r; extra]``."""
        m, n = self.m, len(base)
        if not m:
            return base
        full = np.empty((n + m * (1 + self.triangle),) * 2)
        full[:n, :n] = base
        self._derived(full[:n, :n], full[n:, :n])
        full[:n, n:] = full[n:, :n].T
        self._derived(full[:n, n:], full[n:, n:])
        return full

    def _derived(self, base: Array, out: Array) -> None:
        """Rows g and tau of a matrix from its rows e0, z and r."""
        m, p = self.m, self.p
        np.multiply(-self.forms.upper[:, None], base[0], out=out[:m])
        out[:m] += base[1:p]
        if self.triangle:
            np.multiply(self.chord_level[:, None], base[0], out=out[m:])
            out[m:] += (1.0 - self.chord)[:, None] * base[1:p]
            out[m:] -= self.chord[:, None] * base[p : p + m]

    def extend(self, base: Array) -> Array:
        """Columns of the whole stack from the columns ``[e0; z; r; extra]``."""
        n = base.shape[1]
        full = np.empty((len(base), n + self.m * (1 + self.triangle)))
        full[:, :n] = base
        self._derived(base.T, full[:, n:].T)
        return full

    def adjoint(self, gram: Array, diagonal: Array) -> Array:
        """``A*(M)`` from the Gram matrix of the stack under M and the diagonal of the input block of M."""
        found = np.empty(self.n_rows + self.n_nu)
        for group in self.groups:
            found[group.at] = group.of(gram)
        return self.add_diagonal(found, diagonal)

    def adjoint_of(self, Mhh: Array, Mx: Array, diagonal: Array) -> Array:
        """``A*(M)`` of a symmetric M given on the arrow: (p, p), (d, p), (d,)."""
        m = self.m
        row = self.Rh @ Mhh[0] + self.W @ Mx[:, 0]
        cross = np.einsum("ij,ij->i", Mhh[1:], self.Rh[:m]) + np.einsum("ij,ij->i", Mx.T[1:], self.W[:m])
        found = np.empty(self.n_rows + self.n_nu)
        found[0] = Mhh[0, 0]
        found[self.group("over")] = row[:m]
        found[self.group("zero")] = cross
        found[self.group("box")] = Mhh.diagonal()[1:] - self.forms.upper * Mhh[0, 1:]
        found[self.group("extra")] = row[m:]
        if len(self.products):
            products = self.products
            values = np.einsum("ij,ij->i", Mhh[1 + products.i], self.Rh[products.j])
            values += np.einsum("ij,ij->i", Mx.T[1 + products.i], self.W[products.j])
            above = self.forms.upper[products.i] * row[products.j] - values
            found[self.pairs] = np.where(products.low, values, above)
        if self.triangle:
            found[self.group("cut")] = (
                self.chord_level * Mhh[0, 0] + (1.0 - self.chord) * Mhh[0, 1:] - self.chord * row[:m]
            )
        return self.add_diagonal(found, diagonal)

    def add_diagonal(self, found: Array, diagonal: Array) -> Array:
        """Fill the part of nu, and what the ball of a clipped ball sees of the diagonal."""
        found[self.n_rows :] = diagonal.sum() if self.chart.is_ball else diagonal
        if self.chart.is_clipped:
            found[self.n_rows - 1] += self.chart.curvature @ diagonal
        return found


@dataclass(frozen=True, eq=False)
class ArrowProblem:
    """One row of a query: minimise ``cost (y, nu)`` subject to ``Z(y, nu) - objective >= 0``.

    Attributes
    ----------
    relaxation : Relaxation
    objective : array, shape (1 + m + d,)
        Affine form that is maximized over the network.
    """

    relaxation: Relaxation
    objective: Array

    @cached_property
    def unit(self) -> float:
        """Size of the objective: tolerances are relative to it, so that scaled networks behave alike."""
        return max(float(np.abs(self.objective[1:]).max(initial=0.0)), 1e-300)

    def without_constant(self) -> ArrowProblem:
        """The same problem with the constant of the objective left out: t is lower by it."""
        objective = self.objective.copy()
        objective[0] = 0.0
        return ArrowProblem(self.relaxation, objective)

    def arrow(self, v: Array) -> tuple[Array, Array, Array]:
        """``(Zhh, B, N)`` of multipliers (y, nu), the objective subtracted."""
        Z, B, N = self.relaxation.arrow(v)
        p = self.relaxation.p
        half = 0.5 * self.objective
        Z[0, 0] -= self.objective[0]
        Z[0, 1:] -= half[1:p]
        Z[1:, 0] -= half[1:p]
        B[0] -= half[p:]
        return Z, B, N
