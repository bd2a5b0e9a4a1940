"""A polynomial network with one hidden layer is a quadratic function: its worst cases over balls are exact."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Identity, Polynomial
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.quadratic.spectrum import UNDERFLOW, LocalQuadratic, Spectrum, duality_bounds
from convexnn.quadratic.trust_region import TrustRegion, minimize_over_ball
from convexnn.rigorous import gamma, norm_up, product_up, row_norms_up, sum_up
from convexnn.values import ByValue

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, init=False)
class QuadraticForm(ByValue):
    """``f(x) = x'Qx + 2 q'x + h``.

    Parameters
    ----------
    Q : array, shape (d, d)
        Symmetric; the symmetric part is taken.
    q : array, shape (d,)
    h : float
    rounding : tuple of three floats, default (0, 0, 0)
        How far the function that is meant may be from these numbers: bounds on the errors of Q (spectral norm), of q
        (l2) and of h. :meth:`worst_case_bounds` speaks of the function that is meant.
    """

    Q: Array = field(repr=False)
    q: Array = field(repr=False)
    h: float
    rounding: tuple[float, float, float]

    def __init__(
        self, Q: ArrayLike, q: ArrayLike, h: float, rounding: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> None:
        matrix, vector = np.array(Q, dtype=float), np.array(q, dtype=float)
        if vector.ndim != 1 or matrix.shape != (len(vector), len(vector)) or len(vector) == 0:
            raise InvalidInputError(f"Q must be (d, d) and q (d,), not empty; got {matrix.shape} and {vector.shape}.")
        if not (np.isfinite(matrix).all() and np.isfinite(vector).all() and np.isfinite(h)):
            raise InvalidInputError("The quadratic function holds NaN or infinite numbers.")
        matrix = 0.5 * matrix + 0.5 * matrix.T
        for array in (matrix, vector):
            array.flags.writeable = False
        for name, value in (("Q", matrix), ("q", vector), ("h", float(h)), ("rounding", tuple(rounding))):
            object.__setattr__(self, name, value)

    @classmethod
    def of_network(cls, network: Network, weights: ArrayLike | None = None) -> QuadraticForm:
        """The quadratic function ``weights'f`` of a network with one hidden layer.

        ``sum_j v_j sigma(w_j'x + b_j) + c`` with ``sigma(t) = a t^2 + b t + c0`` has ``Q = a sum v_j w_j w_j'``,
        ``q = sum v_j (a b_j + b / 2) w_j`` and ``h = sum v_j sigma(b_j) + c``; what rounding adds is kept as bounds.

        Implements: convexnn, Lemma 1 of docs/theory/quadratic_worst_cases.md.

        Parameters
        ----------
        network : Network
            One hidden layer, activation :class:`Polynomial` or :class:`Identity`.
        weights : array, shape (k,), optional
            Of the outputs, as e_y - e_k for a margin; needed when there are several.

        Raises
        ------
        UnsupportedModelError
            For other activations and deeper networks.
        """
        a, b, c = polynomial_coefficients(network)
        W, bias = network.layers[0]
        V, offset = network.layers[1]
        if weights is None and network.n_outputs > 1:
            raise InvalidInputError(f"A network with {network.n_outputs} outputs needs weights of its outputs.")
        outer = np.ones(1) if weights is None else np.asarray(weights, dtype=float)
        if outer.shape != (network.n_outputs,):
            raise InvalidInputError(f"weights must have shape ({network.n_outputs},), got {outer.shape}.")
        with np.errstate(over="ignore", invalid="ignore"):
            v = outer @ V
            Q = a * ((W.T * v) @ W)
            q = (v * (a * bias + 0.5 * b)) @ W
            h = float(v @ ((a * bias + b) * bias + c) + outer @ offset)
        return cls(Q, q, h, _rounding_of_network(network, outer, (a, b, c)))

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigendecomposition of Q with rigorous errors."""
        return Spectrum.of(self.Q)

    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        return len(self.q)

    def values(self, X: ArrayLike) -> Array:
        """``f`` at every row, shape (n,)."""
        points = self._inputs(X)
        return np.einsum("ij,ij->i", points @ self.Q + 2.0 * self.q, points) + self.h

    def gradient(self, X: ArrayLike) -> Array:
        """Gradients ``2 (Q x + q)``, shape (n, d)."""
        return 2.0 * (self._inputs(X) @ self.Q + self.q)

    def worst_case(self, X: ArrayLike, signs: ArrayLike, radius: ArrayLike) -> tuple[Array, Array]:
        """Exact minima of ``s f(x + delta)`` over ``|delta|_2 <= radius``, and points that attain them.

        One eigendecomposition serves all samples: O(d^3 + n d^2).

        Implements: convexnn, Proposition 2 of docs/theory/quadratic_worst_cases.md.

        Parameters
        ----------
        X : array, shape (n, d)
        signs : float or array, shape (n,)
            -1 / +1: minima of f where +1, of -f where -1.
        radius : float or array, shape (n,)
            Nonnegative, l2.

        Returns
        -------
        values : array, shape (n,)
            Exact up to rounding, nan where numbers of float64 do not reach; see :meth:`worst_case_bounds` for proved
            lower bounds.
        points : array, shape (n, d)
            ``x + delta``, in the ball up to rounding.
        """
        points, local = self.local(X, signs)
        found = minimize_over_ball(local.curvature, local.linear, radius)
        with np.errstate(over="ignore", invalid="ignore"):
            return local.value + found.values, points + found.steps @ self.spectrum.vectors.T

    def worst_case_bounds(
        self, X: ArrayLike, signs: ArrayLike, radius: ArrayLike, excesses: ArrayLike | None = None
    ) -> Array:
        """Rigorous LOWER bounds on the minima of ``s f(x + delta)`` over ``|delta|_2 <= radius``, rounding included.

        Any multiplier gives a bound; the one of :meth:`worst_case` gives the minimum up to some ulps of the sizes
        involved. They hold for the real-valued function that is meant, also where Q itself was rounded.

        Parameters
        ----------
        X : array, shape (n, d)
        signs : float or array, shape (n,)
        radius : float or array, shape (n,)
        excesses : array, shape (n,), optional
            ``multiplier + min(s eigenvalues)``; any numbers.

        Returns
        -------
        array, shape (n,)
            ``-inf`` where nothing is proved (overflow).
        """
        points, local = self.local(X, signs)
        radii = np.array(np.broadcast_to(np.asarray(radius, dtype=float), len(points)))
        if excesses is None:
            excesses = minimize_over_ball(local.curvature, local.linear, radii).excesses
        shift = np.array(np.broadcast_to(np.asarray(excesses, dtype=float), len(points)))
        bounds = duality_bounds(local, self.spectrum, points, self.q, self.h, radii, shift)
        return np.nextafter(bounds - self.rounding_at(points, radii), -np.inf)

    def rounding_at(self, X: Array, radius: Array) -> Array:
        """Upper bound on ``|f - f_meant|`` on the balls of these radii (n,) around the rows of X, shape (n,)."""
        reach = (row_norms_up(X) + radius) * (1.0 + 2.0 * gamma(4))
        matrix, vector, number = self.rounding
        with np.errstate(over="ignore", invalid="ignore"):
            found = ((matrix * reach + 2.0 * vector) * reach + number) * (1.0 + 2.0 * gamma(8))
        return np.where(np.isfinite(found), found, np.inf)

    def local(self, X: ArrayLike, signs: ArrayLike) -> tuple[Array, LocalQuadratic]:
        """The samples as an array (n, d), and ``s f`` around them in eigen coordinates."""
        points = self._inputs(X)
        s = np.array(np.broadcast_to(np.asarray(signs, dtype=float), len(points)))
        if not (np.abs(s) == 1.0).all():
            raise InvalidInputError("signs must be -1 or +1.")
        slope = points @ self.Q + self.q
        value = np.einsum("ij,ij->i", slope + self.q, points) + self.h
        linear = s[:, None] * (slope @ self.spectrum.vectors)
        return points, LocalQuadratic(s * value, linear, s[:, None] * self.spectrum.values)

    def trust_region(self, X: ArrayLike, signs: ArrayLike, radius: ArrayLike) -> TrustRegion:
        """The trust regions behind :meth:`worst_case`: steps in eigen coordinates, multipliers."""
        _, local = self.local(X, signs)
        return minimize_over_ball(local.curvature, local.linear, radius)

    def _inputs(self, X: ArrayLike) -> Array:
        points = np.asarray(X, dtype=float)
        if points.ndim != 2 or points.shape[1] != self.n_inputs:
            raise InvalidInputError(f"Expected inputs of shape (n, {self.n_inputs}), got {points.shape}.")
        return points


def polynomial_coefficients(network: Network) -> tuple[float, float, float]:
    """Coefficients (a, b, c) of the activation of a network that is a quadratic function; a named refusal else.

    Parameters
    ----------
    network : Network

    Returns
    -------
    tuple of three floats
        (0, 1, 0) for the identity.

    Raises
    ------
    UnsupportedModelError
        For other activations and for networks with several hidden layers.
    """
    if not network.is_shallow or not isinstance(network.activation, Polynomial | Identity):
        raise UnsupportedModelError(
            f"Only networks with one hidden layer and a polynomial (or identity) activation are quadratic functions; "
            f"this one is {network!r}."
        )
    return network.activation.parameters if isinstance(network.activation, Polynomial) else (0.0, 1.0, 0.0)  # type: ignore[return-value]


def is_quadratic(network: Network) -> bool:
    """Whether a network is a quadratic function: one hidden layer, polynomial or identity activation.

    Parameters
    ----------
    network : Network

    Returns
    -------
    bool
    """
    return network.is_shallow and isinstance(network.activation, Polynomial | Identity)


def _rounding_of_network(
    network: Network, outer: Array, coefficients: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Bounds on the errors of Q (Frobenius), q (l2) and h as computed from the weights; ``inf`` for overflow."""
    a, b, c = (abs(number) for number in coefficients)
    (W, bias), (V, offset) = network.layers
    relative = 2.0 * gamma(len(bias) + len(outer) + 16)
    lengths, size = row_norms_up(W), np.abs(bias)
    with np.errstate(over="ignore", invalid="ignore"):
        v = np.abs(outer) @ np.abs(V)
        matrix = a * float(v @ (lengths * lengths))
        vector = float(v @ ((a * size + 0.5 * b) * lengths))
        number = float(v @ ((a * size + b) * size + c) + np.abs(outer) @ np.abs(offset))
        scale = 1.0 + a + b + c + float(v.sum()) + norm_up(lengths) + norm_up(size) + norm_up(outer)
    lost = product_up(UNDERFLOW, float(len(bias) + len(offset)), scale, scale)
    return tuple(sum_up([product_up(relative, part), lost]) for part in (matrix, vector, number))  # type: ignore[return-value]
