"""Random gates and their activation patterns, independent of units, row order and repetition of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from convexnn.exceptions import InvalidInputError
from convexnn.patterns.enumeration import count_patterns, enumerate_patterns
from convexnn.patterns.multiset import ActivationPatterns
from convexnn.patterns.rows import distinct, standardize

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
Kind = Literal["gaussian", "data"]
Signs = Literal["both", "random", 1, -1]
Draw = Callable[[Array, int, np.random.Generator], tuple[Array, Array]]

Met = dict[bytes, tuple[Array, float, Bool]]

#: A gate closer than this to a data point, relative to its size, is no proof that its pattern exists.
MARGIN = 1e-9
#: Gates tried for each asked pattern before giving up, and the least number tried.
TRIES, LEAST_TRIES = 50, 2000
#: Number of possible patterns up to which all of them are enumerated when random gates miss some.
ENUMERABLE = 2000
#: Entries of the largest array that is held at once.
CHUNK = 4_000_000


def sample(
    X: ArrayLike, p: int, *, kind: Kind = "gaussian", signs: Signs = "both", random_state: Any = None
) -> ActivationPatterns:
    """Up to ``p`` distinct activation patterns ``1[Xw + b >= 0]`` of random gates ``(w, b)``.

    Gates are drawn in standardized coordinates of the distinct rows, the bias as a weight of its own, so a
    positive change of units or a shift of a feature does not change the patterns, nor does the order or the
    repetition of rows. The pattern that is active nowhere is left out: it adds nothing to a prediction.

    Implements: Pilanci & Ergen (2020), approximation of their convex program by patterns of Gaussian gates.
    Implements: Mishkin et al. (2022), the same for gated ReLU networks.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Any units.
    p : int
        Number of distinct patterns asked for. Fewer come back when the data has fewer (``n_patterns`` says how
        many). Up to 2000 possible patterns, the rare ones that no random gate met are filled in by enumeration;
        with more, those not met in ``max(2000, 50 p)`` tries of each kind are left out.
    kind : {"gaussian", "data"}
        ``"gaussian"``: ``(w, b)`` standard normal. ``"data"``: a hyperplane between a random pair of distinct
        rows, orthogonal to their difference, at a random place between them, with a random orientation.
        When one kind meets no more patterns, the other fills up.
    signs : {"both", "random", 1, -1}
        Signs of the outer weights. ``"both"`` gives every pattern with +1 and with -1: twice as many columns.
    random_state : int, numpy Generator, RandomState or None
        Same value, same patterns. As long as one kind suffices, asking for more only appends patterns.

    Returns
    -------
    ActivationPatterns
        On the rows of X as they came.

    Raises
    ------
    InvalidInputError
        For NaN, infinite values, empty X, ``p < 1`` or an unknown kind or sign.
    """
    if signs not in ("both", "random", 1, -1):
        raise InvalidInputError(f'signs must be "both", "random", 1 or -1, got {signs!r}.')
    rng = _generator(random_state)
    rows, inverse = distinct(X)
    D = _distinct_gates(standardize(rows)[0], p, kind, rng)[2][inverse]
    number = D.shape[1]
    if signs == "both":
        return ActivationPatterns(np.hstack([D, D]), np.r_[np.ones(number), -np.ones(number)])
    s = rng.choice((-1.0, 1.0), size=number) if signs == "random" else np.full(number, float(signs))
    return ActivationPatterns(D, s)


def sample_gates(X: ArrayLike, p: int, *, kind: Kind = "gaussian", random_state: Any = None) -> tuple[Array, Array]:
    """Gates of the patterns that :func:`sample` returns for the same arguments, in the same order.

    Parameters
    ----------
    X, p, kind, random_state
        As for :func:`sample`.

    Returns
    -------
    W : array, shape (at most p, d)
        Hidden weights in the raw units of X.
    b : array, shape (at most p,)
        Hidden biases. ``1[X @ W.T + b >= 0]`` are distinct patterns, none of them active nowhere.
    """
    rows, _ = distinct(X)
    scaled, mean, scale = standardize(rows)
    W, b, _ = _distinct_gates(scaled, p, kind, _generator(random_state))
    return W / scale, b - W @ (mean / scale)


def _generator(random_state: Any) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1, size=4))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"random_state must be an int, a Generator or None, got {random_state!r}.") from error


def _gaussian(rows: Array, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
    gates = rng.standard_normal((number, rows.shape[1] + 1))
    return gates[:, :-1], gates[:, -1]


def _between(rows: Array, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
    draws = rng.random((number, 3))  # one row a gate: a longer run begins with the shorter one
    first = (draws[:, 0] * len(rows)).astype(int)
    second = (first + 1 + (draws[:, 1] * (len(rows) - 1)).astype(int)) % len(rows)
    W = rows[first] - rows[second]
    W /= np.maximum(np.linalg.norm(W, axis=1, keepdims=True), np.finfo(float).tiny)
    place = rows[second] + draws[:, 2:] * (rows[first] - rows[second])
    return W, -np.einsum("ij,ij->i", W, place)


DRAWS: dict[str, Draw] = {"gaussian": _gaussian, "data": _between}


def _distinct_gates(rows: Array, p: int, kind: str, rng: np.random.Generator) -> tuple[Array, Array, Bool]:
    """Gates (W, b) of distinct patterns and the patterns, in the order in which they were met."""
    if isinstance(p, bool) or not isinstance(p, (int, np.integer)) or p < 1:
        raise InvalidInputError(f"p must be a positive integer, got {p!r}.")
    if kind not in DRAWS:
        raise InvalidInputError(f"Unknown kind {kind!r}; expected one of {sorted(DRAWS)}.")
    n, d = rows.shape
    p = min(int(p), count_patterns(n, min(n, d + 1)) - 1)  # there are no more; the one active nowhere is left out
    met: Met = {}
    for name in (kind, *(other for other in DRAWS if other != kind)):
        if name == "gaussian" or n > 1:
            _collect(met, rows, p, DRAWS[name], rng)
    if len(met) < p and count_patterns(n, min(n, d + 1)) <= ENUMERABLE:
        _fill(met, rows, p)
    gates = list(met.values()) or [(np.zeros(d), 1.0, np.ones(n, dtype=bool))]
    return np.array([w for w, _, _ in gates]), np.array([b for _, b, _ in gates]), np.array([d for _, _, d in gates]).T


def _collect(met: Met, rows: Array, p: int, draw: Draw, rng: np.random.Generator) -> None:
    """Draw gates until ``p`` patterns are met or the tries are used up."""
    tries = max(LEAST_TRIES, TRIES * p)
    size = max(1, min(tries, CHUNK // len(rows), max(64, p)))
    while len(met) < p and tries > 0:
        W, b = draw(rows, min(size, tries), rng)
        tries -= len(W)
        D, packed, usable = _patterns_of(rows, W, b)
        for index in np.flatnonzero(usable):
            if len(met) == p:
                return
            met.setdefault(packed[index].tobytes(), (W[index], float(b[index]), D[:, index]))


def _patterns_of(rows: Array, W: Array, b: Array) -> tuple[Bool, NDArray[np.uint8], Bool]:
    """Patterns of gates, their keys, and which are clear of every row and active somewhere."""
    values = rows @ W.T + b
    D: Bool = values >= 0
    clear = np.abs(values).min(axis=0) > MARGIN * (np.linalg.norm(W, axis=1) + np.abs(b))
    return D, np.packbits(D, axis=0).T, np.asarray(D.any(axis=0) & clear)


def _fill(met: Met, rows: Array, p: int) -> None:
    """Add the patterns that no random gate met, each with the gate of largest margin in a box."""
    for pattern in enumerate_patterns(rows, max_patterns=ENUMERABLE).D.T:
        key = np.packbits(pattern).tobytes()
        if len(met) == p:
            return
        if key in met or not pattern.any():
            continue
        gate = _inner_gate(rows, pattern)
        D, packed, usable = _patterns_of(rows, gate[None, :-1], gate[-1:])
        if usable[0] and packed[0].tobytes() == key:
            met[key] = (gate[:-1], float(gate[-1]), D[:, 0])


def _inner_gate(rows: Array, pattern: Bool) -> Array:
    """Gate (d + 1,) with entries in [-1, 1] whose smallest signed value on the rows is largest."""
    H = np.hstack([rows, np.ones((len(rows), 1))])
    signed = np.where(pattern, 1.0, -1.0)[:, None] * H
    bounds = [(-1.0, 1.0)] * H.shape[1] + [(0.0, None)]
    found = linprog(
        np.r_[np.zeros(H.shape[1]), -1.0],
        A_ub=np.hstack([-signed, np.ones((len(rows), 1))]),
        b_ub=np.zeros(len(rows)),
        bounds=bounds,
        method="highs",
    )
    return np.zeros(H.shape[1]) if found.x is None else np.asarray(found.x[:-1])
