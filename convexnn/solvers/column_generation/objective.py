"""The training objective of a network as a function of its neurons, smoothed: value, gradient, second derivative.

sum_t share_t phi(w_t(M)) + lam sum_j |p_j|^2,    M_c = sum_j sign_j [p_j; |p_j|][p_j; |p_j|]'
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers.column_generation.curvature import Linearization
from convexnn.solvers.column_generation.neurons import Neurons
from convexnn.solvers.column_generation.term_losses import Bent, TermLoss
from convexnn.solvers.column_generation.worst_cases import WorstCases

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective at some neurons.

    Attributes
    ----------
    neurons : Neurons
    value : float
        Smoothed objective.
    w : array, shape (N,)
        Smoothed worst cases.
    bent : Bent
        Loss and slopes there.
    G : array, shape (C, d + 1, d + 1)
        Minus the gradient of the loss in the matrices of the scores.
    """

    neurons: Neurons
    value: float
    w: Array
    bent: Bent
    G: Array

    @property
    def slopes(self) -> Array:
        """Slopes of the terms, shape (N,), not weighted."""
        return self.bent.slopes


class Objective:
    """Smoothed objective; the state of the last evaluation serves second derivatives and attacks."""

    def __init__(self, worst: WorstCases, loss: TermLoss) -> None:
        self.worst, self.loss = worst, loss
        self.structure = worst.structure
        self.lam = worst.structure.lam
        self.smoothing = 0.0

    def evaluate(self, neurons: Neurons) -> Evaluation:
        """Value and moments at ``neurons``."""
        w = self.worst.evaluate(neurons.matrices(), self.smoothing)
        bent = self.loss.at(w)
        G = self.worst.moments(self.structure.share * bent.slopes)
        value = bent.value + self.lam * float(np.einsum("ij,ij->", neurons.P, neurons.P))
        return Evaluation(neurons, value, w, bent, G)

    def gradient(self, at: Evaluation) -> Array:
        """Gradient in the neurons, shape (m, d)."""
        gradient: Array = 2.0 * (self.lam * at.neurons.P - at.neurons.pulled(at.G))
        return gradient

    def second(self, at: Evaluation) -> SecondDerivative:
        """Second derivative at the point that was evaluated last."""
        share = self.structure.share
        bending = (at.bent.own > 0) & (share > 0)
        return SecondDerivative(self, at, Linearization(self.worst, share * at.slopes, bending))


@dataclass(frozen=True, eq=False)
class SecondDerivative:
    """Products with the second derivative of the objective in the neurons."""

    objective: Objective
    at: Evaluation
    linearization: Linearization

    def __call__(self, dP: Array) -> Array:
        """Product with ``dP`` (m, d)."""
        share, neurons = self.objective.structure.share, self.at.neurons
        dG = self.linearization.change(neurons.moved(dP), lambda dw: share * self.at.bent.change(dw))
        return 2.0 * (self.objective.lam * dP - neurons.pulled_change(self.at.G, dG, dP))
