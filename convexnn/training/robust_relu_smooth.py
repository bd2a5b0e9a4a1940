"""The robust ReLU program with smoothed kinks, in torch: value, gradient, and the multipliers behind them.

Every kink is a maximum over multipliers: slope of the loss, attack, share of an upper bound, direction of a norm. Each
maximum is smoothed by a quadratic around a center. The gradient consists of ``L_i`` and ``k_i`` of
docs/theory/robust_relu.md, Proposition 4, so that the multipliers of every evaluation are ready to prove a bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.losses import Hinge, Logistic
from convexnn.restrictions.robust_relu_dual import RobustDual
from convexnn.restrictions.robust_relu_terms import RobustTerms

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

#: Numbers of one array that is formed for a part of the rows, and of all that are kept between evaluations.
CHUNK_SIZE, KEPT_SIZE = 8_000_000, 400_000_000


class TimeUpError(Exception):
    """The time limit was reached inside of a function evaluation."""


@dataclass
class Centers:
    """Multipliers on the device: slopes (N,), attacks / radius (N, d), shares (n, p), norms (p, d + 1) and (p, d)."""

    slopes: torch.Tensor
    attacks: torch.Tensor
    shares: torch.Tensor
    groups: torch.Tensor
    sizes: torch.Tensor

    @classmethod
    def at_start(cls, terms: RobustTerms, put: Any) -> Centers:
        """Half of everything that lies between zero and one, no attack."""
        p, d = terms.n_units, terms.n_inputs
        shapes = ((terms.n_margins,), (terms.n_margins, d), terms.slopes.shape, (p, d + 1), (p, d))
        halves = (0.5, 0.0, 0.5, 0.0, 0.0)
        return cls(*(put(np.full(shape, half)) for shape, half in zip(shapes, halves, strict=True)))


@dataclass
class _Part:
    """Some rows and their margins, k of each row; B is split by sign and multiplied by the slopes."""

    rows: slice
    margins: slice
    X: torch.Tensor
    T: torch.Tensor
    raised: torch.Tensor  # (rows, k, p): B T where B > 0
    lowered: torch.Tensor  # (rows, k, p): |B| where B < 0
    linear: torch.Tensor  # (margins, p): B T
    plus: torch.Tensor
    minus: torch.Tensor
    weight: torch.Tensor


@dataclass
class _Sums:
    """Parts of the gradient: ``L`` (p, d + 1), ``kappa`` (p,) and the flow between outputs (outputs + 1,)."""

    L: torch.Tensor
    kappa: torch.Tensor
    balance: torch.Tensor
    value: float = 0.0


class SmoothedRobust:
    """Value and gradient of the smoothed program.

    Parameters
    ----------
    terms : RobustTerms
    smoothing : float
        Width of every smoothed kink, in units of the margins.
    device, dtype
        Of the torch arrays; points are float64 arrays of numpy.
    deadline : float
        Of ``time.perf_counter``; later evaluations raise :class:`TimeUpError`.
    """

    def __init__(self, terms: RobustTerms, smoothing: float, device: str, dtype: Any, deadline: float) -> None:
        import torch

        def put(array: Any) -> torch.Tensor:
            return torch.as_tensor(array, device=device, dtype=dtype)

        self.put = put
        self.terms, self.mu, self.deadline = terms, smoothing, deadline
        self._check_time()
        reach = terms.radius * (1.0 if terms.norm == 2 else math.sqrt(terms.n_inputs))
        unit = 1 / math.hypot(reach, math.sqrt(float(np.mean(np.sum(terms.X**2, axis=1)))))
        spread = 1.0 if terms.norm == 2 else 1 / math.sqrt(terms.n_inputs)
        self.widths = (0.1 * smoothing, smoothing * spread**2, smoothing * unit, smoothing * unit * spread)
        self.centers = self.found = Centers.at_start(terms, self.put)
        kept = terms.n_margins * terms.n_units <= KEPT_SIZE
        self._kept = list(self._parts()) if kept else None

    def _parts(self) -> Iterator[_Part]:
        terms, put = self.terms, self.put
        k = terms.n_margins // len(terms.X)
        step = max(1, CHUNK_SIZE // (k * max(terms.n_units, terms.n_inputs)))
        for start in range(0, len(terms.X), step):
            rows = slice(start, min(start + step, len(terms.X)))
            part = slice(rows.start * k, rows.stop * k)
            B, T = put(terms.coefficients(part)).reshape(-1, k, terms.n_units), put(terms.slopes[rows])
            self._check_time()
            yield _Part(
                rows,
                part,
                put(terms.X[rows]),
                T,
                B.clamp_min(0) * T[:, None],
                (-B).clamp_min(0),
                (B * T[:, None]).reshape(-1, terms.n_units),
                put(terms.plus[part]).long() % (terms.n_outputs + 1),
                put(terms.minus[part]).long() % (terms.n_outputs + 1),
                put(terms.weight[part]),
            )

    def __call__(self, z: Array) -> tuple[float, Array]:
        """Smoothed value and gradient at a point (units and output biases in one vector)."""
        import torch

        self._check_time()
        terms, k, old, point = self.terms, self.terms.n_outputs, self.centers, self.put(z)
        U, c = point[:-k].reshape(terms.n_units, -1), torch.cat([point[-k:], point.new_zeros(1)])
        groups = _into_ball(old.groups + U / self.widths[2])
        sizes, rho = self._sizes(U[:, :-1])
        empty = torch.empty_like
        found = Centers(empty(old.slopes), empty(old.attacks), empty(old.shares), groups, sizes)
        sums = _Sums(torch.zeros_like(U), torch.zeros_like(rho), torch.zeros_like(c))
        for part in self._kept if self._kept is not None else self._parts():
            self._check_time()
            self._add(part, U, c, rho, found, sums)
        self.found = found
        gradient = sums.L + 2 * terms.lam * groups
        gradient[:, :-1] += terms.radius * sums.kappa[:, None] * sizes
        penalty = (groups * U).sum() - 0.5 * self.widths[2] * (groups - old.groups).square().sum()
        flat = torch.cat([gradient.reshape(-1), -sums.balance[:-1]])
        return sums.value + 2 * terms.lam * float(penalty), flat.double().cpu().numpy()

    def _check_time(self) -> None:
        if time.perf_counter() > self.deadline:
            raise TimeUpError

    def _sizes(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Directions of the dual norms of the units, and ``rho``, smoothed."""
        sizes = self._into_unit_ball(self.centers.sizes + weights / self.widths[3])
        moved = (sizes - self.centers.sizes).square().sum(1)
        return sizes, self.terms.radius * ((sizes * weights).sum(1) - 0.5 * self.widths[3] * moved)

    def _into_unit_ball(self, vectors: torch.Tensor) -> torch.Tensor:
        return _into_ball(vectors) if self.terms.norm == 2 else vectors.clamp(-1, 1)

    def _add(
        self, part: _Part, U: torch.Tensor, c: torch.Tensor, rho: torch.Tensor, found: Centers, sums: _Sums
    ) -> None:
        """Add the losses of some margins and their part of the gradient; write their multipliers."""
        T, old, radius, shape = part.T, self.centers, self.terms.radius, part.raised.shape[:2]
        z, inner, h0 = part.X @ U.T, T * rho, old.shares[part.rows]
        ahead = z + rho - 2 * inner
        h = (h0 + ahead / self.widths[0]).clamp(0, 1)
        upper = inner + h * ahead - 0.5 * self.widths[0] * (h - h0).square()
        G, e0 = radius * (part.linear @ U[:, :-1]), old.attacks[part.margins]
        e = self._into_unit_ball(e0 - G / self.widths[1])
        attacked = (e * G).sum(1) + 0.5 * self.widths[1] * (e - e0).square().sum(1)
        bounds = (part.raised @ z[:, :, None] - part.lowered @ upper[:, :, None]).reshape(-1)
        values, slopes = self._loss(bounds + attacked + c[part.plus] - c[part.minus], old.slopes[part.margins])
        found.slopes[part.margins], found.attacks[part.margins], found.shares[part.rows] = slopes, e, h
        a = part.weight * slopes
        by_row = a.reshape(shape)[:, None]
        up, down = (by_row @ part.raised)[:, 0], (by_row @ part.lowered)[:, 0]
        sums.L += (down * h - up).T @ part.X
        sums.L[:, :-1] -= part.linear.T @ ((radius * a)[:, None] * e)
        sums.kappa += (down * (h + T - 2 * h * T)).sum(0)
        sums.balance.index_add_(0, part.plus, a).index_add_(0, part.minus, -a)
        sums.value += float(part.weight @ values)

    def _loss(self, margins: torch.Tensor, center: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss (the hinge smoothed) and minus its slope."""
        import torch

        if isinstance(self.terms.loss, Logistic):
            return torch.nn.functional.softplus(-margins), torch.sigmoid(-margins)
        short = (1 - margins).clamp_min(0)
        if not isinstance(self.terms.loss, Hinge):
            return short.square(), 2 * short
        slopes = (center + (1 - margins) / self.mu).clamp(0, 1)
        return slopes * (1 - margins) - 0.5 * self.mu * (slopes - center).square(), slopes

    def move_centers(self) -> None:
        """Take the last multipliers as centers."""
        self.centers = self.found

    def dual(self) -> RobustDual:
        """The last multipliers, as float64 arrays of numpy."""
        found = self.found
        slopes, attacks, shares = (a.double().cpu().numpy() for a in (found.slopes, found.attacks, found.shares))
        return RobustDual(slopes, self.terms.radius * attacks, shares)


def _into_ball(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1)
