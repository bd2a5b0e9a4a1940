"""Certified bounds of all margins of a shallow network from multipliers: what training with a penalty publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convexnn.lipsdp import multiplier_from_factor, stack_rounded, upper_bound, upper_bound_linf
from convexnn.lipsdp.linf import multipliers_linf
from convexnn.lipsdp.max_cut import upper_bound_max_cut
from convexnn.lipsdp.stacking import Stack
from convexnn.network import Network
from convexnn.rigorous import UNIT, ldexp_up, product_up, row_norms_up, sum_up

Array = NDArray[np.float64]

TINY = 1e-290


@dataclass(frozen=True)
class ClassPairs:
    """The pairs ``a < b`` of classes of a network with k outputs; one output stands for ``f_1 - f_0``.

    Attributes
    ----------
    n_outputs : int
    single : bool
        No classes: every output on its own, as a "pair" of itself.
    """

    n_outputs: int
    single: bool = False

    @cached_property
    def members(self) -> NDArray[np.intp]:
        """Classes (a, b) of every pair, shape (P, 2)."""
        if self.single:
            return np.repeat(np.arange(self.n_outputs)[:, None], 2, axis=1)
        first, second = np.triu_indices(max(self.n_outputs, 2), 1)
        return np.stack([first, second], axis=1)

    @cached_property
    def differences(self) -> Array:
        """Coefficients of the outputs in the margin of every pair, shape (P, k)."""
        units = np.eye(self.n_outputs)
        if self.single or self.n_outputs == 1:
            return units
        return np.asarray(units[self.members[:, 0]] - units[self.members[:, 1]])

    def matrix(self, bounds: Array) -> Array:
        """Bounds of the pairs (P,) as a symmetric table (k, k), zero diagonal; (1, 1) with one output."""
        if self.n_outputs == 1:
            return np.asarray(bounds).reshape(1, 1)
        table = np.zeros((self.n_outputs, self.n_outputs))
        a, b = self.members.T
        table[a, b] = table[b, a] = bounds
        return table

    def rows(self, network: Network) -> list[Stack]:
        """The rows of every margin with their rounding errors, the rounding of ``v_a - v_b`` left aside."""
        slopes = network.activation.slopes
        return [stack_rounded(network.W, a, slopes) for a in self.differences @ network.layers[-1][0]]


def margin_bounds(
    network: Network, multiplier: Mapping[str, Array], norm: float = np.inf, pairs: ClassPairs | None = None
) -> Array:
    """Rigorous upper bounds on the Lipschitz constants of all margins ``f_a - f_b`` from any multipliers.

    Implements: convexnn, Propositions 2 and 7 of docs/theory/lipsdp.md, pair by pair, from given multipliers.

    Parameters
    ----------
    network : Network
        One hidden layer, slopes of the activation bounded.
    multiplier : mapping of str to array
        "q" (P, m + 1) of the rows, and for norm inf "y" (P, d) of the inputs; or, for norm inf, "cut" (P, d + m + 1),
        the vectors of eq. (15) of the paper. Need not be optimal; pairs in the order of :class:`ClassPairs`.
    norm : {2, inf}
        Of the inputs.
    pairs : ClassPairs, optional
        By default all pairs of classes.

    Returns
    -------
    array, shape (P,)
        ``inf`` where the multipliers prove nothing.
    """
    pairs = ClassPairs(network.n_outputs) if pairs is None else pairs
    found = np.full(len(pairs.members), np.inf)
    arrays = {name: np.atleast_2d(np.asarray(part, dtype=np.float64)) for name, part in multiplier.items()}
    extra = _rounding(network, pairs, norm)
    for p, rows in enumerate(pairs.rows(network)):
        own = {name: part[p] for name, part in arrays.items() if p < len(part)}
        if "cut" in own and norm != 2:
            bound = upper_bound_max_cut(rows.B, own["cut"], rows.error)
        elif "q" in own and norm == 2:
            bound = upper_bound(rows.B, own["q"], rows.error)
        elif "q" in own and "y" in own:
            bound = upper_bound_linf(rows.B, own["q"], own["y"], rows.error)
        else:
            continue
        found[p] = np.nextafter(ldexp_up(bound, rows.exponent) + extra[p], np.inf)
    return found


def _rounding(network: Network, pairs: ClassPairs, norm: float) -> Array:
    """What the rounding of ``v_a - v_b`` may add to every bound."""
    W, V = network.W, network.layers[-1][0]
    if network.n_outputs == 1 or pairs.single:
        return np.zeros(network.n_outputs)
    sizes = row_norms_up(W) if norm == 2 else np.array([sum_up(np.abs(row)) for row in W])
    largest = np.abs(pairs.differences) @ np.abs(V)
    steepest = max(abs(slope) for slope in network.activation.slopes)
    return np.array(
        [product_up(2.0 * UNIT, sum_up(row * sizes), max(steepest, 1.0) * (1.0 + 8.0 * UNIT)) for row in largest]
    )


def multiplier_of(rows: list[Stack], factors: Array, norm: float = np.inf) -> dict[str, Array]:
    """Multipliers of :func:`margin_bounds` that are optimal where the factors are.

    Parameters
    ----------
    rows : list of Stack
        Of :meth:`ClassPairs.rows`.
    factors : array, shape (P, d, r)
        Theta' of every pair: rows of length one (linf) or unit Frobenius norm (l2).
    norm : {2, inf}
    """
    parts = [multiplier_of_rows(own, S, norm) for own, S in zip(rows, factors, strict=True)]
    return {name: np.array([part[name] for part in parts]) for name in parts[0]}


def multiplier_of_rows(rows: Stack, S: Array, norm: float = np.inf) -> dict[str, Array]:
    """Multipliers "q" (and "y" for norm inf) of one pair from its factor (d, r)."""
    if norm == 2:
        return {"q": multiplier_from_factor(rows.B, S, rows.error)}
    weights, inputs, _ = multipliers_linf(rows.B, S.T)
    share = (rows.error / (rows.error.sum() + np.linalg.norm(rows.B) + TINY)) ** (2.0 / 3.0) * weights.sum()
    return {"q": np.maximum(weights, share), "y": inputs}
