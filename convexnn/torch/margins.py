"""Upper bounds on the margins of rivals over balls of inputs, differentiable in the weights: for certified training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp import maximize, maximize_linf
from convexnn.threats import Box, L2Ball, LInfBall, Threat
from convexnn.torch.layers import LiveLayers
from convexnn.torch.lines import Lines, apply, image, lines_of
from convexnn.training.lipsdp_regularizer import rows_of

Tensor = torch.Tensor
METHODS = ("ibp", "crown", "lipsdp")


def margin_bounds(
    model: torch.nn.Module, X: Tensor, y: Tensor, threat: Threat, *, method: str = "crown", tol: float = 1e-6
) -> Tensor:
    """Upper bounds on ``f_t - f_y`` over the threat set of every sample, for every rival t of the label y.

    A sample keeps its label on its whole set where all its bounds are negative. Differentiable in the weights and, for
    ``"ibp"`` and ``"crown"``, in X: a hinge, a cross entropy or a softplus of the bounds is a certified training loss,
    ``softplus(margin_bounds(model, X, y, LInfBall(0.1)).amax(1)).mean()``.

    ``"ibp"`` and ``"crown"`` are those of :mod:`convexnn.propagation` up to float rounding, which they do not add: in
    exact arithmetic every value is a valid bound (and one of ``"lipsdp"`` is made of certified constants), but what is
    claimed of a finished network comes from :func:`convexnn.certify`, which rounds outward. Where a ball is cut by a
    clip, the better one of ball and box is taken, a little above the rigorous bounds.

    Implements: Gowal et al. (2019), interval bounds, and Zhang et al. (2018), CROWN, for training.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of Linear layers and one kind of activation, any depth; with one output positive values are the class 1.
    X : tensor, shape (n, d)
        Raw inputs; moved to the dtype and device of the model.
    y : tensor of int, shape (n,)
        Class indices.
    threat : L2Ball, LInfBall or Box
        Radii in raw input units; a clip is used by ``"ibp"`` and ``"crown"``.
    method : {"crown", "ibp", "lipsdp"}
        Backward linear bounds between intervals; intervals; or ``f_t - f_y + radius L``, with L the LipSDP (l2) or
        max-gradient (linf) bound of the pair, for one hidden layer.
    tol : float
        Relative gap of the bounds L.

    Returns
    -------
    tensor, shape (n, k - 1)
        Rivals in the order of their index; (n, 1) with one output.

    Raises
    ------
    UnsupportedModelError
        Names the layer or the activation that does not fit.
    InvalidInputError
        For shapes, labels or a threat that cannot be used.
    """
    if method not in METHODS:
        raise InvalidInputError(f"method must be one of {METHODS}, got {method!r}.")
    layers = LiveLayers.of(model)
    W, k = layers.weights[0], len(layers.weights[-1])
    points = torch.as_tensor(X).to(W)
    if points.ndim != 2 or points.shape[1] != W.shape[1]:
        raise InvalidInputError(f"X must have shape (n, {W.shape[1]}), got {tuple(points.shape)}.")
    C = _contrasts(torch.as_tensor(y).to(W.device), len(points), k).to(W)
    if method == "lipsdp":
        return _lipschitz(layers, points, C, threat, tol)
    inputs = _Inputs.around(points, threat)
    lower, upper, lines = _hidden_bounds(layers, inputs, linear=method == "crown")
    V, c = layers.weights[-1], layers.biases[-1]
    A, offset = C @ V, C @ c
    middle = _interval(A, offset, *image(layers.activation, lower, upper))[1]
    if method == "ibp":
        return middle
    return torch.minimum(middle, _backward(layers, lines, inputs, A, offset))


def _contrasts(y: Tensor, n: int, k: int) -> Tensor:
    """Rows ``e_t - e_y`` of every sample, shape (n, k - 1, k); ``-1`` or ``+1`` with one output."""
    classes = max(k, 2)
    if y.shape != (n,) or y.is_floating_point() or y.is_complex():
        raise InvalidInputError(f"y must hold {n} class indices (integers), got {y.dtype} of shape {tuple(y.shape)}.")
    if n and not bool(((y >= 0) & (y < classes)).all()):
        raise InvalidInputError(f"y must hold class indices from 0 to {classes - 1}.")
    labels = y.long()
    if k == 1:
        return (1.0 - 2.0 * labels)[:, None, None]
    eye = torch.eye(k, device=y.device)
    rivals = torch.arange(k - 1, device=y.device).expand(n, k - 1)
    rivals = rivals + (rivals >= labels[:, None])
    return eye[rivals] - eye[labels][:, None]


@dataclass(frozen=True)
class _Inputs:
    """The sets of inputs, one a sample: boxes, balls or both."""

    centre: Tensor
    radius: float
    box: tuple[Tensor, Tensor] | None

    @classmethod
    def around(cls, X: Tensor, threat: Threat) -> _Inputs:
        if isinstance(threat, Box):
            low, high = (torch.as_tensor(np.asarray(end)).to(X).expand_as(X) for end in (threat.lower, threat.upper))
            return cls(X, np.inf, (low, high))
        if not isinstance(threat, L2Ball | LInfBall):
            raise InvalidInputError(f"The threat must be an L2Ball, a LInfBall or a Box, got {threat!r}.")
        if isinstance(threat, L2Ball) and threat.clip is None:
            return cls(X, threat.radius, None)
        low, high = X - threat.radius, X + threat.radius
        if threat.clip is not None:
            ends = [torch.as_tensor(np.asarray(end, dtype=float)).to(X) for end in threat.clip]
            low, high = torch.maximum(low, ends[0]), torch.minimum(high, ends[1])
        if bool((low > high).any()):
            raise InvalidInputError(f"A threat set is empty: {threat!r} excludes every point near a sample.")
        return cls(X, threat.radius if isinstance(threat, L2Ball) else np.inf, (low, high))

    def maximum(self, A: Tensor) -> Tensor:
        """``max A x`` over the sets for forms (n, q, d) or (q, d), shape (n, q); with box and ball the smaller one."""
        if self.box is not None:
            low, high = self.box
            found = _interval(A, torch.zeros((), dtype=A.dtype, device=A.device), low, high)[1]
            if not np.isfinite(self.radius):
                return found
        ball = _apply_forms(A, self.centre) + self.radius * torch.linalg.vector_norm(A, dim=-1)
        return ball if self.box is None else torch.minimum(ball, found)


def _apply_forms(A: Tensor, h: Tensor) -> Tensor:
    """``A h`` for forms (n, q, d) or (q, d) at points (n, d), shape (n, q)."""
    return h @ A.T if A.ndim == 2 else torch.einsum("nqd,nd->nq", A, h)


def _interval(A: Tensor, c: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of ``A h + c`` for low <= h <= high (n, d)."""
    middle, half = _apply_forms(A, 0.5 * (low + high)) + c, _apply_forms(A.abs(), 0.5 * (high - low))
    return middle - half, middle + half


def _hidden_bounds(layers: LiveLayers, inputs: _Inputs, linear: bool) -> tuple[Tensor, Tensor, list[Lines]]:
    """Bounds on the pre-activations of the last hidden layer (n, units), and lines of all hidden layers."""
    lines: list[Lines] = []
    lower = upper = inputs.centre
    for k, (W, b) in enumerate(zip(layers.weights[:-1], layers.biases[:-1], strict=True)):
        if k == 0:
            lower, upper = b - inputs.maximum(-W), b + inputs.maximum(W)
        else:
            low, high = _interval(W, b, *image(layers.activation, lower, upper))
            if linear:
                both = _backward(layers, lines, inputs, torch.cat([W, -W]), torch.cat([b, -b]))
                high, low = torch.minimum(high, both[:, : len(b)]), torch.maximum(low, -both[:, len(b) :])
            lower, upper = low, high
        lines.append(lines_of(layers.activation, lower, upper))
    return lower, upper, lines


def _backward(layers: LiveLayers, lines: list[Lines], inputs: _Inputs, A: Tensor, c: Tensor) -> Tensor:
    """Upper bounds on ``A h + c``, h the outputs of the last layer that has lines, shape (n, q)."""
    for k in range(len(lines) - 1, -1, -1):
        (above, above_offset), (below, below_offset) = lines[k].above, lines[k].below
        positive, negative = A.clamp_min(0.0), A.clamp_max(0.0)
        c = c + _apply_forms(positive, above_offset) + _apply_forms(negative, below_offset)
        A = positive * above[:, None] + negative * below[:, None]
        c = c + A @ layers.biases[k]
        A = A @ layers.weights[k]
    return c + inputs.maximum(A)


# -- Lipschitz bounds of pairs ---------------------------------------------------------------------------
def _lipschitz(layers: LiveLayers, X: Tensor, C: Tensor, threat: Threat, tol: float) -> Tensor:
    if len(layers.weights) != 2:
        raise UnsupportedModelError(
            f"method='lipsdp' needs one hidden layer, this model has {len(layers.weights) - 1}; use method='crown'."
        )
    if not isinstance(threat, L2Ball | LInfBall):
        raise InvalidInputError(f"method='lipsdp' needs an L2Ball or a LInfBall, got {threat!r}.")
    if not np.isfinite(layers.activation.slopes).all():
        raise UnsupportedModelError(f"The activation {layers.activation.name!r} has unbounded slopes; use 'crown'.")
    (W, V), (b, c) = layers.weights, layers.biases
    values = torch.einsum("nqk,nk->nq", C, apply(layers.activation, X @ W.T + b) @ V.T + c)
    pairs, inverse = torch.unique(_unsigned(C).reshape(-1, C.shape[-1]), dim=0, return_inverse=True)
    norm = 2 if isinstance(threat, L2Ball) else np.inf
    bounds = torch.stack([_pair_bound(W, e @ V, layers.activation.slopes, norm, tol) for e in pairs])
    return values + threat.radius * bounds[inverse].reshape(values.shape)


def _unsigned(C: Tensor) -> Tensor:
    """``e_t - e_y`` and ``e_y - e_t`` as one: their Lipschitz constants are equal."""
    first = torch.gather(C, -1, C.ne(0).to(C.dtype).argmax(-1, keepdim=True))
    return C * first.sign()


def _pair_bound(W: Tensor, v: Tensor, slopes: tuple[float, float], norm: float, tol: float) -> Tensor:
    """Upper bound of one pair: the value is the certified one, the gradient that at the maximizing factor."""
    rows = rows_of(W, v, slopes)
    B: Any = rows.detach().cpu().double().numpy()
    if not np.isfinite(B).all():
        return rows.sum() * float("nan")
    found: Any = maximize(B, tol) if norm == 2 else maximize_linf(B, tol)
    S = torch.as_tensor(found.factor if norm == 2 else found.factor.T.copy()).to(rows)
    value = 0.5 * torch.linalg.vector_norm(rows @ S, dim=1).sum()
    return value + (torch.as_tensor(found.upper, dtype=torch.float64).to(value) - value.detach())
