"""Certified upper bounds on quadratic functions of inputs and outputs: reconstruction errors, distances from a target.

Margins are linear in the outputs; a reconstruction error ``|f(x) - x|^2`` is not, and no linear program bounds it
without a relaxation of its own. The semidefinite relaxation takes any quadratic function as its objective
(docs/theory/quadratic_specifications.md).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Identity, LeakyReLU, ReLU
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.inputs import real_or_nan, whole_number
from convexnn.network import Network, as_network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds, read_bounds
from convexnn.propagation.query import Effort, Query, Signs
from convexnn.relaxations.quadratic_attack import ascend
from convexnn.relaxations.quadratic_method import solve_rows
from convexnn.relaxations.quadratic_rows import UNIT_ROWS, Rows, rows_of
from convexnn.relaxations.quadratic_specification import QuadraticSpec
from convexnn.rigorous import gamma, max_eigenvalue, norm_up, product_up, sum_up
from convexnn.threads import one_thread
from convexnn.values import ByValue

Array = NDArray[np.float64]

#: Below this order of the matrices a second BLAS thread costs more than it brings.
SMALL = 600
#: Groups of multipliers: one number a hidden unit, except "constant", "inputs" (one an input) and "ball".
GROUPS = ("constant", *UNIT_ROWS, "signs", "inputs", "ball")


@dataclass(frozen=True, eq=False)
class QuadraticBound(ByValue):
    """``q(x) <= bound`` for every input of a set, with the multipliers that prove it.

    Attributes
    ----------
    bound : float
        Rigorous upper bound, rounding included.
    lower : float
        Largest value found at a point of the set (float64): the maximum lies between the two.
    point : array, shape (d,)
        Where ``lower`` is attained.
    spec : QuadraticSpec
    inputs : InputSet
    multiplier : mapping of str to array
        Plain arrays; any arrays of these shapes give a valid bound.
    fingerprint : str
        SHA-256 of the network.
    status : str
        Of the search for multipliers.
    iterations : int
    seconds : float
    """

    bound: float
    lower: float
    point: Array = field(repr=False)
    spec: QuadraticSpec = field(repr=False)
    inputs: InputSet = field(repr=False)
    multiplier: Mapping[str, Array] = field(repr=False)
    fingerprint: str = field(repr=False)
    status: str = "optimal"
    iterations: int = 0
    seconds: float = 0.0

    @property
    def gap(self) -> float:
        """``bound - lower``: what is not known."""
        return self.bound - self.lower

    def check(self, network: Network) -> float:
        """Recompute the bound for ``network`` from the multipliers alone.

        Raises
        ------
        CertificateError
            When the network is another one or the multipliers do not prove the bound.
        """
        if network.fingerprint() != self.fingerprint:
            raise CertificateError("The bound is about another network: the fingerprints differ.")
        found = check_quadratic(network, self.inputs, self.spec, self.multiplier)
        if not found <= self.bound + 1e-12 * abs(self.bound):
            raise CertificateError(f"The multipliers prove q <= {found:.10g}, not the claimed {self.bound:.10g}.")
        return found

    def __str__(self) -> str:
        """One line: between which numbers the maximum lies."""
        return f"{self.lower:.6g} <= max q <= {self.bound:.6g} ({self.status}, {self.iterations} iterations)"


def bound_quadratic(
    model: Any,
    inputs: InputSet,
    spec: Any,
    *,
    effort: Effort | None = None,
    bounds: LayerBounds | None = None,
    starts: int = 8,
) -> QuadraticBound:
    """Certified upper bound on ``[1, x, f(x)]' M [1, x, f(x)]`` over a set of inputs, and a lower bound beside it.

    Implements: Dathathri et al. (2020), eq. (7), quadratic specifications, by the relaxation of Raghunathan et al.
    (2018b).

    Parameters
    ----------
    model : Network or any model that ``as_network`` takes
        ReLU, LeakyReLU or identity, any number of hidden layers.
    inputs : InputSet
        ``InputSet.around(x, threat)``, ``InputSet.box(lower, upper)``; raw input units.
    spec : QuadraticSpec or array, shape (1 + d + k, 1 + d + k)
    effort : Effort, optional
        Default: relative gap 1e-5. ``stop_below`` ends the search once the bound is below it.
    bounds : LayerBounds, optional
        Better bounds on the hidden units than those of CROWN.
    starts : int, default 8
        Random starts of the ascent for ``lower``.

    Returns
    -------
    QuadraticBound

    Raises
    ------
    InvalidInputError
        For a set or a specification that does not fit the network.
    UnsupportedModelError
        For another activation.
    """
    began, network = time.perf_counter(), as_network(model)
    chosen, asked = QuadraticSpec.read(spec, network), Effort(tol=1e-5) if effort is None else effort
    _refuse(network, inputs)
    n_starts = whole_number(starts, "starts", 0)
    with np.errstate(all="ignore"):
        known = crown_bounds(_query(network, inputs, None)) if bounds is None else bounds
        rows = rows_of(network, inputs, None, known, chosen)
    if not (np.isfinite(rows.objective).all() and np.isfinite(rows.P).all() and np.isfinite(rows.Q).all()):
        raise InvalidInputError("The set of inputs is too large: the relaxation overflows.")
    with one_thread(rows.n < SMALL), np.errstate(all="ignore"):
        outcome = solve_rows(rows, asked)
        multiplier = {**known.multiplier, **_named(network, rows, outcome.y)}
        bound = check_quadratic(network, inputs, chosen, multiplier)
        xi = np.clip(outcome.moment[1 + rows.forms.m :], -1.0, 1.0)
        point, lower = ascend(network, inputs, chosen, n_starts, asked.seed, rows.chart.points(xi[None]))
    return QuadraticBound(
        bound,
        lower,
        point,
        chosen,
        inputs,
        multiplier,
        network.fingerprint(),
        outcome.status,
        outcome.iterations,
        time.perf_counter() - began,
    )


def check_quadratic(
    network: Network, inputs: InputSet, spec: QuadraticSpec, multiplier: Mapping[str, Array], signs: Signs | None = None
) -> float:
    """Rigorous upper bound on a quadratic function over a set of inputs from any multipliers.

    ``q(x) = a'Oa <= b'y + slack'|y| + delta |a|^2`` with ``delta = lambda_max^+(O - sum_k y_k A_k)``.

    Implements: convexnn, Proposition 1 of docs/theory/quadratic_specifications.md.

    Parameters
    ----------
    network : Network
    inputs : InputSet
    spec : QuadraticSpec
    multiplier : mapping of str to array
        The groups ``GROUPS`` (missing ones count as zero) and evidence for bounds on the hidden units ("bounds/...").
        Negative multipliers of inequalities count as zero.
    signs : tuple of int8 arrays, optional
        Restrict the set as in a Query.

    Returns
    -------
    float
        ``inf`` where nothing is proved; ``-inf`` where no input has the signs.

    Raises
    ------
    CertificateError
        For groups of another shape.
    """
    known = read_bounds(_query(network, inputs, signs), multiplier)
    if known.empty:
        return -np.inf
    with np.errstate(all="ignore"):
        rows = rows_of(network, inputs, signs, known, spec)
        y = _flat(network, rows, multiplier)
        if not all(np.isfinite(part).all() for part in (y, rows.objective, rows.P, rows.Q, rows.slack)):
            return np.inf
        y = np.where(rows.free, y, np.maximum(y, 0.0))
        return _proved(rows, y)


def _proved(rows: Rows, y: Array) -> float:
    """The bound of clipped multipliers, rounded up."""
    Z = rows.combine(y) - rows.objective
    size = rows.absolute(y) + np.abs(rows.objective)
    error = norm_up(2.0 * gamma(len(y) + 16) * size + rows.objective_error + np.finfo(float).tiny * len(y))
    negative = max(max_eigenvalue(-Z, error), 0.0)
    terms = rows.level * y
    total = sum_up([sum_up(terms), 4.0 * gamma(4) * sum_up(np.abs(terms)), rows.objective_slack])
    spread = sum_up(rows.slack * np.abs(y)) * (1.0 + 1e-9)
    repair = product_up(negative, rows.square * (1.0 + 1e-9)) if negative > 0 else 0.0
    return sum_up([total, spread, repair])


def _refuse(network: Network, inputs: InputSet) -> None:
    if not isinstance(network.activation, (ReLU, LeakyReLU, Identity)):
        raise UnsupportedModelError(
            f"Quadratic specifications need ReLU, LeakyReLU or identity units, not {network.activation.name}."
        )
    if not isinstance(inputs, InputSet):
        raise InvalidInputError(
            f"inputs must be an InputSet, e.g. InputSet.around(x, threat), got {type(inputs).__name__}."
        )
    if len(inputs.centre) != network.n_inputs:
        raise InvalidInputError(f"The set has {len(inputs.centre)} inputs, the network {network.n_inputs}.")


def _query(network: Network, inputs: InputSet, signs: Signs | None) -> Query:
    return Query(network, inputs, np.zeros((1, network.n_outputs)), np.zeros(1), signs)


def _shapes(network: Network) -> dict[str, int]:
    total = sum(network.n_hidden)
    return {"constant": 1, "inputs": network.n_inputs, "ball": 1, "signs": total, **dict.fromkeys(UNIT_ROWS, total)}


def _places(network: Network, rows: Rows) -> dict[str, NDArray[np.intp]]:
    """Where the numbers of every group stand among all hidden units, or all inputs."""
    offsets = np.concatenate([[0], np.cumsum(network.n_hidden)])
    units = offsets[rows.forms.layer] + rows.forms.unit
    places = dict.fromkeys(UNIT_ROWS, units)
    at = dict(rows.names)
    signs = np.arange(at["signs"].stop - at["signs"].start)
    inputs = rows.chart.kept[: at["inputs"].stop - at["inputs"].start]
    ball = np.arange(at["ball"].stop - at["ball"].start)
    return {**places, "constant": np.arange(1), "signs": signs, "inputs": inputs, "ball": ball}


def _named(network: Network, rows: Rows, y: Array) -> dict[str, Array]:
    """Multipliers by group, zero for stable units: their shapes do not depend on the bounds."""
    places, sizes, found = _places(network, rows), _shapes(network), {}
    for name, at in rows.names:
        found[name] = np.zeros(sizes[name])
        found[name][places[name]] = y[at]
    return found


def _flat(network: Network, rows: Rows, multiplier: Mapping[str, Array]) -> Array:
    places, sizes = _places(network, rows), _shapes(network)
    y = np.zeros(len(rows.level))
    for name, at in rows.names:
        if name not in multiplier:
            continue
        given = real_or_nan(multiplier[name])
        if given.shape != (sizes[name],):
            raise CertificateError(f"The multiplier {name!r} has shape {given.shape}, expected ({sizes[name]},).")
        y[at] = given[places[name]]
    return y
