"""LipSDP as a differentiable term of a training loss, with the maximizing factor kept warm from step to step.

By Danskin's theorem the gradient of ``L(B) = max_{||S||_F = 1} 1/2 sum_i ||S'b_i||`` is that of the sum at the
maximizing S, so a step needs no derivative of the maximization (docs/theory/lipsdp.md, Proposition 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp import gradient_vector, maximize, maximize_vector

if TYPE_CHECKING:
    import torch

Slopes = tuple[float, float]


class WarmLipSDP:
    """LipSDP of weights that change a little from call to call, differentiable in them.

    Implements: convexnn, Proposition 4 of docs/theory/lipsdp.md: value and gradient at the maximizing factor.

    Parameters
    ----------
    slopes : tuple of float, default (0.0, 1.0)
        Slope interval of the activation.
    exact_every : int, default 1
        The factor is maximized to a certified gap ``tol`` on every so many calls (the first included). In between
        it only follows the weights by power steps, and the value is a lower bound on LipSDP.
    power_steps : int, default 3
        Power steps of a call in between.
    tol : float, default 1e-8
        Relative gap of the exact maximizations.

    Notes
    -----
    With several outputs every call is exact. Device and type of the weights do not matter: the exact maximization
    runs in float64 on the CPU, the power steps where the weights are.
    """

    def __init__(
        self, slopes: Slopes = (0.0, 1.0), *, exact_every: int = 1, power_steps: int = 3, tol: float = 1e-8
    ) -> None:
        if exact_every < 1 or power_steps < 0:
            raise InvalidInputError(
                f"exact_every must be at least 1 and power_steps at least 0, got {exact_every!r} and {power_steps!r}."
            )
        if not np.isfinite(slopes).all():
            raise UnsupportedModelError("An activation with unbounded slopes has no Lipschitz constant to train.")
        self.slopes, self.exact_every, self.power_steps, self.tol = slopes, exact_every, power_steps, tol
        self.calls = 0
        self.factor: Any = None

    def __call__(self, W: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
        """Value at the current weights; nan where they are not finite.

        Parameters
        ----------
        W : tensor, shape (m, d)
            Hidden weights.
        V : tensor, shape (k, m)
            Outer weights.

        Returns
        -------
        tensor, shape ()
        """
        if not bool(W.isfinite().all() and V.isfinite().all()):
            return (W.sum() + V.sum()) * float("nan")
        exact = self.factor is None or self.calls % self.exact_every == 0
        self.calls += 1
        if len(V) > 1:
            return self._several_outputs(W, V)
        B = rows_of(W, V[0], self.slopes)
        self._follow(B.detach(), exact)
        # the gradient of a norm that is zero counts as zero: a subgradient
        return 0.5 * (B @ self.factor).norm(dim=1).sum()

    def _follow(self, B: torch.Tensor, exact: bool) -> None:
        """Move the factor to the rows B: to the maximizer, or by power steps ``S <- B'N``."""
        import torch

        if exact:
            start = None if self.factor is None else self.factor.cpu().double().numpy()
            found = maximize(B.cpu().double().numpy(), self.tol, start).factor
            self.factor = torch.as_tensor(found).to(B)
            return
        S = self.factor.to(B)
        for _ in range(self.power_steps):
            S = B.T @ torch.nn.functional.normalize(B @ S, dim=1, eps=torch.finfo(B.dtype).tiny)
            S = S / S.norm().clamp_min(torch.finfo(B.dtype).tiny)
        self.factor = S

    def _several_outputs(self, W: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
        import torch

        weights, outer = (part.detach().cpu().double().numpy() for part in (W, V))
        found = maximize_vector(weights, outer, self.tol, self.factor, self.slopes)
        self.factor = found.factors
        value = W.new_tensor(found.lower)
        for part, slope in zip((W, V), gradient_vector(weights, outer, found.factors, self.slopes), strict=True):
            value = value + (torch.as_tensor(slope).to(part) * (part - part.detach())).sum()
        return value

    def bound(self, W: torch.Tensor, V: torch.Tensor) -> float:
        """Certified upper bound on LipSDP of the weights, to the gap ``tol``; the warm factor stays as it is."""
        weights, outer = (part.detach().cpu().double().numpy() for part in (W, V))
        if not (np.isfinite(weights).all() and np.isfinite(outer).all()):
            return float("nan")
        if len(outer) > 1:
            return maximize_vector(weights, outer, self.tol, self.factor, self.slopes).upper
        start = None if self.factor is None else self.factor.cpu().double().numpy()
        B = rows_of(torch_like(weights), torch_like(outer[0]), self.slopes).numpy()
        return maximize(B, self.tol, start).upper

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays from which :meth:`load` continues."""
        factors = self.factor if isinstance(self.factor, tuple) else () if self.factor is None else (self.factor,)
        return {"calls": np.array(self.calls)} | {f"factor{i}": np.array(part) for i, part in enumerate(_cpu(factors))}

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up arrays written by :meth:`state`."""
        self.calls = int(state["calls"])
        parts = [np.array(state[name]) for name in ("factor0", "factor1") if name in state]
        self.factor = tuple(parts) if len(parts) == 2 else torch_like(parts[0]) if parts else None


def rows_of(W: torch.Tensor, v: torch.Tensor, slopes: Slopes) -> torch.Tensor:
    """Rows of :func:`convexnn.lipsdp.stack` in torch."""
    import torch

    low, high = slopes
    U = v[:, None] * W
    return torch.cat([(low + high) * U.sum(0, keepdim=True), (high - low) * U])


def torch_like(values: np.ndarray[Any, Any]) -> torch.Tensor:
    """A float64 tensor on the CPU."""
    import torch

    return torch.as_tensor(np.asarray(values, dtype=np.float64))


def _cpu(factors: Any) -> list[Any]:
    return [part if isinstance(part, np.ndarray) else part.cpu().double().numpy() for part in factors]
