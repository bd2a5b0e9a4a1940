"""What is known about one sample: certified, falsified or unknown, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation import Evidence
from convexnn.values import ByValue

Array = NDArray[np.float64]

STATUSES = ("certified", "falsified", "unknown")


@dataclass(frozen=True, eq=False)
class Verdict(ByValue):
    """What is known about one sample and its threat set.

    With ``m = max_{t != y} f_t - f_y`` (one output: ``-f`` for the class 1, ``f`` for the class 0): negative where the
    prediction is right, a tie is not.

    Attributes
    ----------
    index : int
        Of the sample, from 0.
    label : int
        Index of its class.
    status : {"certified", "falsified", "unknown"}
        Certified: no point of the set has ``m >= 0``, neither for the real-valued network nor in float64. Falsified:
        ``counterexample`` is in the set, without any tolerance, and its float64 margin is ``>= 0``.
    clean : float
        ``m`` at the sample itself.
    margin : float
        UPPER bound on ``m`` over the set, rounding of float64 evaluations included; ``inf`` where none was computed.
    lower : float
        Largest ``m`` found at a point of the set: LOWER bound on its maximum; ``-inf`` where none was found.
    method : str
        That decided; for unknown samples the one with the best bound.
    rigorous : bool
        False when ``margin`` is a solver's word (mixed-integer programs).
    seconds : mapping of str to float
        Wall seconds by stage.
    reason : str
        Why a sample is unknown.
    counterexample : array, shape (d,), or None
    bounds : array, shape (q,)
        UPPER bounds on ``f_t - f_y`` for the rivals in order, of the real-valued network.
    evidence : Evidence or None
        Its check gives bounds that are all below zero; kept on request.

    Raises
    ------
    CertificateError
        When the numbers contradict each other.
    """

    index: int
    label: int
    status: str
    clean: float
    margin: float
    lower: float
    method: str
    rigorous: bool = True
    seconds: Mapping[str, float] = field(default_factory=dict, repr=False)
    reason: str = ""
    counterexample: Array | None = field(default=None, repr=False)
    bounds: Array = field(default_factory=lambda: np.empty(0), repr=False)
    evidence: Evidence | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse verdicts that contradict their own numbers."""
        if self.status not in STATUSES:
            raise CertificateError(f"The status of sample {self.index} is {self.status!r}, not one of {STATUSES}.")
        wrong = {
            "certified": not (self.margin < 0 and self.counterexample is None),
            "falsified": not (self.lower >= 0 and self.counterexample is not None),
            "unknown": self.counterexample is not None,
        }[self.status]
        if wrong or not self.lower <= self.margin:  # nan contradicts everything
            raise CertificateError(
                f"The verdict of sample {self.index} contradicts itself: {self.status}, attack {self.lower:.6g} <= "
                f"worst margin <= {self.margin:.6g}, {'no ' if self.counterexample is None else ''}counterexample."
            )

    @property
    def total_seconds(self) -> float:
        """Wall seconds of all stages."""
        return float(sum(self.seconds.values()))
