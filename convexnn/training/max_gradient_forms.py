"""The max-gradient bounds of all pairs of classes as a differentiable penalty, by multipliers that follow the weights.

Two forms of one dual. The d x d form keeps a factor Theta of every pair, from which the multipliers are read: a power
step moves all of them at the cost of a forward pass. The form of the paper, eq. (15), keeps a free vector q of every
pair and descends on it, at the cost of one eigenvector of size d + m + 1 a pair and step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convexnn.lipsdp import maximize, maximize_linf
from convexnn.lipsdp.pairs import random_factors, shaken
from convexnn.network import Network
from convexnn.training.max_gradient_pairs import TINY, ClassPairs, margin_bounds, multiplier_of, multiplier_of_rows

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
Slopes = tuple[float, float]

#: Power steps before the first step, before the first try of a certificate and before the next ones, and how many tries
#: before the slow and sure way.
FIRST_STEPS, WARM_STEPS, ROUND_STEPS, ROUNDS = 30, 8, 60, 6
#: Steps between two shakes of the factors: power steps leave a lost direction lost.
SHAKE_EVERY = 100
#: First step of q relative to its largest entry, and the decay of its moments (Adam).
DUAL_RATE, DUAL_MEMORY = 0.02, (0.9, 0.999)


class PairPenalty(Protocol):
    """Bounds of all pairs at weights that change a little from call to call."""

    def __call__(self, W: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        """Values of the pairs (P,), differentiable in W (m, d) and A (P, m), after moving the multipliers."""

    def certify(self, network: Network, tol: float, pairs: ClassPairs | None = None) -> tuple[Array, dict[str, Array]]:
        """Rigorous bounds (P,) and the multipliers of ``margin_bounds`` that prove them; nothing is moved by it."""

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays from which :meth:`load` continues."""

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up arrays written by :meth:`state`."""


class FactorPenalty:
    """The d x d form (linf), or LipSDP of every pair (l2): ``1/2 sum_i |Theta b_i|``, the factors follow the weights.

    Implements: convexnn, Proposition 4 of docs/theory/lipsdp.md: values and gradients at the maximizing factors.

    Parameters
    ----------
    slopes : tuple of float
        Of the activation.
    norm : {2, inf}
        Of the inputs.
    power_steps : int, default 1
        A call makes so many.
    """

    def __init__(self, slopes: Slopes = (0.0, 1.0), norm: float = np.inf, power_steps: int = 1) -> None:
        self.slopes, self.norm, self.power_steps = slopes, norm, power_steps
        self.calls = 0
        self.factors: Array | None = None

    def __call__(self, W: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        """Values of the pairs (P,): lower bounds on what multipliers can prove, tight once the factors followed."""
        import torch

        steps = self.power_steps if self.factors is not None else FIRST_STEPS
        S = self._at(W, A)
        if self.calls and self.calls % SHAKE_EVERY == 0:
            S = torch.as_tensor(shaken(S.cpu().double().numpy(), self.norm, self.calls)).to(W)
        self.calls += 1
        with torch.no_grad():
            S = _follow(W.detach(), A.detach(), S, self.slopes, self.norm, steps)
        self.factors = S.cpu().double().numpy()
        return _parts(W, A, S, self.slopes)[2]

    def _at(self, W: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        import torch

        shape = (len(A), W.shape[1])
        fits = self.factors is not None and self.factors.shape[:2] == shape and np.isfinite(self.factors).all()
        found = self.factors if fits else random_factors(*shape, self.norm)
        return torch.as_tensor(found).to(W)

    def certify(
        self, network: Network, tol: float = 1e-3, pairs: ClassPairs | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Bounds to a relative gap ``tol`` from copies of the factors."""
        import torch

        pairs = ClassPairs(network.n_outputs) if pairs is None else pairs
        A = pairs.differences @ network.layers[-1][0]
        weights, outer = torch.as_tensor(network.W.copy()), torch.as_tensor(A)
        if self.norm == 2:
            return self._certify_l2(network, tol, pairs)
        S, rows = self._at(weights, outer), pairs.rows(network)
        for turn in range(ROUNDS + 1):
            if turn == 1:  # the warm factors were not enough
                S = torch.as_tensor(shaken(S.numpy(), self.norm))
            S = _follow(weights, outer, S, self.slopes, self.norm, ROUND_STEPS if turn else WARM_STEPS)
            values = _parts(weights, outer, S, self.slopes)[2].numpy()
            multiplier = multiplier_of(rows, S.numpy())
            bounds = margin_bounds(network, multiplier, pairs=pairs)
            loose = ~(bounds <= values * (1.0 + tol) + TINY)
            if not loose.any():
                return bounds, multiplier
        return _repaired(network, pairs, bounds, multiplier, np.flatnonzero(loose), tol)

    def _certify_l2(self, network: Network, tol: float, pairs: ClassPairs) -> tuple[Array, dict[str, Array]]:
        rows = pairs.rows(network)
        starts = [None] * len(rows) if self.factors is None else list(self.factors)
        found = [maximize(r.B, tol, start).factor for r, start in zip(rows, starts, strict=True)]
        parts = [multiplier_of_rows(r, S, 2) for r, S in zip(rows, found, strict=True)]
        multiplier = {"q": np.array([part["q"] for part in parts])}
        return margin_bounds(network, multiplier, 2, pairs), multiplier

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Factors and the number of calls."""
        return {"calls": np.array(self.calls)} | ({} if self.factors is None else {"factors": self.factors})

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up factors."""
        self.calls = int(state["calls"])
        self.factors = np.array(state["factors"]) if "factors" in state else None


class EigenvaluePenalty:
    """Eq. (15) of the paper: ``1/4 (D lambda_max^+(M - diag(q)) + 1'max(q, 0))`` with a free vector q of every pair.

    Every call steps down on q, then returns the value there, so each value is a bound up to rounding.

    Implements: Raghunathan et al. (2018a), eq. (15), as a training objective.

    Parameters
    ----------
    slopes : tuple of float
        Of the activation.
    """

    def __init__(self, slopes: Slopes = (0.0, 1.0)) -> None:
        self.slopes = slopes
        self.calls = 0
        self.q: Array | None = None
        self.moments = (np.zeros(0), np.zeros(0))

    def __call__(self, W: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
        """Values of the pairs (P,) after one step on q."""
        import torch

        B = _rows(W, A, self.slopes)
        with torch.no_grad():
            M = _cut_matrices(B.detach())
            if self.q is None or self.q.shape != tuple(M.shape[:2]):
                self.q = 0.5 * M.abs().sum(2).cpu().double().numpy()
                self.moments = (np.zeros_like(self.q), np.zeros_like(self.q))
            self._descend(*self._top(M))
            values, vectors = self._top(M)
        q = torch.as_tensor(self.q).to(W)
        e = torch.as_tensor(vectors).to(W)
        d = W.shape[1]
        top = 2 * torch.einsum("pi,pid,pd->p", e[:, d:], B, e[:, :d]) - (q * e**2).sum(1)
        top = torch.where(torch.as_tensor(values > 0).to(W.device), top, 0 * top)
        return 0.25 * (M.shape[1] * top + q.clamp_min(0).sum(1))

    def _top(self, M: torch.Tensor) -> tuple[Array, Array]:
        """Largest eigenvalue of ``M - diag(q)`` and a unit vector, of every pair."""
        import torch

        values, vectors = torch.linalg.eigh(M - torch.diag_embed(torch.as_tensor(self.q).to(M)))
        return values[:, -1].cpu().double().numpy(), vectors[:, :, -1].cpu().double().numpy()

    def _descend(self, values: Array, vectors: Array) -> None:
        """One step of Adam on q, entries on the scale of the largest."""
        assert self.q is not None
        self.calls += 1
        slope = (self.q > 0) - np.where(values > 0, len(vectors[0]), 0.0)[:, None] * vectors**2
        first, second = DUAL_MEMORY
        m = first * self.moments[0] + (1 - first) * slope
        v = second * self.moments[1] + (1 - second) * slope**2
        self.moments = (m, v)
        fixed = (m / (1 - first**self.calls)) / (np.sqrt(v / (1 - second**self.calls)) + 1e-12)
        rate = DUAL_RATE / np.sqrt(1.0 + self.calls / 100.0)
        self.q = self.q - rate * np.abs(self.q).max(axis=1, keepdims=True) * fixed

    def certify(
        self, network: Network, tol: float = 1e-3, pairs: ClassPairs | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Bounds at the q of the last step, whatever the gap."""
        del tol
        pairs = ClassPairs(network.n_outputs) if pairs is None else pairs
        stacks = pairs.rows(network)
        if self.q is None or len(self.q) != len(stacks):
            q = np.array([_gershgorin(rows.B) for rows in stacks])
        else:
            q = np.array([np.ldexp(own, -rows.exponent) for own, rows in zip(self.q, stacks, strict=True)])
        return margin_bounds(network, {"cut": q}, pairs=pairs), {"cut": q}

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Vectors, moments and the number of calls."""
        arrays = {"calls": np.array(self.calls)}
        return arrays if self.q is None else arrays | {"q": self.q, "first": self.moments[0], "second": self.moments[1]}

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up vectors and moments."""
        self.calls = int(state["calls"])
        if "q" in state:
            self.q = np.array(state["q"])
            self.moments = np.array(state["first"]), np.array(state["second"])


def _rows(W: torch.Tensor, A: torch.Tensor, slopes: Slopes) -> torch.Tensor:
    """Rows of `convexnn.lipsdp.stack` of every pair, shape (P, m + 1, d)."""
    import torch

    low, high = slopes
    U = A[:, :, None] * W[None]
    return torch.cat([(low + high) * U.sum(1, keepdim=True), (high - low) * U], dim=1)


def _cut_matrices(B: torch.Tensor) -> torch.Tensor:
    P, rows, d = B.shape
    M = B.new_zeros((P, d + rows, d + rows))
    M[:, d:, :d], M[:, :d, d:] = B, B.transpose(1, 2)
    return M


def _gershgorin(B: Array) -> Array:
    return np.concatenate([np.abs(B).sum(axis=0), np.abs(B).sum(axis=1)])


def _parts(W: torch.Tensor, A: torch.Tensor, S: torch.Tensor, slopes: Slopes) -> Any:
    """``S'w_i`` (P, m, r), unit vector along ``S'b_0`` (P, r), values (P,) and lengths of ``S'w_i`` (P, m)."""
    low, high = slopes
    P, d, r = S.shape
    T = (W @ S.permute(1, 0, 2).reshape(d, P * r)).reshape(len(W), P, r).permute(1, 0, 2)
    sums = (A[:, :, None] * T).sum(1)
    size, lengths = sums.norm(dim=1), T.norm(dim=2)
    value = 0.5 * (abs(low + high) * size + (high - low) * (A.abs() * lengths).sum(1))
    return T, sums / size.clamp_min(TINY)[:, None], value, lengths


def _follow(W: torch.Tensor, A: torch.Tensor, S: torch.Tensor, slopes: Slopes, norm: float, steps: int) -> torch.Tensor:
    """Power steps ``S <- normalized(B'N)``, which never lower a value (convexity of the norms)."""
    import torch

    low, high = slopes
    P, d, r = S.shape
    for _ in range(steps):
        T, first, _, lengths = _parts(W, A, S, slopes)
        inner = (A.abs() / lengths.clamp_min(TINY))[:, :, None] * T
        N = (high - low) * inner + abs(low + high) * A[:, :, None] * first[:, None, :]
        moved = (W.T @ N.permute(1, 0, 2).reshape(len(W), P * r)).reshape(d, P, r).permute(1, 0, 2)
        size = moved.norm(dim=2, keepdim=True) if norm != 2 else moved.flatten(1).norm(dim=1)[:, None, None]
        S = torch.where(size > TINY, moved / size.clamp_min(TINY), S)
    return S


def _repaired(
    network: Network, pairs: ClassPairs, bounds: Array, multiplier: dict[str, Array], loose: Any, tol: float
) -> tuple[Array, dict[str, Array]]:
    """Pairs that power steps left loose, by the slow and sure way where that is better."""
    rows = pairs.rows(network)
    better = {name: part.copy() for name, part in multiplier.items()}
    for p in loose:
        found = multiplier_of_rows(rows[p], maximize_linf(rows[p].B, tol).factor.T)
        better["q"][p], better["y"][p] = found["q"], found["y"]
    improved = margin_bounds(network, better, pairs=pairs)
    keep = improved < bounds
    chosen = {name: np.where(keep[:, None], better[name], part) for name, part in multiplier.items()}
    return np.minimum(improved, bounds), chosen
