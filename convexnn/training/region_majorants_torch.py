"""Upper bounds of networks on balls by quadratic majorants of parallel units, with gradients (torch).

Units come in groups of parallel rows: ``f(z) = sum_g phi_g(u_g.z)``, ``phi_g(a) = sum_j c_gj act(s_gj a + b_gj)`` with
signs s, act a ReLU or LeakyReLU. One quadratic lies above a whole group; groups of one unit give the bound of Soletskyi
& Dalrymple (2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from convexnn.quadratic.trust_region import minimize_over_ball, smoothed_over_ball
from convexnn.training.region_frame import UnitBall

if TYPE_CHECKING:
    import torch


class Bounded(Protocol):
    """A network without output bias that comes with multipliers of an upper bound, one row a region."""

    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        ...

    def to(self, **kind: Any) -> Self:
        """The same on another device or of another type, without gradients."""
        ...

    def values(self, Z: torch.Tensor) -> torch.Tensor:
        """``f`` at points (batch, d), shape (batch,)."""
        ...

    def gradient(self, Z: torch.Tensor) -> torch.Tensor:
        """Gradients of ``f``, shape (batch, d)."""
        ...

    def maximum(self, ball: UnitBall, region: int, smoothing: float, *, smooth_value: bool = False) -> torch.Tensor:
        """Upper bound of ``f`` on one ball; ``smooth_value``: the smooth function that its gradient belongs to."""
        ...

    def fixed(self) -> Self:
        """The same with multipliers that do not move."""
        ...

    def multipliers(self) -> torch.Tensor:
        """What the bound is optimized over, unconstrained, shape (k, p)."""
        ...

    def with_multipliers(self, flat: torch.Tensor) -> Self:
        """The same network with other multipliers (k, p)."""
        ...


@dataclass(eq=False)
class Groups:
    """Groups of parallel units with their majorants, as tensors of one device and type.

    Attributes
    ----------
    U : tensor, shape (n, d)
        Directions, in the coordinates of the frame.
    S, b, c : tensor, shape (n, m)
        Signs of the units along their direction, biases, output weights; missing units have weight zero.
    al, be : tensor, shape (k, n)
        Curvatures (positive) and slopes of the majorants ``al a^2 + be a + de``, for each of k regions.
    leak : float
        Slope of the units below zero.
    """

    U: torch.Tensor
    S: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    al: torch.Tensor
    be: torch.Tensor
    leak: float = 0.0

    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        return int(self.U.shape[1])

    def to(self, **kind: Any) -> Groups:
        """The same on another device or of another type, without gradients."""
        tensors = (field.name for field in fields(self) if field.name != "leak")
        return Groups(**{name: getattr(self, name).detach().to(**kind) for name in tensors}, leak=self.leak)

    def values(self, Z: torch.Tensor) -> torch.Tensor:
        """``f`` at points (batch, d), shape (batch,); no output bias."""
        return self.ridges(Z @ self.U.T).sum(dim=1)

    def gradient(self, Z: torch.Tensor) -> torch.Tensor:
        """Gradients of ``f`` at points (batch, d), shape (batch, d)."""
        return self.slopes(Z @ self.U.T) @ self.U

    def ridges(self, a: torch.Tensor) -> torch.Tensor:
        """``phi_g(a_g)`` of pre-activations (batch, n), shape (batch, n)."""
        t = self.S * a[..., None] + self.b
        active = t.clamp_min(0.0) if not self.leak else t.clamp_min(0.0) + self.leak * t.clamp_max(0.0)
        return (self.c * active).sum(dim=-1)

    def slopes(self, a: torch.Tensor) -> torch.Tensor:
        """``phi_g'(a_g)`` of pre-activations (batch, n), shape (batch, n)."""
        on = (self.S * a[..., None] + self.b > 0).to(self.c.dtype)
        return (self.c * self.S * (self.leak + (1.0 - self.leak) * on)).sum(dim=-1)

    def maximum(self, ball: UnitBall, region: int, smoothing: float, *, smooth_value: bool = False) -> torch.Tensor:
        """Upper bound of ``f`` on one ball: :func:`region_maximum`."""
        return region_maximum(self, ball, region, smoothing, smooth_value=smooth_value)

    def fixed(self) -> Groups:
        """The same with majorants that do not move."""
        return replace(self, al=self.al.detach(), be=self.be.detach())

    def multipliers(self) -> torch.Tensor:
        """What the bound is optimized over, unconstrained, shape (k, p): logarithms of al, then be."""
        import torch

        return torch.cat([torch.log(self.al), self.be], dim=1)

    def with_multipliers(self, flat: torch.Tensor) -> Groups:
        """The same network with other multipliers (k, p)."""
        n = self.U.shape[0]
        return replace(self, al=flat[:, :n].exp(), be=flat[:, n:])


def offsets(groups: Groups, region: int) -> torch.Tensor:
    """Smallest de with ``al a^2 + be a + de >= phi(a)`` for every real a, shape (n,).

    On each of the m + 1 linear pieces of phi the difference to the quadratic is concave: its maximum is the vertex,
    clipped to the piece. Gradients are those at the maximizer (Danskin).

    Parameters
    ----------
    groups : Groups
        Weights of any sign.
    region : int
        Which majorants.
    """
    import torch

    al, be = groups.al[region], groups.be[region]
    with torch.no_grad():
        kinks = torch.sort(-groups.b * groups.S, dim=1).values
        far = torch.full_like(kinks[:, :1], float("inf"))
        low, high = torch.cat([-far, kinks], dim=1), torch.cat([kinks, far], dim=1)
        inside = torch.cat([kinks[:, :1] - 1.0, 0.5 * (kinks[:, 1:] + kinks[:, :-1]), kinks[:, -1:] + 1.0], dim=1)
        slopes = groups.slopes(inside.T).T
        peaks = torch.minimum(torch.maximum((slopes - be[:, None]) / (2.0 * al[:, None]), low), high)
        heights = groups.ridges(peaks.T).T - al[:, None] * peaks * peaks - be[:, None] * peaks
        peak = peaks.gather(1, heights.argmax(dim=1, keepdim=True))[:, 0]
    return groups.ridges(peak[None])[0] - al * peak * peak - be * peak


def ball_maximum(A: torch.Tensor, g: torch.Tensor, smoothing: float, *, smooth_value: bool = False) -> torch.Tensor:
    """Upper bound of ``max over |e|_2 <= 1 of e' A e + g' e`` whose gradient is that of a smooth neighbor.

    The dual multiplier is the one of a logarithmic barrier (:func:`smoothed_over_ball`): gradients are the first and
    second moments of a random maximizer, which spreads over eigenvalues that meet. Without smoothing it is exact.

    Parameters
    ----------
    A : tensor, shape (d, d)
        Symmetric.
    g : tensor, shape (d,)
    smoothing : float
        Weight of the barrier, at least 0; relative to the size of the quadratic unless ``smooth_value``.
    smooth_value : bool, default False
        Return the smoothed maximum, which is what the gradient belongs to, instead of an upper bound.
    """
    import torch

    with torch.no_grad():
        try:
            w, V = torch.linalg.eigh(A)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined, unused-ignore]
            w, V = torch.full_like(g, float("nan")), A
        q = V.T @ g
        if not bool(torch.isfinite(w).all() and torch.isfinite(q).all()):
            return A.sum() * float("nan")  # a run that went astray; nothing is proved by it
        curvature, linear = -w.double().cpu().numpy()[None], -0.5 * q.double().cpu().numpy()[None]
        size = float(np.abs(curvature).max() + 2.0 * np.linalg.norm(linear))
        if smoothing > 0 and size > 0:
            weight = smoothing if smooth_value else smoothing * size / len(q)
            found = smoothed_over_ball(curvature, linear, 1.0, weight)
            step, spread, rho = found.steps[0], found.variances[0], float(found.multipliers[0])
            value = -float(found.values[0])
            if not smooth_value:
                value = rho + float((linear[0] ** 2 / (rho + curvature[0])).sum())
        else:
            exact = minimize_over_ball(curvature, linear, 1.0)
            step, spread, value = exact.steps[0], np.zeros(len(q)), -float(exact.values[0])
        like: dict[str, Any] = {"dtype": A.dtype, "device": A.device}
        mean = V @ torch.as_tensor(step, **like)
        moments = torch.outer(mean, mean) + (V * torch.as_tensor(spread, **like)) @ V.T
    surrogate = (moments * A).sum() + mean @ g
    return surrogate - surrogate.detach() + value


def region_maximum(
    groups: Groups, ball: UnitBall, region: int, smoothing: float, *, smooth_value: bool = False
) -> torch.Tensor:
    """Upper bound of ``f`` on one ball from its majorants: ``sum de + max of sum al a^2 + be a``, ``a = U (s + M e)``.

    Implements: convexnn, Proposition 1 of docs/theory/region_training.md.
    """
    import torch

    al, be, V = groups.al[region], groups.be[region], groups.U
    like: dict[str, Any] = {"dtype": V.dtype, "device": V.device}
    total, linear = offsets(groups, region).sum(), be
    if ball.shift is not None:
        start = groups.U @ torch.as_tensor(ball.shift, **like)
        total, linear = total + (al * start * start + be * start).sum(), be + 2.0 * al * start
    if ball.map is not None:
        V = groups.U @ torch.as_tensor(ball.map, **like)
    return total + ball_maximum((V.T * al) @ V, V.T @ linear, smoothing, smooth_value=smooth_value)


def union_maximum(network: Bounded, balls: Sequence[UnitBall], smoothing: float) -> torch.Tensor:
    """Upper bound of ``f`` on all balls: the largest of their bounds."""
    import torch

    return torch.stack([network.maximum(ball, i, smoothing) for i, ball in enumerate(balls)]).max()
