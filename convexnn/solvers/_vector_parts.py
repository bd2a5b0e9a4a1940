"""Which problem, block and way back belong to a structure: one output, several outputs, or the outer step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers._norm_block import NormBlock
from convexnn.solvers._vector_block import VectorJointBlock
from convexnn.solvers._vector_losses import OuterLossProblem, VectorLossProblem
from convexnn.solvers._vector_outer import OuterBoundary, OuterNormBlock, OuterProblem
from convexnn.solvers._vector_problem import VectorBoundary, VectorConeProblem, vector_unit
from convexnn.solvers.cone_block import ConeBlock
from convexnn.solvers.cone_problem import ConeProblem, power_of_two_unit
from convexnn.solvers.evidence import Boundary
from convexnn.structure import ConeStructure
from convexnn.vector_structure import OuterStructure, VectorGroupNorm, VectorStructure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


def target_unit(structure: ConeStructure) -> float:
    """Power of two nearest the size of the targets."""
    return vector_unit(structure) if isinstance(structure, VectorStructure) else power_of_two_unit(structure)


def cone_problem(structure: ConeStructure, unit: float, keep: IntArray) -> ConeProblem:
    """The structure in the layout of the interior point method."""
    if isinstance(structure, OuterStructure):
        return (OuterProblem if structure.is_squared else OuterLossProblem)(structure, unit, keep)
    if isinstance(structure, VectorStructure):
        return (VectorConeProblem if structure.is_squared else VectorLossProblem)(structure, unit, keep)
    return ConeProblem(structure, unit, keep)


def boundary(structure: ConeStructure, unit: float, keep: IntArray, centre: Array) -> Boundary:
    """The way back from that layout."""
    if isinstance(structure, OuterStructure):
        return OuterBoundary(structure, unit, keep, centre)
    kind = VectorBoundary if isinstance(structure, VectorStructure) else Boundary
    return kind(structure, unit, keep, centre)


def vector_block(problem: ConeProblem, structure: VectorStructure, unit: float) -> ConeBlock:
    """The cone of the regularizer in the solver's units."""
    if isinstance(structure.coupling, VectorGroupNorm):
        kind = OuterNormBlock if isinstance(structure, OuterStructure) else NormBlock
        return kind(problem, structure.coupling.weight / unit)
    assert isinstance(problem, VectorConeProblem)
    return VectorJointBlock(problem, structure.coupling.weight, problem.directions)
