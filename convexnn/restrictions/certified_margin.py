"""Program M: certified-margin training of a classifier, with patterns and output directions fixed.

With ``w_i`` as rows of ``U``, ``x_k = (x, 1)`` and ``f = sum_i D_ki (x_k'w_i) vh_i + c``::

    minimize    share sum_k om_k sum_{b != y_k} l( (f_{y_k} - f_b)(x_k) - radius L_{y_k b}(U) ) + 2 lam sum_i |w_i|
    subject to  (2 D_ki - 1) x_k'w_i >= 0

``L_ab`` is LipSDP (norm 2) or the max-gradient bound (norm inf) of ``f_a - f_b``: a norm of its units
``(vh_ia - vh_ib) w_i``, which are linear in U. l is convex and decreasing, so the program is convex.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network, as_network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Dual
from convexnn.restrictions.certified_margin_dual import MarginGeometry, margin_lower_bound
from convexnn.restrictions.certified_margin_terms import MarginTerms
from convexnn.restrictions.cones import project
from convexnn.restrictions.reference import labelled_dual
from convexnn.restrictions.stated_views import StatedMargin
from convexnn.restrictions.units import relative_slack
from convexnn.restrictions.vector_units import (
    classwise_dictionary,
    dictionary_at,
    joined,
    lengths_and_directions,
    place_directed,
    scaled_units,
)

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]


class CertifiedMargin(StatedMargin):
    """Certified-margin training with fixed patterns and output directions; see the module for the program.

    The objective is an upper bound on the robust loss of the decoded network, everywhere in the balls and not only at
    samples with fixed patterns: the value of the program is itself a certificate.

    Implements: convexnn, Theorem 2 of docs/theory/certified_margin.md.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Inputs; equal rows with equal labels are merged into weighted ones.
    y : array-like of int, shape (n,)
        Class indices 0 to k - 1; 0 or 1 with one output.
    patterns : ActivationPatterns
        On the rows of ``X``; signs are not used.
    directions : array-like, shape (patterns, k)
        Output direction of every pattern; normalized here.
    **settings
        ``radius`` (at least zero, raw input units), ``norm`` (2 or inf), ``lam`` (at least zero), ``loss`` ("hinge",
        "squared_hinge" or "logistic"), ``sample_weight``, ``start`` (a network, lifted into :attr:`start`).

    Raises
    ------
    InvalidInputError
        For data, patterns, directions or settings that cannot be used.
    """

    name = "certified-margin program"

    def __init__(
        self, X: ArrayLike, y: ArrayLike, patterns: ActivationPatterns, directions: ArrayLike, **settings: Any
    ) -> None:
        unit = lengths_and_directions(directions)[1]
        start = settings.pop("start", None)
        self.terms = MarginTerms.of(X, y, unit.shape[1], **settings)
        if not isinstance(patterns, ActivationPatterns) or len(unit) != patterns.n_patterns:
            raise InvalidInputError(
                f"{len(unit)} directions were given for {patterns!r}; expected one for each pattern"
            )
        if patterns.n_rows != len(np.asarray(X)):
            raise InvalidInputError(
                f"the patterns have {patterns.n_rows} rows and X has {len(np.asarray(X))}; extract them from this X"
            )
        rows = self.terms.rows
        D = rows.select(patterns.expand().D).astype(float)
        self.geometry = MarginGeometry(
            X=np.hstack([rows.X, np.ones((len(rows.X), 1))]),
            D=D,
            S=rows.fresh[:, None] * (2 * D - 1),
            directions=np.repeat(unit, patterns.counts, axis=0),
        )
        self._start = None if start is None else self.lift(start)

    @classmethod
    def at(cls, network: Any, X: ArrayLike, y: ArrayLike, *, classwise: bool = False, **settings: Any) -> Self:
        """Program with the patterns and output directions of a network, which is its start.

        Parameters
        ----------
        network : Network or any model that ``as_network`` takes
            One hidden ReLU layer.
        X : array-like, shape (n, d)
        y : array-like of int, shape (n,)
        classwise : bool
            Add every distinct pattern with the directions ``+-e_c`` of every output: more freedom, more units.
        **settings
            As of the class.
        """
        dictionary = dictionary_at(network, X)
        if classwise:
            dictionary = joined(dictionary, classwise_dictionary(dictionary[0], as_network(network).n_outputs))
        return cls(X, y, *dictionary, start=network, **settings)

    # -- points -------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the units in a point: (patterns, d + 1)."""
        return self.geometry.D.shape[1], self.geometry.X.shape[1]

    @property
    def start(self) -> Array | None:
        """The lifted network, or None."""
        return self._start

    @property
    def scale(self) -> float:
        """Objective of the zero network."""
        return self.objective(np.zeros(math.prod(self.shape) + self.terms.n_outputs))

    def structure(self) -> None:
        """No structured solver knows this program."""

    def split(self, z: ArrayLike) -> tuple[Array, Array]:
        """Units (patterns, d + 1) and output biases (k,) of a point, a vector of both."""
        point = np.asarray(z, dtype=float)
        size = math.prod(self.shape)
        if point.shape != (size + self.terms.n_outputs,):
            raise InvalidInputError(
                f"a point of this program has shape {(size + self.terms.n_outputs,)}, got {point.shape}"
            )
        return point[:size].reshape(self.shape), point[size:]

    # -- values -------------------------------------------------------------------------------------
    def objective(self, z: Array, dual: Dual | None = None) -> float:  # noqa: ARG002
        """Value at ``z``, with certified upper bounds for ``L_ab``."""
        U, c = self.split(z)
        g, terms = self.geometry, self.terms
        outputs = (g.D * (g.X @ U.T)) @ g.directions + c
        bounds = terms.bounds(U[:, :-1], g.directions.T).upper
        decay = 2 * terms.lam * float(np.linalg.norm(U, axis=1).sum())
        return terms.data_value(outputs, bounds) + decay

    def violation(self, z: Array) -> float:
        """Largest relative violation of a cone row; infinite for points that are not finite."""
        U, c = self.split(z)
        if not (np.isfinite(U).all() and np.isfinite(c).all()):
            return math.inf
        slack = relative_slack(self.geometry.X, self.geometry.S, U, floor=1e-3)
        return max(0.0, -float(slack.min(initial=0.0)))

    def lower_bound(self, dual: Dual) -> float:
        """Lower bound on the optimum, valid for every ``dual``; never below zero, the least value of every loss.

        ``dual.residual`` (n, classes - 1) are multipliers of the margins, ``dual.rows`` those of the cones and
        ``dual.matrix`` (pairs, d + patterns + 1, d + patterns + 1) those of the matrix inequalities.
        Without ``lam`` nothing pays for residuals of stationarity, and the bound is zero.

        Implements: convexnn, Proposition 3 of docs/theory/certified_margin.md.
        """
        return margin_lower_bound(self.terms, self.geometry, dual)

    # -- cvxpy --------------------------------------------------------------------------------------
    def cvxpy_problem(self) -> cvxpy.Problem:
        """The program with variables ``U`` (units), ``c`` (output biases), ``margin`` and ``L`` (a bound a pair)."""
        import cvxpy as cp

        g, terms = self.geometry, self.terms
        U, c = cp.Variable(self.shape, name="U"), cp.Variable(terms.n_outputs, name="c")
        L = cp.Variable(len(terms.members), name="L", nonneg=True)
        margin = cp.Variable(terms.rivals.size, name="margin")
        outputs = cp.multiply(g.D, g.X @ U.T) @ g.directions + np.ones((len(g.X), 1)) @ cp.reshape(
            c, (1, terms.n_outputs), order="C"
        )
        samples = np.repeat(np.arange(len(g.X)), terms.rivals.shape[1])
        gaps = cp.sum(cp.multiply(outputs[samples], terms.contrasts.reshape(len(samples), -1)), axis=1)
        weight = terms.share * terms.rows.weight[samples]
        loss = weight @ terms.loss.cvxpy(margin, np.ones(len(samples)))
        constraints = [(gaps - terms.radius * L[terms.pair_of.ravel()] >= margin).set_label("margins")]
        constraints += [(cp.multiply(g.S, g.X @ U.T) >= 0).set_label("cones")]
        if terms.radius > 0:
            for p in range(len(terms.members)):
                constraints += self._epigraph(U, L[p], p)
        decay = 2 * terms.lam * cp.sum(cp.norm(U, axis=1)) if terms.lam else 0.0
        return cp.Problem(cp.Minimize(loss + decay), constraints)

    def _epigraph(self, U: Any, bound: Any, p: int) -> list[Any]:
        """``bound >= L_p``: LipSDP or the max-gradient bound of pair p as one matrix inequality."""
        import cvxpy as cp

        coefficients = self.geometry.directions @ self.terms.differences[p]
        units = cp.multiply(coefficients[:, None], U[:, :-1])
        B = cp.vstack([cp.sum(units, axis=0, keepdims=True), units])
        q = cp.Variable(B.shape[0])
        if self.terms.norm == 2:
            block = cp.bmat([[bound * np.eye(B.shape[1]), B.T / 2], [B / 2, cp.diag(q)]])
            return [(block >> 0).set_label(f"pair {p}"), cp.sum(q) <= bound]
        y = cp.Variable(B.shape[1])
        block = cp.bmat([[cp.diag(y), B.T / 2], [B / 2, cp.diag(q)]])
        return [(block >> 0).set_label(f"pair {p}"), cp.sum(q) + cp.sum(y) <= 2 * bound]

    def read_cvxpy(self, problem: cvxpy.Problem) -> tuple[Array, Dual | None]:
        """Point, moved into the cones, and multipliers."""
        g = self.geometry
        U, c = problem.var_dict["U"].value, problem.var_dict["c"].value
        U = np.array([project(g.S[:, i, None] * g.X, u) for i, u in enumerate(U)])
        residual, rows = labelled_dual(problem, "margins"), labelled_dual(problem, "cones")
        size = sum(self.shape)
        blocks = [labelled_dual(problem, f"pair {p}") for p in range(len(self.terms.members))]
        found = [np.zeros((size, size)) if block is None else block for block in blocks]
        if residual is None or rows is None:
            return np.r_[U.ravel(), c], None
        return np.r_[U.ravel(), c], Dual(residual.reshape(self.terms.rivals.shape), rows, np.array(found))

    # -- networks -----------------------------------------------------------------------------------
    def lift(self, network: Any) -> Array:
        """Point of the program that is the network on the rows of X; its objective is at most the network's.

        Raises
        ------
        InvalidInputError
            When a unit has a pattern or an output direction that the program does not have.
        """
        net, g = self.terms.checked(network), self.geometry
        units, directions = scaled_units(net)
        target = place_directed(g.X, g.S, g.directions, units, directions)
        U = np.zeros(self.shape)
        np.add.at(U, target[target >= 0], units[target >= 0])
        return np.r_[U.ravel(), net.layers[-1][1]]

    def decode(self, z: Array) -> Network:
        """Network with balanced units; for a feasible point its objective is that of the point."""
        U, c = self.split(z)
        root = np.sqrt(np.linalg.norm(U, axis=1))[:, None]
        inner = np.divide(U, root, out=np.zeros_like(U), where=root > 0)
        return Network.shallow(inner[:, :-1], inner[:, -1], (root * self.geometry.directions).T, c)

    def network_objective(self, network: Any) -> float:
        """J at a network, whatever its patterns: see :meth:`MarginTerms.objective`."""
        return self.terms.objective(network)
