"""Certified upper bounds on the Lipschitz constant of a network: LipSDP, the product of norms, margin pairs.

Every method proposes a multiplier; its check recomputes the bound from the network and the multiplier with rounding
upward. Biases never enter: they do not change a Lipschitz constant. Multipliers that couple neurons (``E diag(zeta)
E'`` in some published code) do not give valid bounds, so T is diagonal everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import ReLU
from convexnn.certificate import Certificate, register_check
from convexnn.certificates.deep_lipschitz import (
    check_deep_lipsdp,
    default_deep_method,
    estimate_deep_lipsdp,
    propose_deep_lipsdp,
)
from convexnn.certificates.lipschitz_lmi import lmi_multiplier
from convexnn.certificates.max_gradient import check_max_gradient, propose_max_gradient
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.inputs import is_one_of, positive_number
from convexnn.lipsdp import (
    maximize,
    maximize_vector,
    multiplier_from_factor,
    multiplier_from_t,
    multiplier_from_t_vector,
    stack_rounded,
    upper_bound,
    upper_bound_vector,
)
from convexnn.lipsdp.pairs import certified_pairs
from convexnn.network import Network, as_network
from convexnn.rigorous import UNIT, ldexp_up, product_up, row_norms_up, spectral_norm_up, sum_up

Array = NDArray[np.float64]
Multiplier = dict[str, Array]
#: Gap of the linf bounds of pairs.
PAIRS_GAP_LINF = 1e-4
METHODS = {2: ("lipsdp", "lmi", "deep_lipsdp", "product"), np.inf: ("max_gradient", "product")}


def lipschitz(
    network: Any, *, norm: float = 2, method: str | None = None, tol: float = 1e-8, solver: str = "auto"
) -> Certificate:
    """Certified upper bound on the Lipschitz constant of a network, raw input units.

        ||f(x) - f(y)|| <= bound ||x - y||   for all x, y, in the norm asked for on both sides.

    Parameters
    ----------
    network : Network or model
        Anything `as_network` takes.
    norm : {2, inf}, default 2
        Norm of inputs and outputs.
    method : {"lipsdp", "lmi", "deep_lipsdp", "product", "max_gradient"}, optional
        Default: "lipsdp" for norm 2 and "max_gradient" for norm inf on one hidden layer; for deeper networks
        "deep_lipsdp" for norm 2 up to 160 inputs and hidden units together, else "product".
        "lipsdp" solves LipSDP by its small concave form; "lmi" solves the matrix inequality of the paper by cvxpy and
        repairs its multiplier; "deep_lipsdp" is LipSDP for any depth by a barrier method; "product" multiplies the
        norms of the layers (any depth).
    tol : float, default 1e-8
        Relative gap between the bound and the value of LipSDP (or of the max-gradient program) to reach.
    solver : str, default "auto"
        Solver of cvxpy for ``method="lmi"``: "auto", "clarabel", "scs", ...

    Returns
    -------
    certificate : Certificate
        ``bound`` is valid whatever happened before it was recomputed; ``lower`` is the value of the relaxation, which
        no multiplier of this method can beat. It is NOT a lower bound on the Lipschitz constant: see
        `lipschitz_lower_bound`.

    Raises
    ------
    UnsupportedModelError
        When the activation has unbounded slopes, or a deep network is given to a method for one hidden layer.
    """
    network = as_network(network)
    if not is_one_of(norm, METHODS):
        raise InvalidInputError(f"norm must be 2 or inf, got {norm!r}.")
    tol = positive_number(tol, "tol")
    deep = default_deep_method(network) if norm == 2 else "product"
    method = method or (METHODS[norm][0] if network.is_shallow else deep)
    if method not in METHODS[norm]:
        raise InvalidInputError(f"With norm={norm} the methods are {METHODS[norm]}, got {method!r}.")
    slopes_of(network)
    if method not in ("product", "deep_lipsdp"):
        _require_shallow(network, method)
    name = f"{method}_{'linf' if norm == np.inf else 'l2'}" if method == "product" else method
    multiplier, lower, details = _PROPOSALS[name](network, tol, solver)
    bound = _CHECKS[name](network, multiplier)
    return Certificate(
        quantity="lipschitz",
        bound=bound,
        slack=max(0.0, bound - _estimate(name, network, multiplier)) if math.isfinite(bound) else math.inf,
        threat="linf" if norm == np.inf else "l2",
        method="lipsdp" if method == "lmi" else name,
        multiplier=multiplier,
        fingerprint=network.fingerprint(),
        lower=min(lower, bound),
        details={"lower_is": "value of the relaxation, not of the network", "proposed_by": method, **details},
    )


def lipschitz_pairs(network: Any, *, norm: float = 2, method: str | None = None, tol: float | None = None) -> Array:
    """Certified Lipschitz bounds of all margins ``f_a - f_b``.

    A sample with ``f_a - f_b = margin`` keeps that sign within the radius ``margin / L[a, b]``.

    Implements: convexnn, Corollary 6 of docs/theory/lipsdp.md.

    Parameters
    ----------
    network : Network or model
        With k >= 2 outputs.
    norm : {2, inf}, default 2
        Norm of the inputs, in which the radius is measured.
    method : {"lipsdp", "lmi", "deep_lipsdp", "product", "max_gradient"}, optional
        As in `lipschitz`.
    tol : float, optional
        Relative gap to the value of the relaxation; default 1e-8, for norm inf 1e-4, which power steps on all pairs of
        a shallow ReLU network at once reach a hundred times sooner. Bounds are valid whatever the gap.

    Returns
    -------
    L : array, shape (k, k)
        Upper bounds, symmetric, zero diagonal; the rounding of ``V[a] - V[b]`` is covered.
    """
    network = as_network(network)
    if network.n_outputs < 2:
        raise InvalidInputError("Margin pairs need at least two outputs; this network has one. Use lipschitz(network).")
    if not is_one_of(norm, METHODS):
        raise InvalidInputError(f"norm must be 2 or inf, got {norm!r}.")
    chosen = (PAIRS_GAP_LINF if norm == np.inf else 1e-8) if tol is None else positive_number(tol, "tol")
    pairs = [(a, b) for a in range(network.n_outputs) for b in range(a)]
    margins = [network.margin(a, b) for a, b in pairs]
    if norm == np.inf and method in (None, "max_gradient") and network.is_shallow and network.activation == ReLU():
        outer = np.array([margin.layers[-1][0][0] for margin in margins])
        bounds = certified_pairs(network.W, outer, norm, tol=chosen).upper.tolist()
    else:
        bounds = [lipschitz(margin, norm=norm, method=method, tol=chosen).bound for margin in margins]
    L, body = np.zeros((network.n_outputs, network.n_outputs)), _body_norm(network, norm)
    for (a, b), margin, bound in zip(pairs, margins, bounds, strict=True):
        rounding = product_up(2.0 * UNIT, body, sum_up(np.abs(margin.layers[-1][0])))
        L[a, b] = L[b, a] = math.nextafter(bound + rounding, math.inf)
    return L


def check_lipsdp(network: Network, multiplier: Mapping[str, Array]) -> float:
    """Rigorous upper bound (l2) on the Lipschitz constant from any multiplier of LipSDP.

    Implements: Fazlyab et al. (2019), LipSDP-Neuron, one hidden layer, diagonal T, as in docs/theory/lipsdp.md.

    Parameters
    ----------
    network : Network
        One hidden layer, any number of outputs, any activation with bounded slopes.
    multiplier : mapping of str to array
        One of {"q": simplex multiplier (m + 1,), or (m,) with several outputs}, {"t": diagonal of T (m,)},
        {"S": factor (d, r)} (one output). Need not be optimal.

    Returns
    -------
    bound : float
        Valid for every multiplier; ``inf`` when it proves nothing.
    """
    W, _ = network.layers[0]
    V, slopes = network.layers[1][0], slopes_of(network)
    if network.n_outputs > 1:
        t = multiplier.get("t")
        q = multiplier.get("q", np.nan) if t is None else multiplier_from_t_vector(W, V, t, slopes)
        return upper_bound_vector(W, V, q, slopes)
    rows = stack_rounded(W, V[0], slopes)
    if "S" in multiplier:
        q = multiplier_from_factor(rows.B, multiplier["S"], rows.error)
    else:
        q = multiplier_from_t(V[0], multiplier["t"]) if "t" in multiplier else multiplier.get("q", np.nan)
    return ldexp_up(upper_bound(rows.B, q, rows.error), rows.exponent)


def check_product_l2(network: Network, _multiplier: Mapping[str, Array]) -> float:
    """Rigorous product of the spectral norms of all layers and the largest slopes: upper bound (l2), any depth.

    Implements: Szegedy et al. (2014), section 4.3, upper bound by the product of the layers' Lipschitz constants.

    Parameters
    ----------
    network : Network
        Any depth, any activation with bounded slopes.
    _multiplier : mapping
        Not needed.

    Returns
    -------
    bound : float
        Upper bound on the Lipschitz constant (l2 to l2).
    """
    slope = max(abs(s) for s in slopes_of(network))
    norms = [spectral_norm_up(W) for W, _ in network.layers]
    return product_up(*norms, *[slope] * (len(norms) - 1))


def check_product_linf(network: Network, _multiplier: Mapping[str, Array]) -> float:
    """Rigorous product of the largest absolute row sums and the largest slopes: upper bound (linf to linf), any depth.

    Implements: Szegedy et al. (2014), section 4.3, in the norm linf.

    Parameters
    ----------
    network : Network
        Any depth, any activation with bounded slopes.
    _multiplier : mapping
        Not needed.

    Returns
    -------
    bound : float
        Upper bound on the Lipschitz constant (linf to linf).
    """
    slope = max(abs(s) for s in slopes_of(network))
    norms = [max(sum_up(np.abs(row)) for row in W) for W, _ in network.layers]
    return product_up(*norms, *[slope] * (len(norms) - 1))


def slopes_of(network: Network) -> tuple[float, float]:
    """Slope interval of the activation; `UnsupportedModelError` when it is unbounded."""
    slopes = network.activation.slopes
    if not np.isfinite(slopes).all():
        raise UnsupportedModelError(
            f"The activation {network.activation.name!r} has unbounded slopes, so the network has no Lipschitz "
            "constant; bound it on a region instead."
        )
    return slopes


def _require_shallow(network: Network, method: str) -> None:
    if not network.is_shallow:
        raise UnsupportedModelError(
            f"method={method!r} needs one hidden layer; this network has {len(network.layers) - 1}. "
            "Use method='deep_lipsdp' or 'product', which hold for every depth."
        )


def _body_norm(network: Network, norm: float) -> float:
    """Upper bound on the Lipschitz constant (inputs in ``norm``, values in linf) of the hidden layers."""
    slope = max(abs(s) for s in slopes_of(network))
    *before, (last, _) = network.layers[:-1]
    if norm == 2:
        norms = [*(spectral_norm_up(W) for W, _ in before), float(np.max(row_norms_up(last)))]
    else:
        norms = [max(sum_up(np.abs(row)) for row in W) for W in [*(W for W, _ in before), last]]
    return product_up(*norms, *[slope] * (len(before) + 1))


def _propose_lipsdp(network: Network, tol: float, _solver: str) -> tuple[Multiplier, float, dict[str, Any]]:
    slopes = slopes_of(network)
    if network.n_outputs > 1:
        vector = maximize_vector(network.W, network.v, tol, slopes=slopes)
        return {"q": vector.multiplier}, vector.lower, {"iterations": vector.iterations}
    rows = stack_rounded(network.W, network.v, slopes)
    result = maximize(rows.B, tol)
    q = multiplier_from_factor(rows.B, result.factor, rows.error)
    with np.errstate(over="ignore"):
        return {"q": q}, float(np.ldexp(result.lower, rows.exponent)), {"iterations": result.iterations}


def _propose_lmi(network: Network, _tol: float, solver: str) -> tuple[Multiplier, float, dict[str, Any]]:
    multiplier, value, details = lmi_multiplier(network, solver)
    return multiplier, math.nan if math.isnan(value) else value, details


def _propose_nothing(_network: Network, _tol: float, _solver: str) -> tuple[Multiplier, float, dict[str, Any]]:
    return {}, math.nan, {}


def _estimate(name: str, network: Network, multiplier: Multiplier) -> float:
    """The same bound in plain float64, from which the slack is measured; zero where that over- or underflows."""
    with np.errstate(all="ignore"):
        try:
            value = _plain_bound(name, network, multiplier)
        except np.linalg.LinAlgError:  # eigenvalues of a matrix with infinite entries
            return 0.0
    return value if math.isfinite(value) else 0.0


def _plain_bound(name: str, network: Network, multiplier: Multiplier) -> float:
    slope = max(abs(s) for s in slopes_of(network))
    layers, depth = [W for W, _ in network.layers], len(network.layers) - 1
    if name == "product_l2":
        return float(np.prod([np.linalg.norm(W, 2) for W in layers]) * slope**depth)
    if name == "product_linf":
        return float(np.prod([np.linalg.norm(W, np.inf) for W in layers]) * slope**depth)
    if name == "deep_lipsdp":
        return estimate_deep_lipsdp(network, multiplier)
    if name == "max_gradient":
        return _estimate_max_gradient(network, multiplier)
    if network.n_outputs > 1:
        return _estimate_vector(network, multiplier["q"])
    rows = stack_rounded(network.W, network.v, slopes_of(network))
    q = multiplier["q"]
    E = np.divide(rows.B, np.sqrt(q)[:, None], out=np.zeros_like(rows.B), where=q[:, None] > 0.0)
    E = E if E.shape[0] >= E.shape[1] else E.T
    return float(np.ldexp(0.5 * np.sqrt(q.sum() * max(np.linalg.eigvalsh(E.T @ E)[-1], 0.0)), rows.exponent))


def _estimate_max_gradient(network: Network, multiplier: Multiplier) -> float:
    worst = 0.0
    for v, q, y in zip(network.layers[1][0], multiplier["q"], multiplier["y"], strict=True):
        rows = stack_rounded(network.W, v, slopes_of(network))
        left = np.sqrt(q)[:, None]
        E = np.divide(rows.B, left, out=np.zeros_like(rows.B), where=left > 0.0) / np.sqrt(y)
        worst = max(worst, float(np.ldexp(0.5 * math.sqrt(q.sum() * y.sum()) * np.linalg.norm(E, 2), rows.exponent)))
    return worst


def _estimate_vector(network: Network, q: Array) -> float:
    low, high = slopes_of(network)
    P, R = network.W * np.sqrt(q)[:, None], network.layers[1][0] / np.sqrt(q)
    U, height = (low + high) * network.layers[1][0] @ network.W, high - low
    M = np.block([[height * P.T @ P, U.T], [U, height * R @ R.T]])
    return float(0.5 * np.linalg.eigvalsh(M)[-1])


_PROPOSALS = {
    "lipsdp": _propose_lipsdp,
    "lmi": _propose_lmi,
    "deep_lipsdp": propose_deep_lipsdp,
    "product_l2": _propose_nothing,
    "product_linf": _propose_nothing,
    "max_gradient": propose_max_gradient,
}
_CHECKS = {
    "lipsdp": check_lipsdp,
    "lmi": check_lipsdp,
    "deep_lipsdp": check_deep_lipsdp,
    "product_l2": check_product_l2,
    "product_linf": check_product_linf,
    "max_gradient": check_max_gradient,
}
for _name, _check in _CHECKS.items():
    _threat = "linf" if _name in ("product_linf", "max_gradient") else "l2"
    register_check(_name, _check, quantity="lipschitz", threat=_threat)
