"""Exact worst cases of quadratic functions over l2 balls in torch, differentiable by the envelope theorem.

The minimizer is found without gradients on the device and in the type of the inputs; the value is then evaluated at the
minimizer held fixed. Where the minimizer is unique this has the gradient of the minimum, elsewhere one of the limits of
such gradients (a point of the subdifferential of the concave case).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convexnn.exceptions import InvalidInputError

if TYPE_CHECKING:
    import torch

STEPS = 60


def quadratic_of_weights(
    W: torch.Tensor,
    b: torch.Tensor,
    v: torch.Tensor,
    c: torch.Tensor,
    coefficients: tuple[float, float, float] = (0.09, 0.5, 0.47),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``(Q, q, h)`` with ``v'sigma(W x + b) + c = x'Qx + 2 q'x + h``, differentiable in the weights.

    Parameters
    ----------
    W : tensor, shape (m, d)
    b, v : tensor, shape (m,)
    c : tensor, shape ()
    coefficients : tuple of float
        (a, b, c) of ``sigma(t) = a t^2 + b t + c``.
    """
    square, slope, constant = coefficients
    Q = square * (W.T * v) @ W
    q = (v * (square * b + 0.5 * slope)) @ W
    return Q, q, v @ ((square * b + slope) * b + constant) + c


def worst_case(
    form: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    X: torch.Tensor,
    signs: torch.Tensor,
    radius: torch.Tensor | float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minima of ``s f(x + delta)`` over ``|delta|_2 <= radius`` for ``f(x) = x'Qx + 2 q'x + h``, and worst points.

    Differentiable in Q, q, h, X and the radius. The same numbers as
    :meth:`convexnn.quadratic.form.QuadraticForm.worst_case`, on CPU or GPU, float32 or float64.

    Implements: convexnn, Proposition 7 of docs/theory/quadratic_worst_cases.md.

    Parameters
    ----------
    form : tuple of tensors
        Q (d, d), q (d,), h (); only the symmetric part of Q matters.
    X : tensor, shape (n, d)
    signs : tensor, shape (n,)
        -1 / +1.
    radius : float or tensor, shape () or (n,)
        Nonnegative, l2.

    Returns
    -------
    values : tensor, shape (n,)
        Never below the minimum but by rounding, as the points lie in the balls.
    points : tensor, shape (n, d)
        Detached.

    Raises
    ------
    InvalidInputError
        For shapes that do not fit or a negative radius.
    """
    import torch

    Q, q, h = form
    if X.ndim != 2 or Q.shape != (X.shape[1], X.shape[1]) or q.shape != X.shape[1:] or signs.shape != X.shape[:1]:
        raise InvalidInputError(
            f"Shapes do not fit: Q {tuple(Q.shape)}, q {tuple(q.shape)}, X {tuple(X.shape)}, "
            f"signs {tuple(signs.shape)}."
        )
    sizes = torch.as_tensor(radius, dtype=X.dtype, device=X.device).expand(len(X))
    if not bool((sizes >= 0).all()):
        raise InvalidInputError("The radius must not be negative.")
    Q = 0.5 * (Q + Q.T)
    s = signs.to(X.dtype)
    with torch.no_grad():
        values, V = torch.linalg.eigh(Q)
        slopes = s[:, None] * ((X @ Q + q) @ V)
        steps, multipliers = _minimizers(s[:, None] * values, slopes, sizes)
        steps = steps @ V.T
    points = X + steps
    attained = s * (((points @ Q + 2.0 * q) * points).sum(dim=1) + h)
    # the price of the radius: its value is zero, its derivative the multiplier
    return attained - multipliers * (sizes * sizes - (sizes * sizes).detach()), points.detach()


def _minimizers(L: torch.Tensor, g: torch.Tensor, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps (n, d) and multipliers (n,) of trust regions: Newton from the left, in the hard case the lowest axis."""
    import torch

    small = torch.finfo(L.dtype).tiny * 1e8
    active = r > 0
    length = torch.where(active, r, torch.ones_like(r))
    size = torch.maximum(L.abs().amax(dim=1) * length, g.abs().amax(dim=1)).clamp_min(small)
    curvature, linear = L * (length / size)[:, None], g / size[:, None]  # the unit ball, numbers of size one
    lowest, axis = curvature.min(dim=1)
    above = curvature - lowest[:, None]
    excess = torch.maximum((linear.abs() - above).amax(dim=1), lowest.clamp_min(0.0)).clamp_min(0.0)
    close = 4.0 * torch.finfo(L.dtype).eps
    for _ in range(STEPS):
        shifted = (above + excess[:, None]).clamp_min(small)
        ratio = linear / shifted
        square = (ratio * ratio).sum(dim=1)
        norm = square.sqrt()
        fall = (ratio * ratio / shifted).sum(dim=1).clamp_min(small)
        rise = torch.where(norm > 1.0 + close, square / fall * (norm - 1.0), torch.zeros_like(norm))
        excess = excess + rise
        if not bool((rise > close * excess).any()):
            break
    steps = -linear / (above + excess[:, None]).clamp_min(small)
    short = (excess > lowest) & ((steps * steps).sum(dim=1) < 1.0)
    own = steps.gather(1, axis[:, None])[:, 0]
    free = (1.0 - (steps * steps).sum(dim=1) + own * own).clamp_min(0.0).sqrt()
    free = torch.where(linear.gather(1, axis[:, None])[:, 0] > 0, -free, free)
    steps = steps.scatter(1, axis[:, None], torch.where(short, free, own)[:, None])
    steps = steps / (steps * steps).sum(dim=1).sqrt().clamp_min(1.0)[:, None]
    multipliers = torch.where(active, (excess - lowest) * size / length, torch.zeros_like(r))
    return steps * r[:, None], multipliers
