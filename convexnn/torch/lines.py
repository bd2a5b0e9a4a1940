"""Intervals and lines of an activation between bounds on its input, as tensors that have gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from convexnn.activations import Activation, Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.exceptions import UnsupportedModelError

Tensor = torch.Tensor
BISECTIONS = 26  # those of the rigorous bounds


def apply(activation: Activation, s: Tensor) -> Tensor:
    """The activation of a tensor."""
    if isinstance(activation, ReLU):
        return torch.relu(s)
    if isinstance(activation, LeakyReLU):
        return torch.nn.functional.leaky_relu(s, activation.parameters[0])
    if isinstance(activation, Polynomial):
        a, b, c = activation.parameters
        return (a * s + b) * s + c
    if isinstance(activation, Identity):
        return s
    if isinstance(activation, Tanh):
        return torch.tanh(s)
    if isinstance(activation, Sigmoid):
        return torch.sigmoid(s)
    raise UnsupportedModelError(f"Bounds with gradients know no activation {activation.name!r}.")


def image(activation: Activation, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of the activation over ``[lower, upper]``, elementwise."""
    low, high = apply(activation, lower), apply(activation, upper)
    if not isinstance(activation, Polynomial):
        return low, high
    a, b, _ = activation.parameters
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    if a == 0:
        return low, high
    tip = torch.full_like(lower, -b / (2.0 * a))
    inside, value = (lower < tip) & (tip < upper), apply(activation, tip)
    return torch.where(inside, torch.minimum(low, value), low), torch.where(inside, torch.maximum(high, value), high)


@dataclass(frozen=True)
class Lines:
    """``slope s + offset`` above and below the activation on its interval; all tensors have the shape of the bounds."""

    above: tuple[Tensor, Tensor]
    below: tuple[Tensor, Tensor]


def lines_of(activation: Activation, lower: Tensor, upper: Tensor) -> Lines:
    """Lines above and below the activation on ``[lower, upper]``.

    Those of :func:`convexnn.propagation.lines.lines_of`: for ReLU and LeakyReLU the chord and the slope of the longer
    side, for polynomials the chord and its parallel tangent, for tanh and sigmoid the envelope at the middle.
    """
    if isinstance(activation, Identity):
        line = torch.ones_like(lower), torch.zeros_like(lower)
        return Lines(line, line)
    if isinstance(activation, ReLU | LeakyReLU):
        return _kinked(activation.slopes[0], lower, upper)
    if isinstance(activation, Polynomial):
        return _parabola(activation, lower, upper)
    constant = 0.0 if isinstance(activation, Tanh) else 1.0  # act(-s) = constant - act(s)
    slope, offset = _above(activation, -upper, -lower)
    return Lines(_above(activation, lower, upper), (slope, constant - offset))


def _kinked(low: float, lower: Tensor, upper: Tensor) -> Lines:
    crosses = (lower < 0) & (upper > 0)
    width = torch.where(crosses, upper - lower, torch.ones_like(lower))
    side = torch.where(upper > 0, torch.ones_like(lower), torch.full_like(lower, low))  # slope of a stable unit
    chord = torch.where(crosses, (upper - low * lower) / width, side)
    offset = torch.where(crosses, (low - chord) * lower, torch.zeros_like(lower))
    longer = torch.where(upper > -lower, torch.ones_like(lower), torch.full_like(lower, low))
    return Lines((chord, offset), (torch.where(crosses, longer, side), torch.zeros_like(lower)))


def _parabola(activation: Polynomial, lower: Tensor, upper: Tensor) -> Lines:
    a, b, c = activation.parameters
    slope = a * (lower + upper) + b
    chord, tangent = (slope, c - a * lower * upper), (slope, c - 0.25 * a * (lower + upper) ** 2)
    return Lines(chord, tangent) if a >= 0 else Lines(tangent, chord)


def _above(activation: Activation, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Line above an S-shaped activation: its concave envelope at the middle, moved up to hold where it touches."""
    width, middle = upper - lower, 0.5 * (lower + upper)
    near = width <= 1e-7 * lower.abs().clamp_min(1.0)
    rise = apply(activation, upper) - apply(activation, lower)
    chord = rise / torch.where(near, torch.ones_like(width), width)
    touch = torch.minimum(torch.where(lower < 0, _tangent_point(activation, lower), lower), upper)
    smooth = near | (middle > touch)
    steepest = torch.where(touch < upper, _derivative(activation, touch), chord)
    slope = torch.where(smooth, _derivative(activation, middle), steepest)
    points = (lower, upper, torch.where(smooth, middle, lower), touch)
    offset = torch.stack([apply(activation, s) - slope * s for s in points]).amax(0)
    return slope, offset


def _tangent_point(activation: Activation, lower: Tensor) -> Tensor:
    """The t > 0 whose tangent meets the curve at ``lower < 0``, by bisection; its derivative by that equation."""
    with torch.no_grad():
        inner, outer, start = torch.zeros_like(lower), (-lower).clamp_min(0.0), apply(activation, lower)
        for _ in range(BISECTIONS):
            t = 0.5 * (inner + outer)
            short = apply(activation, t) - start < _derivative(activation, t) * (t - lower)
            inner, outer = torch.where(short, t, inner), torch.where(short, outer, t)
        bend = _curvature(activation, outer) * (outer - lower)  # derivative in t of act'(t) (t - l) - act(t) + act(l)
        bend = torch.where(bend.abs() > torch.finfo(lower.dtype).tiny, bend, torch.ones_like(bend))
    meets = _derivative(activation, outer) * (outer - lower) - apply(activation, outer) + apply(activation, lower)
    step = meets / bend
    return outer - (step - step.detach())


def _curvature(activation: Activation, s: Tensor) -> Tensor:
    value = apply(activation, s)
    if isinstance(activation, Tanh):
        return -2.0 * value * (1.0 - value**2)
    return value * (1.0 - value) * (1.0 - 2.0 * value)


def _derivative(activation: Activation, s: Tensor) -> Tensor:
    value = apply(activation, s)
    return 1.0 - value**2 if isinstance(activation, Tanh) else value * (1.0 - value)
