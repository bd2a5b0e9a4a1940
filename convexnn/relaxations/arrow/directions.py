"""HKM search directions on the arrow, the second-order corrector included, without ever forming the input block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.relaxations.arrow.factors import Completion, Grams, Primal, Slack, solve_factored
from convexnn.relaxations.arrow.problem import Relaxation

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Point:
    """One iterate with everything the directions need.

    Attributes
    ----------
    JG : array, shape (d, p)
        ``J G``.
    inverse_N : array, shape (d,)
    inverse_diagonal : array, shape (d,)
        Diagonal of the input block of ``Z^-1``.
    pull : array
        ``A*(Z^-1)``.
    """

    relaxation: Relaxation
    primal: Primal
    done: Completion
    slack: Slack
    grams: Grams
    JG: Array
    inverse_N: Array
    inverse_diagonal: Array
    pull: Array

    @classmethod
    def of(cls, relaxation: Relaxation, primal: Primal, done: Completion, slack: Slack, grams: Grams) -> Point:
        """Collect the products."""
        JG = grams.inputs_G[:, : relaxation.p]
        inverse_N = 1.0 / slack.N
        diagonal = np.einsum("ij,ij->i", JG, slack.J) + inverse_N
        pull = relaxation.adjoint(grams.G, diagonal)
        return cls(relaxation, primal, done, slack, grams, JG, inverse_N, diagonal, pull)


@dataclass(frozen=True, eq=False)
class Corrector:
    """``sym(dX dZ Z^-1)`` on the arrow, and ``ds dv`` for the rows with a sign."""

    hh: Array
    x: Array
    diagonal: Array
    rows: Array


@dataclass(frozen=True, eq=False)
class Direction:
    """Steps of the multipliers, of Z and of X on the arrow; the last three factor ``X dZ Z^-1``."""

    dv: Array
    dZ: Array
    dB: Array
    dN: Array
    dXhh: Array
    dXx: Array
    dXd: Array
    ds: Array
    L: Array
    V: Array
    QG: Array
    Q: Array


def direction(point: Point, factor: Array, smu: float, corrector: Corrector | None = None) -> Direction:
    """Solve the Newton system for the centring ``smu`` and read off dX on the arrow.

    ``dX = smu Z^-1 - X - sym(X dZ Z^-1) - corrector``, with ``X dZ Z^-1`` in factored form: ``L = Xhh (Jx' dZ J) G``.

    Parameters
    ----------
    point : Point
    factor : array
        From `schur_factor`.
    smu : float
        Centring parameter times the complementarity.
    corrector : Corrector, optional
    """
    relaxation, primal, slack, done = point.relaxation, point.primal, point.slack, point.done
    positive, v = relaxation.positive, slack.v
    target = np.full(len(v), smu) if corrector is None else smu - corrector.rows
    ratio = np.zeros(len(v))
    ratio[positive] = target[positive] / v[positive]
    right = smu * point.pull - relaxation.cost + ratio
    if corrector is not None:
        right -= relaxation.adjoint_of(corrector.hh, corrector.x, corrector.diagonal)
    dv = solve_factored(factor, right)
    dZ, dB, dN = relaxation.arrow(dv)
    J, Jx, G, Xhh = slack.J, done.Jx, slack.G, primal.Xhh
    JxN = Jx * dN[:, None]
    turned = dB + JxN.T
    V = turned * point.inverse_N
    Q = done.rest[:, None] * (dB.T + dN[:, None] * J)
    L = Xhh @ (dZ + turned @ J + Jx.T @ dB.T) @ G
    XV = Xhh @ V
    QG = Q @ G
    JxL = Jx @ L
    dXhh = smu * G - Xhh - 0.5 * (L + L.T)
    dXx = smu * point.JG - primal.Xx - 0.5 * (J @ L.T + XV.T + JxL + QG)
    own = np.einsum("ij,ij->i", JxL + QG, J) + np.einsum("ij,ji->i", Jx, XV) + done.rest * dN * point.inverse_N
    dXd = smu * point.inverse_diagonal - primal.Xd - own
    if corrector is not None:
        dXhh -= corrector.hh
        dXx -= corrector.x
        dXd -= corrector.diagonal
    ds = np.zeros(len(v))
    ds[positive] = ratio[positive] - primal.s[positive] * (1.0 + dv[positive] / v[positive])
    return Direction(dv, dZ, dB, dN, dXhh, dXx, dXd, ds, L, V, QG, Q)


def corrector_of(point: Point, affine: Direction) -> Corrector:
    """Second-order term of the affine direction (taken with smu = 0).

    Implements: Mehrotra (1992), predictor-corrector, for the HKM direction on the arrow.
    """
    slack, G = point.slack, point.slack.G
    J, dB, dN = slack.J, affine.dB, affine.dN
    inner = dB.T + dN[:, None] * J  # input rows of dZ [I; J]
    core = affine.dZ + dB @ J
    top = (affine.dXhh @ core + affine.dXx.T @ inner) @ G
    side = (affine.dXx @ core + _input_step(point, affine, inner)) @ G
    cross = (affine.dXhh @ dB + affine.dXx.T * dN) * point.inverse_N
    diagonal = np.einsum("ij,ij->i", side, J)
    diagonal += (np.einsum("ij,ji->i", affine.dXx, dB) + affine.dXd * dN) * point.inverse_N
    return Corrector(0.5 * (top + top.T), 0.5 * (J @ top.T + cross.T + side), diagonal, affine.ds * affine.dv)


def _input_step(point: Point, affine: Direction, M: Array) -> Array:
    """``dX_xixi M`` of the affine direction, in factored form; M has shape (d, p)."""
    done, J, Jx, Xhh = point.done, point.slack.J, point.done.Jx, point.primal.Xhh
    JM, JxM = J.T @ M, Jx.T @ M
    left = affine.L @ JM + Xhh @ (affine.V @ M)
    plain = done.rest * (1.0 + affine.dN * point.inverse_N)
    found = Jx @ (-(Xhh @ JxM) - 0.5 * left)
    found -= 0.5 * (affine.QG @ JM)
    found -= 0.5 * (J @ (affine.L.T @ JxM + affine.QG.T @ M))
    found -= 0.5 * (affine.V.T @ (Xhh @ JxM))
    found -= plain[:, None] * M
    return found
