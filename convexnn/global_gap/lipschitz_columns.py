"""Activation patterns of new and old units, each once, for column generation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.global_gap.lipschitz_pricing import RampProblem, Ramps
from convexnn.patterns import ActivationPatterns

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Relative slack below which a row counts as tied to a unit.
TIE = 1e-9


@dataclass
class Columns:
    """Distinct pairs (pattern, sign) on the rows of X, in the order they came.

    The two linear units, active on every row, are always there: they free the bias and carry the linear part.
    """

    X: Array
    keys: dict[bytes, tuple[Bool, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Add the linear units."""
        for sign in (1.0, -1.0):
            self.add(np.ones(len(self.X), dtype=bool), sign)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.keys)

    def add(self, pattern: Bool, sign: float) -> bool:
        """Add a pair; whether it is new. A unit active nowhere is none."""
        key = np.packbits(pattern).tobytes() + (b"+" if sign > 0 else b"-")
        new = key not in self.keys and bool(pattern.any())
        if new:
            self.keys[key] = (pattern, sign)
        return new

    def add_units(self, W: Array, b: Array, signs: Array, *, both_sides: bool = True, most: int = 1000) -> int:
        """Add the patterns of units, best first, until ``most`` are new; ties to both sides. Return the number."""
        new = 0
        for w, bias, sign in zip(W, b, signs, strict=True):
            value = self.X @ w + bias
            scale = np.abs(self.X) @ np.abs(w) + abs(bias)
            patterns = [value >= -TIE * scale, value > TIE * scale] if both_sides else [value >= -TIE * scale]
            new += sum(self.add(pattern, float(sign)) for pattern in patterns)
            if new >= most:
                break
        return new

    def patterns(self) -> ActivationPatterns:
        """All pairs as the multiset of a program."""
        D, signs = zip(*self.keys.values(), strict=True)
        return ActivationPatterns(np.column_stack(D), np.array(signs))

    def keep(self, wanted: Bool) -> None:
        """Drop the pairs that are not wanted, but for the linear units."""
        pairs = list(self.keys.items())
        self.keys = {key: pair for i, (key, pair) in enumerate(pairs) if i < 2 or wanted[i]}


def units(problem: RampProblem, root: Array, ramps: Ramps) -> tuple[Array, Array, Array]:
    """Weights (k, d), biases (k,) and outer signs (k,) of the units that ramps stand for, in the data's coordinates."""
    E = ramps.E @ problem.basis
    return E @ root.T, ramps.b - E @ problem.middle, -ramps.signs
