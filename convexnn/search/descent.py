"""Descent on the training objective itself, across the boundaries of cells: it proposes networks, hence patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from convexnn.lipsdp import gradient, maximize, stack
from convexnn.lipsdp.ascent import ascend
from convexnn.losses import get_loss
from convexnn.network import Network
from convexnn.search.task import SearchTask

Array = NDArray[np.float64]

#: Relative gap of LipSDP during a descent, and how often it is computed to that gap.
LIPSDP_TOL, EXACT_EVERY = 1e-7, 20


@dataclass(eq=False)
class _Objective:
    """Value and gradient at ``(W, b, v)``, inputs centred and scaled to size one, the output bias minimized out.

    For ReLU units W scaled up and v scaled down is the same network, so the scale of the inputs is put into W.
    """

    task: SearchTask
    units: int

    def __post_init__(self) -> None:
        rows, target = self.task.rows, self.task.objective
        mean = rows.weight @ rows.X
        self.origin = np.zeros(rows.X.shape[1]) if target.regularizer == "l2" else mean
        size = float(np.sqrt(rows.weight @ ((rows.X - mean) ** 2).sum(axis=1)))
        self.scale = size if target.regularizer == "lipschitz" and size > 0 else 1.0
        self.X = (rows.X - self.origin) / self.scale
        self.loss = get_loss(target.loss)
        self.y = rows.y if self.loss.binary else rows.y - rows.weight @ rows.y
        variance = float(rows.weight @ self.y**2)
        self.unit = variance if variance > 1e-16 * float(rows.weight @ rows.y**2) else 1.0
        self.factor: Array | None = None
        self.calls = 0

    def pack(self, network: Network) -> Array:
        """Variables of a network, hidden and outer weights of a unit balanced."""
        W, b = network.W * self.scale, network.b + network.W @ self.origin
        inner, outer = np.sqrt((W**2).sum(axis=1) + b**2), np.abs(network.v)
        factor = np.sqrt(np.divide(outer, inner, out=np.ones_like(inner), where=(inner > 0) & (outer > 0)))
        return np.concatenate([(W * factor[:, None]).ravel(), b * factor, network.v / factor])

    def split(self, z: Array) -> tuple[Array, Array, Array]:
        """Hidden weights, hidden biases and outer weights."""
        size = self.units * self.X.shape[1]
        return z[:size].reshape(self.units, -1), z[size : size + self.units], z[size + self.units :]

    def unpack(self, z: Array) -> Network:
        """Network of the variables with its best output bias."""
        W, b, v = self.split(z)
        rows = self.task.rows
        active = np.maximum(self.X @ W.T + b, 0.0)
        c = self.loss.best_constant(active @ v, rows.y, rows.weight)
        W = W / self.scale
        return Network.shallow(W, b - W @ self.origin, v, c)

    def value(self, z: Array) -> tuple[float, Array]:
        """Objective without its constant, and gradient, in units of the targets' variance."""
        if not np.isfinite(z).all():
            return np.inf, np.zeros_like(z)  # a line search that went too far
        W, b, v = self.split(z)
        weight = self.task.rows.weight
        inner = self.X @ W.T + b
        active = np.maximum(inner, 0.0)
        f = active @ v
        f = f + self.loss.best_constant(f, self.y, weight)
        slope = weight * self.loss.gradient(f, self.y)
        back = (inner > 0) * slope[:, None] * v
        penalty, dW, db, dv = self._penalty(W, b, v)
        parts = [(back.T @ self.X + dW).ravel(), back.sum(axis=0) + db, active.T @ slope + dv]
        loss = float(weight @ self.loss.value(f, self.y))
        return (loss + penalty) / self.unit, np.concatenate(parts) / self.unit

    def _penalty(self, W: Array, b: Array, v: Array) -> tuple[float, Array, Array, Array]:
        lam = self.task.objective.lam
        if self.task.objective.regularizer == "l2":
            return lam * float((W**2).sum() + b @ b + v @ v), 2 * lam * W, 2 * lam * b, 2 * lam * v
        raw = W / self.scale
        L = self._lipsdp(stack(raw, v))
        assert self.factor is not None
        dW, dv = gradient(raw, v, self.factor)
        return lam * L**2, 2 * lam * L * dW / self.scale, np.zeros_like(b), 2 * lam * L * dv

    def _lipsdp(self, B: Array) -> float:
        """LipSDP of rows B, exactly now and then; in between the warm factor climbs to a nearly tight lower bound."""
        if self.factor is None or self.calls % EXACT_EVERY == 0 or not B.any():
            found = maximize(B, tol=LIPSDP_TOL, start=self.factor)
            self.factor, L = found.factor, found.upper
        else:
            point, _ = ascend(B, self.factor, 1e-6, 20)
            size = float(np.linalg.norm(point.S))
            self.factor, L = point.S / size, 0.5 * float(point.y.sum()) / size
        self.calls += 1
        return L


def descend(task: SearchTask, network: Network, steps: int) -> Network:
    """Network after at most ``steps`` steps of L-BFGS on the training objective; stops when the time is over.

    For ``"lipschitz"`` with the exact gradient of LipSDP (docs/theory/lipsdp.md, Proposition 4). ReLU kinks make this a
    heuristic; the accept test of the search judges what comes out.
    """
    objective = _Objective(task, len(network.v))

    def stop_in_time(xk: Array) -> None:  # noqa: ARG001
        if task.expired:
            raise StopIteration

    found = minimize(
        objective.value,
        objective.pack(network),
        jac=True,
        method="L-BFGS-B",
        callback=stop_in_time,
        options={"maxiter": steps, "maxfun": 2 * steps + 20, "maxcor": 10, "ftol": 1e-13, "gtol": 1e-10},
    )
    return objective.unpack(found.x) if np.isfinite(found.x).all() else network


def disturbed(task: SearchTask, network: Network, size: float, rng: np.random.Generator) -> Network:
    """Network with Gaussian noise on every hidden unit, ``size`` relative to the unit's own length."""
    objective = _Objective(task, len(network.v))
    W, b, v = objective.split(objective.pack(network))
    units = np.column_stack([W, b])
    length = np.linalg.norm(units, axis=1, keepdims=True) / np.sqrt(units.shape[1])
    units = units + size * length * rng.standard_normal(units.shape)
    return objective.unpack(np.concatenate([units[:, :-1].ravel(), units[:, -1], v]))
