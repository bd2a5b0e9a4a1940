"""A regularization path as a value: networks, evidence, and what they prove between the grid points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificates.records import as_frame
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Solution
from convexnn.values import ByValue

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RegularizationPath(ByValue):
    r"""Solutions of one convex program at weights ``lam_1 > lam_2 > ...``.

    The optimal value ``V(lam) = min { loss + lam R }`` of a program with fixed patterns is the minimum of lines
    in lam, hence concave: chords of lower bounds are lower bounds between the grid points, and every network
    found anywhere is an upper bound everywhere. So finitely many solved programs certify the whole interval.

    With ``regularizer="gated"`` losses, penalties, objectives and all that follows from them are of points of the
    relaxation; ``networks`` are ReLU networks with the same predictions on the data, whose weight decay can be larger.

    Attributes
    ----------
    lams : array, shape (k,)
        Weights, decreasing.
    solutions : tuple of Solution, length k
        Each with its own verified gap. It concerns the program with ``patterns``.
    networks : tuple of Network, length k
    losses, penalties : array, shape (k,)
        Loss (with the ridge on merged biases, where the program has one) and ``R`` of every point;
        ``losses + lams * penalties`` are the objectives.
    patterns : ActivationPatterns
        On the distinct rows of the data.
    regularizer : str
    """

    lams: Array
    solutions: tuple[Solution, ...] = field(repr=False)
    networks: tuple[Network, ...] = field(repr=False)
    losses: Array = field(repr=False)
    penalties: Array = field(repr=False)
    patterns: ActivationPatterns = field(repr=False)
    regularizer: str

    def __len__(self) -> int:
        """Count the points."""
        return len(self.lams)

    @property
    def objectives(self) -> Array:
        """Upper bound on the optimum at every lam, shape (k,)."""
        return np.array([solution.objective for solution in self.solutions])

    @property
    def lower_bounds(self) -> Array:
        """Lower bound on the optimum at every lam, shape (k,)."""
        return np.array([solution.lower_bound for solution in self.solutions])

    @property
    def gaps(self) -> Array:
        """Verified relative gap at every lam, shape (k,)."""
        return np.array([solution.gap for solution in self.solutions])

    def predict(self, X: ArrayLike) -> Array:
        """Outputs of every network.

        Parameters
        ----------
        X : array-like, shape (n, d)

        Returns
        -------
        array, shape (k, n)
        """
        return np.array([network(np.asarray(X, dtype=float)) for network in self.networks])

    def best_at(self, lam: float) -> int:
        """Index of the network of the path with the smallest objective at ``lam``, any positive number."""
        _require_positive(lam)
        return int(np.argmin(self.losses + lam * self.penalties))

    def interval_at(self, lam: float) -> tuple[float, float]:
        """Lower and upper bound on the optimum of the program at any positive ``lam``, on the grid or not.

        Implements: docs/theory/paths.md, Proposition 1.

        Parameters
        ----------
        lam : float

        Returns
        -------
        lower, upper : float
            ``upper`` is attained by ``networks[best_at(lam)]`` (``"gated"``: by the point behind it).
        """
        _require_positive(lam)
        index = self.best_at(lam)
        upper = float(self.losses[index] + lam * self.penalties[index])
        return float(self._lower(np.array([lam]))[0]), upper

    def gap_at(self, lam: float) -> float:
        """Largest relative distance ``(upper - lower) / upper`` of the best network at ``lam`` from the optimum."""
        lower, upper = self.interval_at(lam)
        return 0.0 if upper <= lower else (upper - lower) / upper

    @property
    def gaps_between(self) -> Array:
        """Upper bound on the relative gap of the better neighbor anywhere between two weights, shape (k - 1,).

        Implements: docs/theory/paths.md, Proposition 2.
        """
        return np.array([self._gap_between(j) for j in range(len(self) - 1)])

    @property
    def crossings(self) -> Array:
        """Weights between neighbors at which their two networks are equally good, shape (k - 1,).

        The middle (geometric) where one of the two is better all the way.
        """
        return np.array([self._crossing(j) for j in range(len(self) - 1)])

    def _crossing(self, j: int) -> float:
        high, low = self.lams[j], self.lams[j + 1]
        rise = self.penalties[j + 1] - self.penalties[j]
        fall = self.losses[j] - self.losses[j + 1]
        crossing = fall / rise if rise > 0 else 0.0
        return float(crossing if low < crossing < high else np.sqrt(low * high))

    def _gap_between(self, j: int) -> float:
        lam = np.array([self.lams[j + 1], self._crossing(j), self.lams[j]])
        upper = np.min([self.losses[i] + lam * self.penalties[i] for i in (j, j + 1)], axis=0)
        gap = upper - self._lower(lam)
        return float(np.max(gap / np.where(gap > 0, upper, 1.0), initial=0.0))

    def _lower(self, lam: Array) -> Array:
        """Chords of the lower bounds, from (0, 0) on and constant beyond the largest weight."""
        values = np.maximum(self.lower_bounds, 0.0)  # losses and penalties are nonnegative
        return np.interp(lam, np.append(self.lams, 0.0)[::-1], np.append(values, 0.0)[::-1])

    def to_frame(self) -> pd.DataFrame:
        """A row a weight: lam, objective, lower bound, gap, loss, penalty, units, status."""
        frame: pd.DataFrame = as_frame(self._columns())
        return frame

    def _columns(self) -> dict[str, Array | list[str] | list[int]]:
        return {
            "lam": self.lams,
            "objective": self.objectives,
            "lower_bound": self.lower_bounds,
            "gap": self.gaps,
            "loss": self.losses,
            "penalty": self.penalties,
            "units": [_active_units(network) for network in self.networks],
            "status": [solution.status for solution in self.solutions],
        }

    def __str__(self) -> str:
        """Format the points as a text table."""
        lines = [f"{'lam':>10} {'objective':>12} {'gap':>8} {'loss':>12} {'penalty':>12} {'units':>5}  status"]
        for lam, objective, _, gap, loss, penalty, units, status in zip(*self._columns().values(), strict=True):
            lines.append(f"{lam:10.4g} {objective:12.6g} {gap:8.1e} {loss:12.6g} {penalty:12.6g} {units:5d}  {status}")
        return "\n".join(lines)


def _active_units(network: Network) -> int:
    """Units whose product of weights is at least a millionth of the largest one: interior points leave none at zero."""
    size = np.abs(network.v) * np.sqrt((network.W**2).sum(axis=1) + network.b**2)
    return int((size > 1e-6 * size.max(initial=0.0)).sum())


def _require_positive(lam: float) -> None:
    if not (np.isfinite(lam) and lam > 0):
        raise InvalidInputError(f"lam={lam!r} was given; expected a finite number > 0")
