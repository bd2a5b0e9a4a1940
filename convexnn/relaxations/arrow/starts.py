"""Starting points of the interior point method: multipliers layer by layer, moments of true states of the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.relaxations.arrow.factors import NotPositiveError, Primal, Slack, cholesky, solve_lower
from convexnn.relaxations.arrow.problem import ArrowProblem, Relaxation

Array = NDArray[np.float64]
#: Typical multiplier of the rows with a sign, as a share of the largest objective coefficient.
FLOOR_SHARE = 0.2
#: The same for a product of two units, as a share of that.
PAIR_SHARE = 0.05
#: Slack of t at a cold start and at a warm one, as shares of the bound.
COLD_SLACK, WARM_SLACK = 0.2, 0.1
#: Shrinking of the sampled moments toward their diagonal, so that X is well inside the cone.
MIXING = 0.1
DOUBLINGS = 200


def dual_start(problem: ArrowProblem) -> Array | None:
    """Strictly feasible multipliers (y, nu), or None when none was found.

    Layers are eliminated from the output down: F is the quadratic form that the eliminated units leave on the lower
    variables, and the multiplier of ``z r = 0`` of a layer is twice what is needed to absorb it; then nu likewise.
    """
    relaxation = problem.relaxation
    size = np.abs(problem.objective[1 : relaxation.p])
    floor = FLOOR_SHARE * max(float(size.max(initial=0.0)), 1e-3 * problem.unit)
    try:
        zero, left = _layer_multipliers(problem, size, floor)
    except NotPositiveError:  # numbers that overflow or vanish
        return None
    v = np.where(relaxation.positive, floor, 0.0)
    v[relaxation.pairs] *= PAIR_SHARE
    v[relaxation.group("zero")] = -2.0 * zero  # rows are z r = z s - z z: the square enters with the other sign
    v[0] = 0.0
    shape = _input_multipliers(problem, left)
    v[relaxation.n_rows :] = shape
    if relaxation.chart.is_clipped:
        v[relaxation.n_rows - 1] = 0.5 * shape.sum() / max(relaxation.chart.level, 1e-2)
    for _ in range(DOUBLINGS):
        try:
            return _with_t(problem, v, COLD_SLACK, 0.1)
        except NotPositiveError:
            v[relaxation.n_rows :] *= 2.0
    return None


def _with_t(problem: ArrowProblem, v: Array, share: float, least: float) -> Array:
    """The multipliers with t strictly inside."""
    v = v.copy()
    v[0] = 0.0
    spare = Slack.at(problem, v).spare()
    rest = float(problem.relaxation.cost[1:] @ v[1:])
    v[0] = -spare + max(share * abs(rest - spare), least * problem.unit)
    return v


def _layer_multipliers(problem: ArrowProblem, size: Array, floor: float) -> tuple[Array, Array]:
    """Multipliers of ``z (z - s) = 0`` and a factor (rows, d) of the form they leave on the inputs."""
    relaxation = problem.relaxation
    m, d, layer = relaxation.m, relaxation.d, relaxation.forms.layer
    forms = relaxation.forms.units[:, 1:]
    size = size.copy()
    on_units, mixed, on_inputs, found = np.zeros((m, m)), np.zeros((m, d)), [np.zeros((0, d))], np.zeros(m)
    for k in reversed(range(int(layer.max(initial=-1)) + 1)):
        own, low = np.flatnonzero(layer == k), np.flatnonzero(layer < k)
        if not len(own):
            continue
        T = on_units[np.ix_(own, own)]
        shape = np.sqrt(np.maximum(T.diagonal(), 0.0))
        shape = shape + 1e-6 * shape.max() + 1e-12 * problem.unit
        top = np.linalg.eigvalsh(T / np.sqrt(shape) / np.sqrt(shape)[:, None])[-1]
        found[own] = size[own] + floor + 2.0 * max(top, 0.0) * shape
        R = -0.5 * found[own, None] * forms[own]
        R[:, :m] -= on_units[own]
        R[:, m:] -= mixed[own]
        kept = np.ascontiguousarray(np.hstack([R[:, low], R[:, m:]]))
        R = solve_lower(cholesky(np.diag(found[own]) - T), kept)
        units, inputs = R[:, : len(low)], R[:, len(low) :]
        on_units[np.ix_(low, low)] += units.T @ units
        mixed[low] += units.T @ inputs
        on_inputs.append(inputs)
        if len(low):
            size[low] += 0.5 * size[own] @ np.abs(forms[np.ix_(own, low)]) / np.sqrt(len(own))
    return found, np.vstack(on_inputs)


def _input_multipliers(problem: ArrowProblem, left: Array) -> Array:
    """Nu that absorbs the form ``left' left`` with a factor two to spare, and the linear part of the objective."""
    relaxation = problem.relaxation
    linear = problem.objective[relaxation.p :]
    if relaxation.chart.is_ball:
        shape, reach = np.ones(1), np.array([np.linalg.norm(linear)])
    else:
        shape, reach = np.sqrt((left**2).sum(axis=0)), np.abs(linear)
    shape = shape + 0.05 * shape.mean() + 1e-9 * problem.unit
    top = np.linalg.eigvalsh((left / shape) @ left.T)[-1] if len(left) else 0.0
    return shape * max(2.0 * top, 1e-6) + 0.5 * reach + 1e-9 * problem.unit


def primal_start(relaxation: Relaxation, seed: int) -> Primal:
    """Second moment of true states ``(1, z, xi)`` at random points, shrunk toward its diagonal: nearly feasible.

    Half of each direction is a random combination of about three rows of the network, so that units switch.
    """
    p, chart = relaxation.p, relaxation.chart
    rng = np.random.default_rng(seed)
    xi = _random_inputs(relaxation, rng, 3 * p + 20)
    n = len(xi)
    states = np.zeros((n, p))
    states[:, 0] = 1.0
    forms = relaxation.forms
    values = xi @ forms.units[:, p:].T + forms.units[:, 0]
    for k in range(int(forms.layer.max(initial=-1)) + 1):
        own = np.flatnonzero(forms.layer == k)
        states[:, 1 + own] = np.maximum(values[:, own] + states[:, 1:] @ forms.units[own, 1:p].T, 0.0)
    shrink = np.full(p, 1.0 - MIXING)
    shrink[0] = 1.0
    Xhh = states.T @ states / n
    diagonal = Xhh.diagonal().copy()
    Xhh *= shrink * shrink[:, None]
    index = np.arange(1, p)
    Xhh[index, index] += MIXING * np.maximum(diagonal[1:], 0.1)
    Xx = (xi.T @ states / n) * shrink * (1.0 - MIXING)
    Xd = np.einsum("ij,ij->j", xi, xi) / n
    if chart.is_clipped:
        Xd = np.maximum(Xd, 1e-3)
    slack = relaxation.cost - relaxation.adjoint_of(Xhh, Xx, Xd)
    return Primal(Xhh, Xx, Xd, np.where(relaxation.positive, np.maximum(slack, 0.05), 0.0))


def _random_inputs(relaxation: Relaxation, rng: np.random.Generator, n: int) -> Array:
    """Coordinates xi (n, d) of points of the set, most of them extreme."""
    m, d, chart = relaxation.m, relaxation.d, relaxation.chart
    ways = rng.standard_normal((n, d))
    if m:
        chosen = rng.standard_normal((n, m)) * (rng.random((n, m)) < 3.0 / m)
        ways = _unit_rows(ways) + _unit_rows(chosen @ relaxation.W[:m])
    if chart.is_ball:
        return _unit_rows(ways)
    corners = np.sign(ways)
    if not chart.is_clipped:
        return corners
    squared = (chart.curvature * corners**2).sum(axis=1) + 2.0 * np.abs(corners * chart.tilt).sum(axis=1)
    return corners * np.minimum(1.0, np.sqrt(max(chart.level, 0.0) / np.maximum(squared, 1e-300)))[:, None]


def _unit_rows(A: Array) -> Array:
    return A / (np.linalg.norm(A, axis=1, keepdims=True) + 1e-9)


def moved_to(problem: ArrowProblem, v: Array) -> Array | None:
    """Multipliers of another row of the same query, with t made feasible again; None when they cannot be."""
    try:
        return _with_t(problem, v, WARM_SLACK, 0.05)
    except NotPositiveError:
        return None
