"""How far a trained network is from the best network of any width."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from convexnn.global_gap.l2 import train_global
from convexnn.global_gap.result import GlobalResult
from convexnn.program import global_gap_of
from convexnn.restrictions.rows import distinct_rows
from convexnn.restrictions.units import checked_network
from convexnn.values import ByValue


@dataclass(frozen=True, eq=False)
class OptimalityGap(ByValue):
    """The distance of a network to the best network of any width.

    Attributes
    ----------
    objective : float
        Training objective of the network as it is.
    lower_bound : float
        No network with one hidden ReLU layer, of any width, has a smaller one.
    gap : float
        ``(objective - lower_bound) / objective``, with the floor of :func:`convexnn.program.relative_gap`: an UPPER
        bound on the share that perfect training could still gain.
    best : GlobalResult
        The best network that was found on the way, never worse than the one that came in.
    """

    objective: float
    lower_bound: float
    gap: float
    best: GlobalResult = field(repr=False)


def optimality_gap(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    lam: float,
    *,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-3,
    time_limit: float | None = None,
    random_state: int | None = None,
) -> OptimalityGap:
    """How far a network, trained by anybody, is from the global optimum of weight decay training.

    The objective is ``mean((f(x_i) - y_i)^2) + lam (|W|^2 + |b|^2 + |v|^2)`` with a free output bias; the network is
    judged by its own value, without balancing its units first.

    Implements: docs/theory/global_gap.md, Proposition 1.

    Parameters
    ----------
    model : Network, torch.nn.Sequential or fitted sklearn MLPRegressor
        One hidden ReLU layer, one output.
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    lam : float
        Positive weight of the squared norm of all weights but the output bias.
    sample_weight : array-like, shape (n,), optional
    tol : float
        Accuracy of the bound: :func:`train_global` stops at this relative gap.
    time_limit : float, optional
        Wall-clock seconds; a looser bound comes back.
    random_state : int, optional
        Of the search for the best network; the bound does not depend on chance.

    Returns
    -------
    OptimalityGap

    Examples
    --------
    >>> from convexnn import Network, optimality_gap
    >>> zero = Network.shallow([[0.0]], [0.0], [0.0], 0.0)
    >>> found = optimality_gap(zero, [[-1.0], [0.0], [1.0]], [1.0, 0.0, 1.0], lam=0.01)
    >>> found.lower_bound <= found.best.objective < found.objective
    True
    """
    rows = distinct_rows(X, y, sample_weight)
    network = checked_network(model, rows.X.shape[1])
    options: dict[str, Any] = {"tol": tol, "time_limit": time_limit, "random_state": random_state}
    found = train_global(X, y, lam, start=network, sample_weight=sample_weight, **options)
    residual = network(rows.X) - rows.y
    size = float((network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum())
    objective = float(rows.weight @ residual**2) + rows.constant + lam * size
    variance = float(rows.weight @ (rows.y - rows.weight @ rows.y) ** 2) + rows.constant
    return OptimalityGap(objective, found.lower_bound, global_gap_of(objective, found.lower_bound, variance), found)
