"""Better slopes for the certified margins of a given network: row by row a convex problem, never worse than before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.restrictions.robust_relu_margins import certified_margins, chord_slopes, mixed_slopes, pattern_slopes
from convexnn.restrictions.robust_relu_terms import RobustTerms

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

#: Steps of the descent, and how the longest change of a slope in a step shrinks.
STEPS = 25
FIRST_STEP, SHRINKING = 0.4, 0.85
#: Numbers of one array that is formed for a part of the rows.
CHUNK_SIZE = 8_000_000


def row_losses(terms: RobustTerms, U: Array, c: Array) -> Array:
    """Weighted certified losses summed over the margins of every row, shape (n,)."""
    losses = terms.weight * terms.losses(certified_margins(terms, U, c))
    summed: Array = np.bincount(terms.rows, losses, minlength=len(terms.X)).astype(float)
    return summed


def improved_slopes(
    terms: RobustTerms, U: Array, c: Array, *, device: str = "cpu", dtype: str = "float64", deadline: float = np.inf
) -> Array:
    """Slopes with which every row is certified at least as well as with those of ``terms``, shape (n, p).

    The certified margins are concave in the slopes of their row for fixed units. The best of the given slopes,
    patterns, chords and their mixture is improved by projected subgradient steps; a row keeps what was best, judged in
    float64 by :func:`certified_margins`.

    Implements: convexnn, Proposition 5 of docs/theory/robust_relu.md.

    Parameters
    ----------
    terms : RobustTerms
    U : array, shape (p, d + 1)
    c : array, shape (k,)
    device, dtype : str
        Of the torch arrays of the descent.
    deadline : float
        Of ``time.perf_counter``; later, the slopes so far come back.
    """
    if time.perf_counter() > deadline:
        return terms.slopes
    best, losses = terms.slopes, row_losses(terms, U, c)
    candidates = (pattern_slopes, chord_slopes, mixed_slopes)
    for make in candidates:
        if time.perf_counter() > deadline:
            return best
        best, losses = _better(terms, U, c, best, losses, make(terms, U))
    if terms.radius == 0 or time.perf_counter() > deadline:
        return best
    found = _descent(terms.with_slopes(best), U, c, device, dtype, deadline)
    return _better(terms, U, c, best, losses, found)[0]


def _better(terms: RobustTerms, U: Array, c: Array, best: Array, losses: Array, slopes: Array) -> tuple[Array, Array]:
    """Row by row the slopes with the smaller loss."""
    other = row_losses(terms.with_slopes(slopes), U, c)
    return np.where((other < losses)[:, None], slopes, best), np.minimum(other, losses)


def _descent(terms: RobustTerms, U: Array, c: Array, device: str, dtype: str, deadline: float) -> Array:
    import torch

    def put(array: Any) -> torch.Tensor:
        return torch.as_tensor(array, device=device, dtype=getattr(torch, dtype))

    per_row = terms.n_margins // len(terms.X)
    step = max(1, CHUNK_SIZE // (per_row * max(terms.n_units, terms.n_inputs)))
    found = terms.slopes.copy()
    for start in range(0, len(terms.X), step):
        rows = slice(start, min(start + step, len(terms.X)))
        part = slice(rows.start * per_row, rows.stop * per_row)
        B, z = put(terms.coefficients(part)).reshape(-1, per_row, terms.n_units), put(terms.X[rows] @ U.T)
        offset = put(terms.offsets(c)[part]).reshape(-1, per_row)
        row = _Row(B, z, put(U[:, :-1]), offset, terms)
        found[rows] = row.descend(put(terms.slopes[rows]), deadline).double().cpu().numpy()
        if time.perf_counter() > deadline:
            break
    return found


class _Row:
    """Certified losses of some rows as a function of their slopes."""

    def __init__(
        self, B: torch.Tensor, z: torch.Tensor, weights: torch.Tensor, offset: torch.Tensor, terms: RobustTerms
    ) -> None:
        self.B, self.z, self.weights, self.offset, self.terms = B, z, weights, offset, terms
        lengths = weights.norm(dim=1) if terms.norm == 2 else weights.abs().sum(1)
        self.rho = terms.radius * lengths

    def loss_and_gradient(self, T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the losses of every row, shape (rows,), and a subgradient in T, shape (rows, p)."""
        import torch

        raised, lowered = self.B.clamp_min(0), (-self.B).clamp_min(0)
        outer, inner = self.z + (1 - T) * self.rho, T * self.rho
        G = (self.B * T[:, None]) @ self.weights
        norm, unit = self._norm(G)
        linear = torch.einsum("tkp,tp->tk", raised, T * self.z) - torch.einsum(
            "tkp,tp->tk", lowered, torch.maximum(outer, inner)
        )
        margins = linear - self.terms.radius * norm + self.offset
        values, slopes = self._loss(margins)
        kink = torch.where(outer > inner, -self.rho, self.rho)
        gradient = (
            torch.einsum("tk,tkp->tp", slopes, raised) * self.z - torch.einsum("tk,tkp->tp", slopes, lowered) * kink
        )
        gradient -= self.terms.radius * (slopes[:, :, None] * self.B * (unit @ self.weights.T)).sum(1)
        return values.sum(1), -gradient

    def _norm(self, G: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.terms.norm != 2:
            return G.abs().sum(-1), G.sign()
        length = G.norm(dim=-1)
        return length, G / length.clamp_min(1e-30)[..., None]

    def _loss(self, margins: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        if self.terms.loss.name == "logistic":
            return torch.nn.functional.softplus(-margins), torch.sigmoid(-margins)
        short = (1 - margins).clamp_min(0)
        return (short, (short > 0).to(short)) if self.terms.loss.name == "hinge" else (short.square(), 2 * short)

    def descend(self, T: torch.Tensor, deadline: float) -> torch.Tensor:
        """Best slopes met on projected subgradient steps of shrinking length."""
        import torch

        best, lowest, length = T, None, FIRST_STEP
        for _ in range(STEPS):
            loss, gradient = self.loss_and_gradient(T)
            better = loss < lowest if lowest is not None else torch.ones_like(loss, dtype=torch.bool)
            best = torch.where(better[:, None], T, best)
            lowest = loss if lowest is None else torch.minimum(loss, lowest)
            if time.perf_counter() > deadline:
                break
            largest = gradient.abs().amax(1, keepdim=True).clamp_min(1e-30)
            T = (T - length * gradient / largest).clamp(0, 1)
            length *= SHRINKING
        return best
