"""A robust ReLU program with certified margins, solved in torch: proximal smoothing with moving centers, L-BFGS inside.

Every kink of the program is a maximum over multipliers (slope of the loss, attack, share of an upper bound, direction
of a norm). Each maximum is smoothed by a quadratic around the last multipliers; after every inner minimization the
multipliers found become the next centers (the method of multipliers on the dual). Points and multipliers are proposals:
:func:`convexnn.program.evaluate` recomputes what is published.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from convexnn.losses import Hinge, Logistic
from convexnn.program import Proposal
from convexnn.restrictions.robust_relu import RobustRelu
from convexnn.restrictions.robust_relu_dual import RobustDual
from convexnn.restrictions.robust_relu_terms import RobustTerms

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

#: L-BFGS iterations between two moves of the centers.
INNER = 40
#: Numbers of one array that is formed for a part of the margins.
CHUNK_SIZE = 8_000_000


class _TimeUpError(Exception):
    """The time limit was reached inside of a function evaluation."""


@dataclass
class _Centers:
    """Multipliers on the device: slopes (N,), attacks / radius (N, d), shares (n, p), norms (p, d + 1) and (p, d)."""

    slopes: torch.Tensor
    attacks: torch.Tensor
    shares: torch.Tensor
    groups: torch.Tensor
    sizes: torch.Tensor


class SmoothedRobust:
    """Value and gradient of the smoothed program, and the multipliers behind it.

    Parameters
    ----------
    terms : RobustTerms
    smoothing : float
        Width of every smoothed kink, in units of the margins.
    device, dtype
        Of the torch arrays; points are float64 arrays of numpy.
    deadline : float
        Of ``time.perf_counter``.
    """

    def __init__(self, terms: RobustTerms, smoothing: float, device: str, dtype: Any, deadline: float) -> None:
        import torch

        def put(array: Any) -> torch.Tensor:
            return torch.as_tensor(array, device=device, dtype=dtype)

        self.terms, self.mu, self.deadline = terms, smoothing, deadline
        self.X, self.T, self.weight = put(terms.X), put(terms.slopes), put(terms.weight)
        self.V = put(np.vstack([terms.directions.T, np.zeros(terms.n_units)]))
        self.rows = torch.as_tensor(terms.rows, device=device)
        self.plus = torch.as_tensor(terms.plus % (terms.n_outputs + 1), device=device)
        self.minus = torch.as_tensor(terms.minus % (terms.n_outputs + 1), device=device)
        reach = terms.radius * (1.0 if terms.norm == 2 else math.sqrt(terms.n_inputs))
        unit = 1 / math.hypot(reach, math.sqrt(float(np.mean(np.sum(terms.X**2, axis=1)))))
        spread = 1.0 if terms.norm == 2 else 1 / math.sqrt(terms.n_inputs)
        self.widths = (0.1 * smoothing, smoothing * spread**2, smoothing * unit, smoothing * unit * spread)
        shape = (terms.n_units, terms.n_inputs + 1)
        self.centers = _Centers(
            put(np.full(terms.n_margins, 0.5)),
            put(np.zeros((terms.n_margins, terms.n_inputs))),
            put(np.full(terms.slopes.shape, 0.5)),
            put(np.zeros(shape)),
            put(np.zeros((shape[0], shape[1] - 1))),
        )
        self.found = self.centers
        self.stationarity: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, z: Array) -> tuple[float, Array]:
        """Smoothed value and gradient at a point (units and output biases in one vector)."""
        import torch

        if time.perf_counter() > self.deadline:
            raise _TimeUpError
        terms, k = self.terms, self.terms.n_outputs
        point = torch.as_tensor(z, device=self.X.device, dtype=self.X.dtype)
        U, c = point[:-k].reshape(terms.n_units, -1), torch.cat([point[-k:], point.new_zeros(1)])
        sizes, rho = self._sizes(U[:, :-1])
        old = self.centers
        empty = (torch.empty_like(old.slopes), torch.empty_like(old.attacks), torch.empty_like(old.shares))
        found = _Centers(*empty, self._groups(U), sizes)
        L, kappa, balance, value = torch.zeros_like(U), torch.zeros_like(rho), torch.zeros_like(c), 0.0
        for rows, part in self._parts():
            value += self._part(rows, part, U, c, rho, found, (L, kappa, balance))
        self.found, self.stationarity = found, (L, kappa)
        gradient = L + 2 * terms.lam * found.groups
        gradient[:, :-1] += terms.radius * kappa[:, None] * sizes
        penalty = (found.groups * U).sum() - 0.5 * self.widths[2] * (found.groups - self.centers.groups).square().sum()
        flat = torch.cat([gradient.reshape(-1), -balance[:-1]])
        return value + 2 * terms.lam * float(penalty), flat.double().cpu().numpy()

    def _parts(self) -> Any:
        """Pairs of slices: rows, and their margins."""
        per_row = self.terms.n_margins // len(self.terms.X)
        step = max(1, CHUNK_SIZE // (per_row * max(self.terms.n_units, self.terms.n_inputs)))
        for start in range(0, len(self.terms.X), step):
            stop = min(start + step, len(self.terms.X))
            yield slice(start, stop), slice(start * per_row, stop * per_row)

    def _sizes(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Directions of the dual norms of the units, and ``rho``, smoothed."""
        sizes = self._into_unit_ball(self.centers.sizes + weights / self.widths[3])
        moved = (sizes - self.centers.sizes).square().sum(1)
        rho = self.terms.radius * ((sizes * weights).sum(1) - 0.5 * self.widths[3] * moved)
        return sizes, rho

    def _groups(self, U: torch.Tensor) -> torch.Tensor:
        groups = self.centers.groups + U / self.widths[2]
        return groups / groups.norm(dim=1, keepdim=True).clamp_min(1)

    def _into_unit_ball(self, vectors: torch.Tensor) -> torch.Tensor:
        if self.terms.norm == 2:
            return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1)
        return vectors.clamp(-1, 1)

    def _part(
        self,
        rows: slice,
        part: slice,
        U: torch.Tensor,
        c: torch.Tensor,
        rho: torch.Tensor,
        found: _Centers,
        sums: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> float:
        """Loss of some margins; multipliers are written, sums of the gradient added to."""
        X, T, old, radius = self.X[rows], self.T[rows], self.centers, self.terms.radius
        index = self.rows[part] - rows.start
        B = self.V[self.plus[part]] - self.V[self.minus[part]]
        raised, lowered = B.clamp_min(0), (-B).clamp_min(0)
        z, inner = X @ U.T, T * rho
        ahead = z + rho - 2 * inner
        h = (old.shares[rows] + ahead / self.widths[0]).clamp(0, 1)
        upper = inner + h * ahead - 0.5 * self.widths[0] * (h - old.shares[rows]).square()
        BT = B * T[index]
        G = radius * (BT @ U[:, :-1])
        e = self._into_unit_ball(old.attacks[part] - G / self.widths[1])
        reach = (e * G).sum(1) + 0.5 * self.widths[1] * (e - old.attacks[part]).square().sum(1)
        margins = (
            (raised * (T * z)[index] - lowered * upper[index]).sum(1) + reach + c[self.plus[part]] - c[self.minus[part]]
        )
        values, slopes = self._loss(margins, old.slopes[part])
        found.slopes[part], found.attacks[part], found.shares[rows] = slopes, e, h
        self._add(X, T, h, index, (raised, lowered, BT), radius * e, self.weight[part] * slopes, part, sums)
        return float(self.weight[part] @ values)

    def _add(self, X: Any, T: Any, h: Any, index: Any, B: Any, e: Any, a: Any, part: slice, sums: Any) -> None:
        """Add ``L_i``, ``k_i`` and the flows between outputs of some margins, with multipliers ``a`` of the margins."""
        (raised, lowered, BT), (L, kappa, balance) = B, sums
        up = T.new_zeros(T.shape).index_add_(0, index, a[:, None] * raised)
        down = T.new_zeros(T.shape).index_add_(0, index, a[:, None] * lowered)
        L += (down * h - up * T).T @ X
        L[:, :-1] -= (a[:, None] * BT).T @ e
        kappa += (down * (h * (1 - T) + (1 - h) * T)).sum(0)
        balance.index_add_(0, self.plus[part], a).index_add_(0, self.minus[part], -a)

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
        slopes, attacks, shares = (
            getattr(self.found, name).double().cpu().numpy() for name in ("slopes", "attacks", "shares")
        )
        return RobustDual(slopes, self.terms.radius * attacks, shares)


@dataclass(frozen=True)
class RobustSolver:
    """How a robust ReLU program is solved.

    Parameters
    ----------
    tol : float
        Verified relative gap at which to stop.
    max_iter : int
        Rounds of L-BFGS, each of 40 iterations.
    deadline : float
        Of ``time.perf_counter``; the best point so far comes back.
    device, dtype : str
        Torch device, and "float32" or "float64".
    smoothing : float
        Width of the smoothed kinks, in units of the margins.
    """

    tol: float = 1e-3
    max_iter: int = 50
    deadline: float = math.inf
    device: str = "cpu"
    dtype: str = "float64"
    smoothing: float = 0.1

    def solve(self, program: RobustRelu, start: Array) -> Proposal:
        """Best point found, never worse than ``start``, with the multipliers that prove most.

        An interrupt ends the work with what is there; the status says so.
        """
        run = _Run(self, program, start)
        status = "max_iter"
        try:
            run.smoothed = self._smoothed(program)
            for run.rounds in range(1, self.max_iter + 1):
                if run.improve():
                    status = "solved"
                    break
        except _TimeUpError:
            status = "time_limit"
        except KeyboardInterrupt:
            status = "interrupted"
        return Proposal(run.best, run.dual, status, INNER * run.rounds, "robust_relu")

    def _smoothed(self, program: RobustRelu) -> SmoothedRobust:
        import torch

        return SmoothedRobust(program.terms, self.smoothing, self.device, getattr(torch, self.dtype), self.deadline)


class _Run:
    """The point, the best point, and the best multipliers so far."""

    smoothed: SmoothedRobust

    def __init__(self, solver: RobustSolver, program: RobustRelu, start: Array) -> None:
        self.solver, self.program = solver, program
        self.point = self.best = start
        self.value = program.objective(start)
        self.bound, self.rounds = -math.inf, 0
        self.dual: RobustDual | None = None

    def improve(self) -> bool:
        """One inner minimization; whether the gap has closed."""
        options = {"maxiter": INNER, "maxcor": 20, "maxfun": 2 * INNER, "ftol": 1e-15, "gtol": 1e-10}
        function: Any = self.smoothed
        found = minimize(function, self.point, jac=True, method="L-BFGS-B", options=options)  # type: ignore[call-overload]
        self.point = found.x
        self.smoothed(self.point)
        self.smoothed.move_centers()
        self.consider(self.point)
        dual = self.smoothed.dual()
        bound = self.program.lower_bound(dual)
        if bound > self.bound:
            self.bound, self.dual = bound, dual
        return self.value - self.bound <= self.solver.tol * abs(self.value)

    def consider(self, z: Array) -> None:
        """Keep a point if it is the best so far, first as it is, then without its smallest units."""
        for candidate in (z, _without_small_units(self.program, z), *_constants(self.program, z)):
            value = self.program.objective(candidate)
            if value <= self.value:
                self.best, self.value = candidate, value


def _without_small_units(program: RobustRelu, z: Array) -> Array:
    U, c = program.unpack(z)
    size = np.linalg.norm(U, axis=1, keepdims=True)
    return program.pack(np.where(size > 1e-4 * size.max(initial=0.0), U, 0.0), c)


def _constants(program: RobustRelu, z: Array) -> list[Array]:
    """Constant networks that may be optimal: the best one with one output, else some good ones."""
    terms, (U, c) = program.terms, program.unpack(z)
    if terms.n_outputs == 1:
        labels = np.where(terms.plus == 0, 1.0, -1.0)
        choices = [np.array([terms.loss.best_constant(np.zeros(len(labels)), labels, terms.weight)])]
    else:
        share = np.bincount(terms.plus, terms.weight, minlength=terms.n_outputs)
        choices = [c, np.zeros(terms.n_outputs), np.eye(terms.n_outputs)[share.argmax()]]
    return [program.pack(np.zeros_like(U), choice) for choice in choices]
