"""Polytopes ``{x : A x <= b}`` as regions: bounded, not empty, inside of a box that is given or proved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.regions.polytope_programs import INFEASIBLE, highest, inner_point
from convexnn.regions.polytope_support import multipliers, proved_box
from convexnn.regions.region import read_only
from convexnn.values import ByValue

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, init=False)
class Polytope(ByValue):
    """``{x : A x <= b}``, and ``lower <= x <= upper`` where these are given.

    Parameters
    ----------
    A : array, shape (m, d)
        Raw input units.
    b : array, shape (m,)
    lower, upper : array, shape (d,), or float, optional
        A box that is part of the region. Without one, a box around the region is computed by linear programs, widened
        outward and proved by their multipliers.

    Attributes
    ----------
    A, b, lower, upper : arrays
        Read-only.
    proof : array, shape (2d, m) or (0, m)
        Multipliers that prove the box; none for a given one.

    Raises
    ------
    InvalidInputError
        For arrays that do not fit, and where the polytope is unbounded or empty.
    """

    A: Array
    b: Array
    lower: Array
    upper: Array
    proof: Array

    def __init__(
        self, A: ArrayLike, b: ArrayLike, lower: ArrayLike | None = None, upper: ArrayLike | None = None
    ) -> None:
        rows = _rows(A, b)
        if (lower is None) != (upper is None):
            raise InvalidInputError("Give both lower and upper, or neither of them.")
        if lower is None or upper is None:
            self._set(rows, _proposed(rows), None)
        else:
            self._set(rows, None, (lower, upper))
            if inner_point(rows, self.box) is None:
                raise InvalidInputError("The polytope is empty: no x has A x <= b and lower <= x <= upper.")

    @classmethod
    def stored(cls, A: ArrayLike, b: ArrayLike, proof: ArrayLike, box: ArrayLike) -> Polytope:
        """A polytope from the arrays of a certificate; nothing is solved.

        Parameters
        ----------
        A, b : arrays, shape (m, d) and (m,)
        proof : array, shape (2d, m) or (0, m)
            Any numbers.
        box : array, shape (2, d) or (0, d)
            The given box, if there was one.

        Raises
        ------
        InvalidInputError
            When the arrays describe no polytope, or the proof bounds nothing.
        """
        found, ends = cls.__new__(cls), np.asarray(box, dtype=np.float64)
        rows = _rows(A, b)
        if ends.shape not in ((0, rows[0].shape[1]), (2, rows[0].shape[1])):
            raise InvalidInputError(f"The box of a stored polytope has shape {ends.shape}.")
        found._set(rows, *((None, (ends[0], ends[1])) if len(ends) else (np.asarray(proof, dtype=np.float64), None)))
        return found

    def _set(self, rows: tuple[Array, Array], proof: Array | None, box: tuple[ArrayLike, ArrayLike] | None) -> None:
        m, d = rows[0].shape
        if proof is not None:
            if proof.shape != (2 * d, m):
                raise InvalidInputError(f"The proof of a box needs shape {(2 * d, m)}, got {proof.shape}.")
            box = proved_box(rows, proof)
        if box is None:
            raise InvalidInputError(
                "The polytope is not proved to be bounded; add rows to A, or give a box: Polytope(A, b, lower, upper)."
            )
        ends = [read_only(end, name) for end, name in zip(box, ("lower", "upper"), strict=True)]
        if any(end.shape not in ((), (d,)) for end in ends):
            raise InvalidInputError(
                f"lower and upper must be numbers or have shape ({d},), got {ends[0].shape} and {ends[1].shape}."
            )
        lower, upper = (read_only(np.broadcast_to(end, (d,)), "box") for end in ends)
        if (lower > upper).any():
            raise InvalidInputError("The polytope is empty: an upper end is below the lower one.")
        kept = np.zeros((0, m)) if proof is None else multipliers(proof)
        for name, value in zip(("A", "b", "lower", "upper", "proof"), (*rows, lower, upper, kept), strict=True):
            object.__setattr__(self, name, read_only(value, name))

    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        return int(self.A.shape[1])

    @property
    def rows(self) -> tuple[Array, Array]:
        """A and b."""
        return self.A, self.b

    @property
    def box(self) -> tuple[Array, Array]:
        """Lower and upper ends of the box."""
        return self.lower, self.upper

    @property
    def center(self) -> Array:
        """Center of the largest ball inside, shape (d,), by a linear program."""
        point = inner_point(self.rows, self.box)
        return 0.5 * (self.lower + self.upper) if point is None else point

    def contains(self, X: ArrayLike, tol: float = 1e-9) -> NDArray[np.bool_]:
        """Whether rows satisfy all inequalities up to ``tol``, relative to their terms, shape (n,)."""
        points = np.asarray(X, dtype=np.float64)
        slack = tol * (np.abs(points) @ np.abs(self.A).T + np.abs(self.b))
        inside = (points @ self.A.T <= self.b + slack).all(axis=1)
        room = tol * (1.0 + np.maximum(np.abs(self.lower), np.abs(self.upper)))
        return np.asarray(inside & ((points >= self.lower - room) & (points <= self.upper + room)).all(axis=1))

    def sample(self, n: int, rng: np.random.Generator, steps: int = 40) -> Array:
        """Draw n points by hit and run from the center, shape (n, d): inside, and about uniform after many steps."""
        d = self.n_inputs
        A = np.vstack([self.A, np.eye(d), -np.eye(d)])
        b = np.concatenate([self.b, self.upper, -self.lower])
        X = np.tile(self.center, (n, 1))
        for _ in range(steps):
            D = rng.standard_normal((n, d))
            rise, room = D @ A.T, np.maximum(b - X @ A.T, 0.0)
            far = np.divide(room, np.abs(rise), out=np.full_like(room, np.inf), where=rise != 0)
            ahead, behind = (np.where(side, far, np.inf).min(axis=1) for side in (rise > 0, rise < 0))
            X = X + ((rng.random(n) * (ahead + behind) - behind) * (1.0 - 1e-12))[:, None] * D
        return X

    def vertices(self, U: ArrayLike) -> Array:
        """Points with the largest ``u.x`` for rows of U (n, d), shape (n, d), by linear programs."""
        X = highest(self.rows, np.asarray(U, dtype=np.float64), self.box)[1]
        return np.where(np.isnan(X), self.center, X)


def _rows(A: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    sides, ends = read_only(A, "A"), read_only(b, "b")
    if sides.ndim != 2 or not sides.shape[1] or ends.shape != sides.shape[:1]:
        raise InvalidInputError(f"A must have shape (m, d) and b shape (m,), got {sides.shape} and {ends.shape}.")
    return sides, ends


def _proposed(rows: tuple[Array, Array]) -> Array:
    """Multipliers of the sides of the smallest box."""
    d = rows[0].shape[1]
    nowhere = "The polytope is empty: no x has A x <= b."
    if not len(rows[0]):
        raise InvalidInputError("A has no rows: give a box, Polytope(A, b, lower, upper).")
    if highest(rows, np.zeros((1, d)), None)[2] == INFEASIBLE:
        raise InvalidInputError(nowhere)
    lam, _, status = highest(rows, np.vstack([np.eye(d), -np.eye(d)]), None)
    if status:
        raise InvalidInputError(
            "The polytope is unbounded; add rows to A, or give a box: Polytope(A, b, lower, upper)."
        )
    return lam
