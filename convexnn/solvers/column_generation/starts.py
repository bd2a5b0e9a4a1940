"""Where column generation starts: neurons that the zero network lacks, or those of a given point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import QuadraticStructure
from convexnn.solvers.column_generation.neurons import Neurons, rotated
from convexnn.solvers.column_generation.worst_cases import WorstCases

Array = NDArray[np.float64]

#: Scores of the first network, relative to the unit of the loss.
LEVEL = 0.3


def first_neurons(worst: WorstCases, width: int) -> Neurons:
    """Random unit neurons of both signs for every class, ``width`` of each, with scores of moderate size."""
    structure = worst.structure
    rng = np.random.default_rng(0)
    d, groups = structure.n_features, 2 * structure.n_classes
    P = rng.standard_normal((groups * width, d))
    P /= np.maximum(np.linalg.norm(P, axis=1, keepdims=True), 1e-150)
    classes = np.repeat(np.arange(structure.n_classes, dtype=np.intp), 2 * width)
    signs = np.tile(np.repeat([1.0, -1.0], width), structure.n_classes)
    neurons = Neurons(P, classes, signs, structure.n_classes)
    return neurons.at(P * np.sqrt(_level(structure, neurons)))


def unit_of_scores(structure: QuadraticStructure) -> float:
    """Size of the targets, or a margin of one."""
    return max(float(structure.weight @ np.abs(structure.y)), 1e-100) if structure.is_regression else 1.0


def _level(structure: QuadraticStructure, neurons: Neurons) -> float:
    """Outer weight at which the scores of some samples have the size of the targets, or of a margin.

    The units of both signs may cancel each other, so their squares are added.
    """
    a, b, c = structure.coefficients
    X = structure.X[:: max(1, len(structure.X) // 200)]
    size = 0.0
    for k in range(structure.n_classes):
        t = X @ neurons.P[neurons.classes == k].T
        values = (a * t + b) * t + c
        size = max(size, float(np.sqrt(np.mean(np.einsum("ij,ij->i", values, values)))))
    return LEVEL * unit_of_scores(structure) / size if size > 0 else 1.0


def subsample(structure: QuadraticStructure, size: int) -> QuadraticStructure:
    """The same program on ``size`` random rows, weights rescaled."""
    chosen = np.zeros(len(structure.X), dtype=bool)
    chosen[np.random.default_rng(0).permutation(len(structure.X))[:size]] = True
    terms = chosen[structure.rows]
    mass = float(structure.weight[chosen].sum())
    if not mass > 0:
        return structure
    position = np.cumsum(chosen) - 1
    return replace(
        structure,
        X=structure.X[chosen],
        weight=structure.weight[chosen] / mass,
        y=structure.y[chosen],
        rows=position[structure.rows[terms]].astype(np.intp),
        plus=structure.plus[terms],
        minus=structure.minus[terms],
        share=structure.share[terms] / mass,
    )


def neurons_of_point(z: Array) -> Neurons:
    """Neurons with the matrices of a point (2, C, d + 1, d + 1), as many as their ranks."""
    P, classes, signs = [], [], []
    for half, sign in enumerate((1.0, -1.0)):
        for c in range(z.shape[1]):
            values, vectors = np.linalg.eigh(0.5 * (z[half, c] + z[half, c].T))
            kept = rotated((vectors * np.sqrt(np.maximum(values, 0.0))).T, 1e-14 * float(values.max(initial=0.0)))
            P.append(kept)
            classes.append(np.full(len(kept), c, dtype=np.intp))
            signs.append(np.full(len(kept), sign))
    return Neurons(np.concatenate(P), np.concatenate(classes), np.concatenate(signs), z.shape[1])
