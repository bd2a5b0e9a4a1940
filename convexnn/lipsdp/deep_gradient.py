"""Value and gradient of LipSDP with several hidden layers, for training: Danskin's theorem on the matrix inequality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.lipsdp.deep import Path, normalized_layers, paths_of_weights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DeepValue:
    """LipSDP of a deep network and its derivatives.

    Attributes
    ----------
    value : float
        LipSDP (l2 to l2) to the relative tolerance of the path; float64, not rounded upward.
    gradients : tuple of arrays
        Derivatives in W_0, ..., W_H, shapes of the weights. Units without a path of nonzero weights from an input to an
        output get zero.
    t : array, shape (units,)
        Multipliers of the units on such paths, well inside of the cone: from these a nearby problem starts.
    iterations : int
        Newton steps.
    """

    value: float
    gradients: tuple[Array, ...]
    t: Array
    iterations: int


def value_and_gradient(
    weights: Sequence[Array],
    slopes: tuple[float, float] = (0.0, 1.0),
    tol: float = 1e-8,
    start: Array | None = None,
    max_iter: int = 150,
) -> DeepValue:
    """LipSDP of weights W_0 (h_1, d), ..., W_H (k, h_H) and its gradient in all of them.

    ``L^2 = min {s : M(s, t; W) >= 0}`` has the multiplier Y with ``tr Y_00 = 1``, and by the envelope theorem
    ``dL^2 = -<Y, dM>`` at fixed s, t and Y. At a point of the central path Y is ``mu M^{-1}``, so the derivative is
    that of the barrier problem, whose value is within ``2 tol`` of L^2.

    Implements: convexnn, Proposition 4 of docs/theory/deep.md (Danskin), with several hidden layers.

    Parameters
    ----------
    weights : sequence of arrays
        Finite.
    slopes : pair of float
        Of the activation.
    tol : float
        Relative gap of the path.
    start : array, shape (units,), optional
        ``DeepValue.t`` of a nearby problem; ignored where it does not fit.
    max_iter : int
        Newton steps.
    """
    layers, exponent = normalized_layers(weights)
    shapes = [W.shape for W in weights]
    units = paths_of_weights(layers)
    if units is None or slopes[1] <= 0.0:
        return DeepValue(0.0, tuple(np.zeros(shape) for shape in shapes), np.zeros(0), 0)
    kept = [W[np.ix_(rows, columns)] for W, rows, columns in zip(layers, units[1:], units[:-1], strict=True)]
    norms = [float(np.linalg.norm(W, 2)) for W in kept]
    scaled = [W / norm for W, norm in zip(kept, norms, strict=True)]
    path = Path(scaled, slopes)
    if start is not None and start.shape == path.t.shape and np.isfinite(start).all() and (start > 0.0).all():
        path.restart(start)
    path.follow(tol, max_iter)
    if start is not None and not path.closed:  # the start was none: again without it
        path = Path(scaled, slopes)
        path.follow(tol, max_iter)
    interior = path.t if path.interior is None else path.interior
    Y = _dual(path, tol)
    root = math.sqrt(path.s)
    found = []
    for k, part in enumerate(_derivatives(path, Y, scaled, slopes)):
        full = np.zeros(shapes[k])
        # L = 2^e prod(norms) sqrt(s), W_k = norm_k 2^{e_k} scaled_k
        others = math.prod(norm for j, norm in enumerate(norms) if j != k)
        own = math.frexp(float(np.max(np.abs(weights[k]), initial=0.0)))[1]
        full[np.ix_(units[k + 1], units[k])] = np.ldexp(part * (0.5 * others / root), exponent - own)
        found.append(full)
    value = float(np.ldexp(root * math.prod(norms), exponent))
    return DeepValue(value, tuple(found), interior.copy(), path.iterations)


def _dual(path: Path, tol: float) -> Array:
    """Multiplier at the centre of the gap ``tol``, or of a wider gap where rounding does not let it be computed."""
    for gap in (tol, 1e2 * tol, 1e4 * tol):
        path.centre(gap)
        try:
            return path.dual()
        except np.linalg.LinAlgError:
            continue
    values, vectors = np.linalg.eigh(path.matrix(path.s, path.t))
    Y: Array = (vectors / np.maximum(values, 1e-13 * values[-1])) @ vectors.T
    return Y / float(np.trace(Y[: path.d, : path.d]))


def _derivatives(path: Path, Y: Array, scaled: list[Array], slopes: tuple[float, float]) -> list[Array]:
    """Derivatives of s in the layers of norm one: ``-<Y, dM>`` with M of :mod:`convexnn.lipsdp.deep`."""
    low, high = slopes
    first = scaled[0]
    basis = np.linalg.qr(first.T)[0] if first.shape[1] > len(first) else np.eye(first.shape[1])
    found = []
    row, column = 0, 0
    for k, W in enumerate(scaled[:-1]):
        below, units = (path.d if k == 0 else W.shape[1]), len(W)
        columns = slice(column, column + units)
        pull = high * path.P[:, columns] + low * path.Q[:, columns]
        part = 2.0 * path.t[columns, None] * (pull.T @ Y[:, row : row + below])
        found.append(part @ basis.T if k == 0 else part)
        row, column = row + below, column + units
    last = scaled[-1]
    found.append(2.0 * last @ Y[-last.shape[1] :, -last.shape[1] :])
    return found
