"""One row of the history of a trainer that certifies every network it keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingStage:
    """One network that was looked at.

    Attributes
    ----------
    stage : str
        "start", and what the trainer calls its steps.
    objective : float
        Of the best network after it, with certified bounds; never rises.
    accepted : bool
        Whether this network became the best one.
    seconds : float
        Since the beginning.
    """

    stage: str
    objective: float
    accepted: bool
    seconds: float
