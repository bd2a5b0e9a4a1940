"""Convex adversarial training of ReLU networks: certified margins instead of constant patterns.

Sources: Bai, Gautam & Sojoudi 2022 (arXiv 2201.01965), binary; Kuelbs, Lall & Pilanci 2024 (arXiv 2405.14033),
program (15), several classes. What is new here, and its proofs: docs/theory/robust_relu.md.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.losses import MarginLoss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.restrictions.base import positive
from convexnn.restrictions.loss_bounds import check_loss_targets
from convexnn.restrictions.robust_relu_dual import RobustDual, lower_bound, natural_dual
from convexnn.restrictions.robust_relu_margins import (
    certified_margins,
    chord_slopes,
    mixed_slopes,
    pattern_slopes,
    stability_violations,
)
from convexnn.restrictions.robust_relu_reference import certified_problem, read_problem, stable_problem
from convexnn.restrictions.robust_relu_terms import (
    RobustTerms,
    binary_margins,
    checked_norm,
    checked_radius,
    checked_slopes,
    margin_loss,
    rival_margins,
)
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.restrictions.stated_views import StatedRobust
from convexnn.restrictions.units import hidden
from convexnn.restrictions.vector_units import (
    SAME_DIRECTION,
    checked_vector_network,
    dictionary_at,
    lengths_and_directions,
    outer_weights,
)

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: Scaled units with a stability violation up to this count as inside (15).
STABLE = 1e-7


class RobustRelu(StatedRobust):
    r"""Adversarial training of a ReLU network as a convex program, over balls around the training rows.

    ::

        minimize  sum_t weight_t l(m_t(U, c)) + 2 lam sum_i |p_i|          over hidden units p_i and output biases c

    with the certified margins m_t of :func:`certified_margins`: lower bounds of the margins on the whole ball that are
    concave in (U, c). Nothing is constrained: every network on these output directions is a point, and the value of
    every point bounds the worst-case loss of its network from above. With ``stable=True`` the constraints
    ``(2 D_ki - 1) x_k'p_i >= r |w_i|_q`` of program (15) are added, which keep every pattern constant on the balls and
    make the value exact; they cost a lot and buy nothing, since the optimum without them is never higher.

    One output: labels -1 / +1, one margin ``y f`` a row. Several outputs: class indices, one margin ``f_y - f_k`` for
    every other class, their losses averaged; two classes are the binary program. The bias of a unit is never attacked.

    Implements: Kuelbs, Lall & Pilanci (2024), program (15).

    Parameters
    ----------
    X : array-like, shape (n, d)
        Repeated rows are merged.
    y : array-like, shape (n,)
        Labels -1 / +1 (one output) or class indices 0 .. k - 1.
    patterns : ActivationPatterns
        On the rows of X; the signs are the output directions where none are given.
    lam : float
        Positive weight of ``2 sum_i |p_i|``, which is the sum of squared weights of a network with balanced units.
    radius : float
        At least 0, in units of X.
    norm : {2, inf}
        Of the attack.
    loss : str or MarginLoss
        "hinge", "squared_hinge" or "logistic".
    directions : array-like, shape (patterns, k), or None
        Output direction of every pattern, normalized here.
    slopes : array-like, shape (n, units), or None
        Numbers in [0, 1] instead of the patterns, on the rows of X.
    stable : bool
        Program (15) as it is in the paper.
    sample_weight : array-like, shape (n,), or None
    start : Network or None
        Lifted into :attr:`start`.

    Raises
    ------
    InvalidInputError
        For NaN, a negative radius, labels that are no labels or shapes that do not fit.
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        patterns: ActivationPatterns,
        lam: float,
        radius: float,
        *,
        norm: float | str = 2,
        loss: str | MarginLoss = "hinge",
        directions: ArrayLike | None = None,
        slopes: ArrayLike | None = None,
        stable: bool = False,
        sample_weight: ArrayLike | None = None,
        start: Any = None,
    ) -> None:
        self.stable = bool(stable)
        self.name = "robust ReLU program (15)" if stable else "robust ReLU program with certified margins"
        self.rows = distinct_rows(X, y, sample_weight, with_targets=True)
        if not isinstance(patterns, ActivationPatterns) or patterns.n_rows != len(np.asarray(X)):
            raise InvalidInputError(f"patterns must be ActivationPatterns on the {len(np.asarray(X))} rows of X")
        if slopes is not None and self.stable:
            raise InvalidInputError("slopes were given with stable=True; program (15) has patterns only")
        self._n_rows = patterns.n_rows
        expanded = patterns.expand()
        unit = _directions(expanded, patterns.counts, directions)
        D = self.rows.select(expanded.D).astype(float)
        if slopes is not None:
            D = checked_slopes(slopes, expanded.D.shape)[self.rows.index]
        margins, weight = _margins(self.rows, unit.shape[1], margin_loss(loss))
        self.terms = RobustTerms(
            X=np.hstack([self.rows.X, np.ones((len(self.rows.X), 1))]),
            slopes=D,
            directions=unit,
            rows=margins[0],
            plus=margins[1],
            minus=margins[2],
            weight=weight,
            radius=checked_radius(radius),
            norm=checked_norm(norm),
            loss=margin_loss(loss),
            lam=positive(lam, "lam"),
        )
        self._start = None if start is None else self.lift(start)

    @classmethod
    def at(cls, network: Any, X: ArrayLike, y: ArrayLike, lam: float, radius: float, **options: Any) -> Self:
        """Program with the patterns and output directions of a network, which is its start (unless ``stable``)."""
        patterns, directions = dictionary_at(network, X)
        start = None if options.get("stable") else network
        return cls(X, y, patterns, lam, radius, directions=directions, start=start, **options)

    def with_slopes(self, slopes: Array) -> RobustRelu:
        """The same program with other slopes on the distinct rows, shape (n, units)."""
        other = copy(self)
        other.terms = self.terms.with_slopes(checked_slopes(slopes, self.terms.slopes.shape))
        return other

    def to_rows(self, values: Array) -> Array:
        """Values of the distinct rows as values of the rows of X; NaN for rows without weight, shape (n,)."""
        found = np.full(self._n_rows, np.nan)
        found[self.rows.used] = values[self.rows.inverse]
        return found

    # -- points -------------------------------------------------------------------------------------
    def pack(self, U: Array, c: Array) -> Array:
        """Point of units (p, d + 1) and output biases (k,), shape (p (d + 1) + k,)."""
        return np.concatenate([np.ravel(U), np.ravel(c)])

    def unpack(self, z: ArrayLike) -> tuple[Array, Array]:
        """Units (p, d + 1) and output biases (k,) of a point."""
        point = np.asarray(z, dtype=float)
        shape, k = (self.terms.n_units, self.terms.n_inputs + 1), self.terms.n_outputs
        if point.shape != (shape[0] * shape[1] + k,):
            raise InvalidInputError(
                f"a point of this program has shape ({shape[0] * shape[1] + k},), got {point.shape}"
            )
        return point[:-k].reshape(shape), point[-k:]

    @property
    def start(self) -> Array | None:
        """The lifted network, or None."""
        return self._start

    @property
    def scale(self) -> float:
        """Objective of the zero network: the loss at margin zero."""
        return float(self.terms.weight @ self.terms.losses(np.zeros(self.terms.n_margins)))

    def structure(self) -> None:
        """No structure for the solvers of the package; :func:`convexnn.training.train_robust_relu` has its own."""

    # -- evaluation ---------------------------------------------------------------------------------
    def margins(self, z: ArrayLike) -> Array:
        """Certified margins of the network of a point, shape (N,)."""
        return certified_margins(self.terms, *self.unpack(z))

    def objective(self, z: ArrayLike, dual: RobustDual | None = None) -> float:  # noqa: ARG002
        """Value at ``z``: an upper bound on the worst-case objective of ``decode(z)``, feasible or not."""
        U, _ = self.unpack(z)
        with np.errstate(over="ignore", invalid="ignore"):
            size = 2 * float(np.linalg.norm(U, axis=1).sum())
        return self._value(self.margins(z), size)

    def _value(self, margins: Array, size: float) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            value = float(self.terms.weight @ self.terms.losses(margins)) + self.terms.lam * size
        return value if math.isfinite(value) else math.inf

    def violation(self, z: ArrayLike) -> float:
        """Largest relative violation of the stability constraints; zero where there are none and ``z`` is finite."""
        U, c = self.unpack(z)
        if not (np.isfinite(U).all() and np.isfinite(c).all()):
            return math.inf
        return float(stability_violations(self.terms, U).max()) if self.stable else 0.0

    def lower_bound(self, dual: RobustDual) -> float:
        """Lower bound on the optimum, valid for every ``dual``; see :func:`lower_bound`."""
        if not self.stable and dual.rows is not None:
            dual = RobustDual(dual.slopes, dual.attacks, dual.shares)
        return lower_bound(self.terms, dual)

    def natural_dual(self, z: ArrayLike) -> RobustDual:
        """Multipliers that belong to a point; they prove its optimality where it is smooth."""
        return natural_dual(self.terms, self.unpack(z)[0], self.margins(z))

    # -- networks -----------------------------------------------------------------------------------
    def lift(self, network: Any) -> Array:
        """Point whose network this is, up to the scaling of the units.

        Every unit goes to a slot of its output direction, the slot whose slopes are nearest to its pattern.

        Raises
        ------
        InvalidInputError
            When there are not enough slots of a direction; with ``stable`` also when a pattern is not constant.
        """
        net = checked_vector_network(network, self.terms.n_inputs, self.terms.n_outputs)
        lengths, unit = lengths_and_directions(outer_weights(net))
        units = lengths[:, None] * hidden(net)
        U = np.zeros((self.terms.n_units, self.terms.n_inputs + 1))
        target = self._slots(units, unit)
        U[target[target >= 0]] = units[target >= 0]
        z = self.pack(U, np.asarray(net.layers[-1][1]))
        if self.violation(z) > STABLE:
            raise InvalidInputError(
                "a unit of the network changes its activation inside of a ball, or has another pattern there; program "
                "(15) does not contain it, the program without stable=True does"
            )
        return z

    def _slots(self, units: Array, directions: Array) -> NDArray[np.intp]:
        pattern = pattern_slopes(self.terms, units)
        free, target = np.ones(self.terms.n_units, dtype=bool), np.full(len(units), -1)
        same_size = len(units) == self.terms.n_units
        for i in np.flatnonzero(units.any(axis=1)):
            fits = free & (np.abs(self.terms.directions - directions[i]).max(axis=1) <= SAME_DIRECTION)
            if not fits.any():
                raise InvalidInputError(
                    f"unit {i} of the network has an output direction that no free unit of this program has; "
                    "build the program at that network"
                )
            slots = np.flatnonzero(fits)
            distance = np.abs(self.terms.slopes[:, slots] - pattern[:, [i]]).sum(axis=0)
            target[i] = i if same_size and fits[i] else slots[np.argmin(distance)]
            free[target[i]] = False
        return target

    def decode(self, z: ArrayLike) -> Network:
        """ReLU network of a point, with balanced units."""
        U, c = self.unpack(z)
        root = np.sqrt(np.linalg.norm(U, axis=1))[:, None]
        inner = np.divide(U, root, out=np.zeros_like(U), where=root > 0)
        return Network.shallow(inner[:, :-1], inner[:, -1], (root * self.terms.directions).T, c)

    def network_objective(self, network: Any) -> float:
        """Certified worst-case loss of a network plus ``2 lam sum_i |v_i| |(w_i, b_i)|``.

        Every margin is the best of several certificates: slopes of this program where the network has its number of
        units, patterns, chords, and patterns above with chords below. An upper bound on the worst-case objective.
        """
        net = checked_vector_network(network, self.terms.n_inputs, self.terms.n_outputs)
        size = np.linalg.norm(hidden(net), axis=1) @ np.linalg.norm(outer_weights(net), axis=1)
        return self._value(self.network_margins(net), 2 * float(size))

    def network_margins(self, network: Any) -> Array:
        """Certified margins of any network on the rows of this program, shape (N,)."""
        net = checked_vector_network(network, self.terms.n_inputs, self.terms.n_outputs)
        U, c = hidden(net), np.asarray(net.layers[-1][1])
        own = _with_units(self.terms, outer_weights(net), np.zeros((len(self.terms.X), len(U))))
        slopes = [pattern_slopes(own, U), chord_slopes(own, U), mixed_slopes(own, U)]
        if len(U) == self.terms.n_units:
            slopes.append(self.terms.slopes)
        return np.max([certified_margins(own.with_slopes(T), U, c) for T in slopes], axis=0)

    # -- cvxpy --------------------------------------------------------------------------------------
    def cvxpy_problem(self) -> cvxpy.Problem:
        """The program with variables ``U`` (hidden units) and ``c`` (output biases)."""
        return stable_problem(self.terms) if self.stable else certified_problem(self.terms)

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, RobustDual]:
        """Point and multipliers of a solved problem."""
        U, c, dual = read_problem(self.terms, problem)
        return self.pack(U, c), dual


def _directions(patterns: ActivationPatterns, counts: NDArray[np.int64], directions: ArrayLike | None) -> Array:
    if directions is None:
        return patterns.s[:, None]
    unit = lengths_and_directions(directions)[1]
    if len(unit) != len(counts):
        raise InvalidInputError(f"{len(unit)} directions were given for {len(counts)} patterns; expected one for each")
    return np.repeat(unit, counts, axis=0)


def _margins(rows: DistinctRows, n_outputs: int, loss: MarginLoss) -> tuple[tuple[Any, Any, Any], Array]:
    if n_outputs == 1:
        check_loss_targets(loss, rows.y)
        return binary_margins(rows.y), rows.weight
    if not (np.isin(rows.y, np.arange(n_outputs))).all():
        raise InvalidInputError(f"y must hold class indices 0 to {n_outputs - 1} for {n_outputs} outputs")
    margins = rival_margins(rows.y, n_outputs)
    return margins, rows.weight[margins[0]] / (n_outputs - 1)


def _with_units(terms: RobustTerms, directions: Array, slopes: Array) -> RobustTerms:
    return replace(terms, directions=directions, slopes=slopes)
