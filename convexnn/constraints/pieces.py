"""A shallow ReLU network as an affine function plus kinks on distinct hyperplanes, in rational arithmetic.

``f(x) = constant + linear'x + sum_h jump_h relu(n_h'x + b_h)`` with hyperplanes that are pairwise distinct as sets.
The form is unique, so what is read from it holds for the function and not for one of its networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.restrictions.units import checked_network

Array = NDArray[np.float64]
Row = tuple[Fraction, ...]

ZERO = Fraction(0)


def fractions(values: Array) -> list[Fraction]:
    """Floats as the rational numbers they are."""
    return [Fraction(value) for value in values.tolist()]


@dataclass(frozen=True)
class Pieces:
    """The unique form of a piecewise linear function with kinks on whole hyperplanes.

    Attributes
    ----------
    constant : Fraction
    linear : tuple of Fraction, length d
    kinks : mapping of (d + 1,) rows ``(n, b)`` with leading entry 1 to their jump
        Jumps are nonzero.
    """

    constant: Fraction
    linear: Row
    kinks: dict[Row, Fraction]

    def at(self, point: Array) -> Fraction:
        """Value at a point, exactly."""
        x = fractions(point)
        value = self.constant + dot(self.linear, x)
        for row, jump in self.kinks.items():
            value += jump * max(dot(row[:-1], x) + row[-1], ZERO)
        return value

    def gradients_at(self, point: Array) -> tuple[Row, Row]:
        """Entrywise smallest and largest gradient over all pieces that can touch a point, exactly."""
        x = fractions(point)
        low, high = list(self.linear), list(self.linear)
        for row, jump in self.kinks.items():
            side = dot(row[:-1], x) + row[-1]
            for j, entry in enumerate(row[:-1]):
                step = jump * entry
                low[j] += step if side > 0 else min(step, ZERO) if side == 0 else ZERO
                high[j] += step if side > 0 else max(step, ZERO) if side == 0 else ZERO
        return tuple(low), tuple(high)

    def moved(self, G: Array, character: float) -> Pieces:
        """The function ``x -> character f(G x)`` for a signed permutation matrix."""
        sources, factor = [int(np.flatnonzero(column)[0]) for column in G.T], Fraction(character)
        signs = [Fraction(G[source, j]) for j, source in enumerate(sources)]
        linear = [factor * sign * self.linear[source] for sign, source in zip(signs, sources, strict=True)]
        build = _Builder(len(linear))
        build.add_affine(Fraction(1), [*linear, factor * self.constant])
        for row, jump in self.kinks.items():
            normal = [sign * row[source] for sign, source in zip(signs, sources, strict=True)]
            build.add_unit([*normal, row[-1]], factor * jump)
        return build.pieces()


class _Builder:
    """Collects units; parallel and opposite ones fall together."""

    def __init__(self, d: int) -> None:
        self.constant, self.linear = ZERO, [ZERO] * d
        self.kinks: dict[Row, Fraction] = {}

    def add_affine(self, factor: Fraction, row: list[Fraction]) -> None:
        for j, entry in enumerate(row[:-1]):
            self.linear[j] += factor * entry
        self.constant += factor * row[-1]

    def add_unit(self, row: list[Fraction], outer: Fraction) -> None:
        """``outer relu(row'(x, 1))``; relu(-h) = relu(h) - h brings opposite units together."""
        lead = next((entry for entry in row[:-1] if entry), ZERO)
        if not lead:
            self.constant += outer * max(row[-1], ZERO)
            return
        key = tuple(entry / lead for entry in row)
        jump = outer * abs(lead)
        self.kinks[key] = self.kinks.get(key, ZERO) + jump
        if lead < 0:
            self.add_affine(-jump, list(key))

    def pieces(self) -> Pieces:
        kinks = {row: jump for row, jump in self.kinks.items() if jump}
        return Pieces(self.constant, tuple(self.linear), kinks)


def dot(row: Row | list[Fraction], x: Row | list[Fraction]) -> Fraction:
    """Exact scalar product."""
    return sum((a * b for a, b in zip(row, x, strict=True)), ZERO)


def pieces_of(network: Network) -> Pieces:
    """Unique form of a shallow ReLU network with one output.

    Implements: docs/theory/shape_constraints.md, Lemma 1.

    Raises
    ------
    UnsupportedModelError
        For another depth, activation or number of outputs.
    InvalidInputError
        For weights that are not finite.
    """
    net = checked_network(network, network.n_inputs)
    if not all(np.isfinite(a).all() for layer in net.layers for a in layer):
        raise InvalidInputError("The network holds NaN or infinite weights.")
    build = _Builder(net.n_inputs)
    build.constant = Fraction(net.c)
    for row, outer in zip(np.hstack([net.W, net.b[:, None]]), net.v.tolist(), strict=True):
        build.add_unit(fractions(row), Fraction(outer))
    return build.pieces()
