"""Safe networks with two hidden layers: an upper bound on balls through a chain of quadratics, with gradients (torch).

The second layer lies below quadratics of its pre-activations, the first one enters by its quadratic equations. What is
left is a quadratic over the ball: the semidefinite bound of Soletskyi & Dalrymple (2024) for two layers, solved for
everything but a few multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.training.region_frame import UnitBall
from convexnn.training.region_majorants_torch import ball_maximum
from convexnn.training.region_model import SafeModel
from convexnn.training.region_pairs import random_directions

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

WEIGHTS = ("W1", "b1", "W2", "b2", "c")
MULTIPLIERS = ("al", "be", "nu", "lam", "mu", "lift")
SOFT = 5e-3  # temperature of the largest eigenvalue, relative: a little above it, with a gradient
RATE = 6e-3
BIAS = -0.05


@dataclass(eq=False)
class Layers:
    """``f(z) = c'relu(W2 relu(W1 z + b1) + b2)`` and multipliers of its bound, one row for each of k regions.

    Attributes
    ----------
    W1, b1 : tensor, shape (h, d), (h,)
    W2, b2 : tensor, shape (m, h), (m,)
    c : tensor, shape (m,)
    al, be : tensor, shape (k, m)
        Logarithms of the curvatures, and slopes of the majorants of the second layer.
    nu : tensor, shape (k, h)
        Logarithms of the multipliers of ``z^2 = z a`` in the first layer, up to a common factor.
    lam, mu : tensor, shape (k, h)
        Logarithms of those of ``z >= 0`` and ``z >= a``.
    lift : tensor, shape (k, 1)
        Logarithm of what that common factor is above the smallest possible one, as a share.
    """

    W1: torch.Tensor
    b1: torch.Tensor
    W2: torch.Tensor
    b2: torch.Tensor
    c: torch.Tensor
    al: torch.Tensor
    be: torch.Tensor
    nu: torch.Tensor
    lam: torch.Tensor
    mu: torch.Tensor
    lift: torch.Tensor

    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        return int(self.W1.shape[1])

    def to(self, **kind: Any) -> Layers:
        """The same on another device or of another type, without gradients."""
        return Layers(**{field.name: getattr(self, field.name).detach().to(**kind) for field in fields(self)})

    def values(self, Z: torch.Tensor) -> torch.Tensor:
        """``f`` at points (batch, d), shape (batch,); no output bias."""
        first = (Z @ self.W1.T + self.b1).clamp_min(0.0)
        return (first @ self.W2.T + self.b2).clamp_min(0.0) @ self.c

    def gradient(self, Z: torch.Tensor) -> torch.Tensor:
        """Gradients of ``f`` at points (batch, d), shape (batch, d)."""
        first = Z @ self.W1.T + self.b1
        second = first.clamp_min(0.0) @ self.W2.T + self.b2
        return (((self.c * (second > 0)) @ self.W2) * (first > 0)) @ self.W1

    def maximum(self, ball: UnitBall, region: int, smoothing: float, *, smooth_value: bool = False) -> torch.Tensor:
        """Upper bound of ``f`` on one ball: :func:`chain_maximum`."""
        return chain_maximum(self, ball, region, smoothing, smooth_value=smooth_value)

    def fixed(self) -> Layers:
        """The same with multipliers that do not move."""
        return replace(self, **{name: getattr(self, name).detach() for name in MULTIPLIERS})

    def multipliers(self) -> torch.Tensor:
        """All multipliers side by side, shape (k, p)."""
        import torch

        return torch.cat([getattr(self, name) for name in MULTIPLIERS], dim=1)

    def with_multipliers(self, flat: torch.Tensor) -> Layers:
        """The same network with other multipliers (k, p)."""
        import torch

        widths = [getattr(self, name).shape[1] for name in MULTIPLIERS]
        return replace(self, **dict(zip(MULTIPLIERS, torch.split(flat, widths, dim=1), strict=True)))


def chain_maximum(
    layers: Layers, ball: UnitBall, region: int, smoothing: float, *, smooth_value: bool = False
) -> torch.Tensor:
    """Upper bound of a network with two hidden layers on one ball, for any multipliers.

    With ``a = W1 x + b1``, ``z = relu(a)`` and majorants ``al t^2 + be t + de >= c relu(t)`` of the second layer,

        f <= sum de + max_e max_z  sum al t^2 + be t + nu z (a - z) + lam z + mu (z - a),   t = W2 z + b2,

    where the maximum over z is that of a concave quadratic as ``K = diag(nu) - W2' diag(al) W2`` is positive definite.

    Implements: convexnn, Proposition 3 of docs/theory/region_training.md.

    Parameters
    ----------
    layers : Layers
    ball : UnitBall
    region : int
        Which multipliers.
    smoothing, smooth_value
        As in :func:`~convexnn.training.region_majorants_torch.ball_maximum`.
    """
    import torch

    like: dict[str, Any] = {"dtype": layers.W1.dtype, "device": layers.W1.device}
    V = layers.W1 if ball.map is None else layers.W1 @ torch.as_tensor(ball.map, **like)
    start = layers.b1 if ball.shift is None else layers.b1 + layers.W1 @ torch.as_tensor(ball.shift, **like)
    al, be = layers.al[region].exp(), layers.be[region]
    lam, mu = layers.lam[region].exp(), layers.mu[region].exp()
    peak = torch.maximum(be, layers.c - be).clamp_min(0.0)
    constant = (peak * peak / (4.0 * al) + be * layers.b2 + al * layers.b2 * layers.b2).sum() - mu @ start
    curve = (layers.W2.T * al) @ layers.W2
    steep = layers.W2.T @ (be + 2.0 * al * layers.b2) + lam + mu
    nu = dominating(curve, layers.nu[region], layers.lift[region])
    L, failed = torch.linalg.cholesky_ex(torch.diag(nu) - curve)
    if int(failed) or not bool(torch.isfinite(L).all()):
        return curve.sum() * float("nan")  # a run that went astray; nothing is proved by it
    Y = torch.linalg.solve_triangular(
        L, torch.cat([nu[:, None] * V, (steep + nu * start)[:, None]], dim=1), upper=False
    )
    rows, at_center = Y[:, :-1], Y[:, -1]
    linear = 0.5 * rows.T @ at_center - V.T @ mu
    return (
        constant
        + 0.25 * at_center @ at_center
        + ball_maximum(0.25 * rows.T @ rows, linear, smoothing, smooth_value=smooth_value)
    )


def dominating(curve: torch.Tensor, shape: torch.Tensor, lift: torch.Tensor) -> torch.Tensor:
    """Numbers nu (h,) with ``diag(nu) > curve``: ``exp(shape)`` times what is needed, and ``exp(lift)`` of it more.

    What is needed is a largest eigenvalue, by a smooth upper bound: its gradient spreads over eigenvalues that meet.
    """
    import torch

    root = torch.exp(-0.5 * shape)
    scaled = root[:, None] * curve * root
    heat = SOFT * scaled.norm().clamp_min(torch.finfo(scaled.dtype).tiny)
    with torch.no_grad():
        try:
            w, P = torch.linalg.eigh(scaled)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined, unused-ignore]
            return curve.sum() * shape * float("nan")
        share = torch.softmax(w / heat, dim=0)
        total = torch.logsumexp(w / heat, dim=0)
        needed, spread = heat * total, total - (share * w).sum() / heat
    slope = ((P * share) @ P.T * scaled).sum() + spread * heat
    return torch.exp(shape) * (slope - slope.detach() + needed) * (1.0 + torch.exp(lift))


@dataclass(frozen=True, eq=False)
class LayersStart:
    """Weights (fields of :class:`Layers`) that training starts from."""

    W1: Array
    b1: Array
    W2: Array
    b2: Array
    c: Array


def layers_start(
    d: int, sizes: tuple[int, int], rng: np.random.Generator, *, tight: bool, free_signs: bool
) -> LayersStart:
    """Random rows (whitened), He's sizes in the second layer, small negative biases, random output weights.

    Implements: convexnn, starts of two layers in docs/theory/region_training.md.

    Parameters
    ----------
    d : int
    sizes : (int, int)
    rng : Generator
    tight : bool
    free_signs : bool
        Output weights of both signs; else all are positive at the start.
    """
    h, m = sizes
    W2 = rng.standard_normal((m, h)) * np.sqrt(2.0 / h)
    c = rng.standard_normal(m) * np.sqrt(2.0 / (m + 1))
    first = random_directions(h, d, rng, tight=tight)
    return LayersStart(first, np.full(h, BIAS), W2, np.full(m, BIAS), c if free_signs else np.abs(c))


class LayersModel(SafeModel):
    """Two hidden layers, all weights of any sign."""

    def __init__(self, start: LayersStart, n_regions: int, device: str, dtype: str, with_margin: bool) -> None:
        weights = {name: getattr(start, name) for name in WEIGHTS}
        h, size = len(start.b1), np.maximum(np.abs(start.c), 1e-3 * np.abs(start.c).max(initial=1e-3))
        length = np.maximum(np.linalg.norm(start.W2, axis=1), 1e-3)
        first = {
            "al": np.log(0.5 * size / length),
            "be": 0.5 * start.c,
            "nu": np.zeros(h),
            "lam": np.full(h, -5.0),
            "mu": np.full(h, -5.0),
            "lift": np.zeros(1),
        }
        values = weights | {name: np.tile(value, (n_regions, 1)) for name, value in first.items()}
        super().__init__(values, MULTIPLIERS, device, dtype, with_margin)

    def groups(self) -> Layers:
        """Weights and multipliers, differentiable in the parameters."""
        return Layers(**{name: self.parameters[name] for name in (*WEIGHTS, *MULTIPLIERS)})

    def fixed(self) -> tuple[Array, ...]:
        """The sizes."""
        return (np.array([len(self.parameters["b1"]), len(self.parameters["b2"])], dtype=np.float64),)
