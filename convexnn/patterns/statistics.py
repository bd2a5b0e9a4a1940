"""What a set of activation patterns looks like, in numbers and in an order fit for a picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage

from convexnn.patterns.multiset import ActivationPatterns
from convexnn.patterns.rows import sorted_groups

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Distinct patterns compared pair by pair; of more, as many evenly spaced in canonical order.
COMPARED = 1500


@dataclass(frozen=True, eq=False)
class PatternStatistics:
    """Summary of a multiset of activation patterns.

    Attributes
    ----------
    n_rows, n_units : int
        Data rows; units with multiplicities counted.
    n_distinct : int
        Distinct patterns, whatever the signs of the outer weights.
    n_duplicates : int
        ``n_units - n_distinct``.
    n_positive : int
        Units with outer sign +1.
    n_always_active, n_never_active : int
        Units that are active on every row (linear on the data), and on no row (dead).
    active_fraction : array, shape (p,)
        Share of rows on which each stored column is active.
    mean_active : float
        Mean of ``active_fraction`` over the units.
    row_entropy : float
        Mean over the rows of the binary entropy of the share of units active there, in bits: 1 when half of the
        units are active on every row, 0 when all units agree on every row.
    hamming_min, hamming_mean, hamming_max : float
        Share of rows on which two distinct patterns differ; of at most 1500 patterns, 0 with a single one.
    """

    n_rows: int
    n_units: int
    n_distinct: int
    n_duplicates: int
    n_positive: int
    n_always_active: int
    n_never_active: int
    mean_active: float
    row_entropy: float
    hamming_min: float
    hamming_mean: float
    hamming_max: float
    active_fraction: Array = field(repr=False)

    def __str__(self) -> str:
        """Small table, one quantity a line."""
        hamming = f"{self.hamming_min:.3f} / {self.hamming_mean:.3f} / {self.hamming_max:.3f}"
        lines = {
            "rows": self.n_rows,
            "units": self.n_units,
            "distinct patterns": self.n_distinct,
            "duplicates": self.n_duplicates,
            "positive outer sign": self.n_positive,
            "always active": self.n_always_active,
            "never active": self.n_never_active,
            "mean active share": f"{self.mean_active:.3f}",
            "row entropy (bits)": f"{self.row_entropy:.3f}",
            "distance min/mean/max": hamming,
        }
        return "\n".join(f"{name:<22} {value}" for name, value in lines.items())


def pattern_statistics(patterns: ActivationPatterns) -> PatternStatistics:
    """Counts, activity, entropy and distances of a multiset of patterns."""
    D, counts = patterns.D, patterns.counts
    active = D.mean(axis=0)
    distinct = D[:, sorted_groups(np.packbits(D, axis=0).T)[0]]
    shares = D @ counts / counts.sum()
    low, mean, high = _distances(distinct)
    return PatternStatistics(
        n_rows=patterns.n_rows,
        n_units=len(patterns),
        n_distinct=distinct.shape[1],
        n_duplicates=len(patterns) - distinct.shape[1],
        n_positive=int(counts[patterns.s > 0].sum()),
        n_always_active=int(counts[D.all(axis=0)].sum()),
        n_never_active=int(counts[~D.any(axis=0)].sum()),
        mean_active=float(active @ counts / counts.sum()),
        row_entropy=float(_entropy(shares).mean()),
        hamming_min=low,
        hamming_mean=mean,
        hamming_max=high,
        active_fraction=active,
    )


def _entropy(share: Array) -> Array:
    inside = np.clip(share, np.finfo(float).tiny, 1.0)
    outside = np.clip(1.0 - share, np.finfo(float).tiny, 1.0)
    entropy: Array = -(share * np.log2(inside) + (1.0 - share) * np.log2(outside))
    return entropy


def _distances(D: Bool) -> tuple[float, float, float]:
    """Smallest, mean and largest share of rows on which two of the distinct columns differ."""
    n, p = D.shape
    if p > COMPARED:
        D = D[:, np.linspace(0, p - 1, COMPARED).astype(int)]
    if D.shape[1] < 2:
        return 0.0, 0.0, 0.0
    signs = np.where(D, 1.0, -1.0)
    pairs = (0.5 - 0.5 * (signs.T @ signs) / n)[np.triu_indices(D.shape[1], 1)]
    return float(pairs.min()), float(pairs.mean()), float(pairs.max())


def canonical_order(patterns: ActivationPatterns) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order of rows and of stored columns in which similar ones are neighbors, for a readable picture.

    Leaves of an average-linkage tree on the share of differing entries; above 1000 rows or columns, the order of
    the leading singular vector of the centered patterns.

    Returns
    -------
    rows : array of int, shape (n,)
    units : array of int, shape (p,)
        ``patterns.D[np.ix_(rows, units)]`` is the picture.
    """
    units = _similar(patterns.D.T)
    rows = _similar(patterns.D[:, units])
    return rows, units


def _similar(entries: Bool, largest: int = 1000) -> NDArray[np.intp]:
    """Order of the rows of a matrix: similar ones next to each other, the fuller end last."""
    first = np.lexsort(entries.T[::-1])
    if len(first) < 3:
        return first
    ordered = entries[first].astype(float)
    if len(first) > largest:
        leaves = np.argsort(_leading_vector(ordered - ordered.mean(axis=0)), kind="stable")
    else:
        leaves = np.asarray(
            leaves_list(linkage(ordered, method="average", metric="hamming", optimal_ordering=True)), dtype=np.intp
        )
    filling = ordered[leaves].mean(axis=1)
    half = len(filling) // 2
    found: NDArray[np.intp] = first[leaves if filling[:half].mean() <= filling[-half:].mean() else leaves[::-1]]
    return found


def _leading_vector(A: Array, steps: int = 30) -> Array:
    """Leading left singular vector, near enough for a picture, by power iteration from the row sums."""
    vector: Array = A.sum(axis=1)
    for _ in range(steps):
        vector = A @ (A.T @ vector)
        vector = vector / max(float(np.linalg.norm(vector)), np.finfo(float).tiny)
    return vector
