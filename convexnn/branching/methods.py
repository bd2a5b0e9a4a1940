"""The methods that may bound a part of the set, and in which order they are tried on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from convexnn.branching.decided import PENALTIES, decided_evidence
from convexnn.branching.node import Node
from convexnn.propagation.alpha_crown import ALPHA_CROWN
from convexnn.propagation.query import Certifier, Effort, Evidence
from convexnn.relaxations.arrow.certifier import LARGEST_SYSTEM, SDP, propose_sdp
from convexnn.relaxations.arrow.targets import PLAIN
from convexnn.relaxations.linear import LP

#: One attempt at a better bound: the number of the method whose check reads the evidence, and the evidence.
Step = Callable[[Node, Effort], tuple[int, Evidence]]

#: Stored trees refer to methods by their place in this list: append, never reorder.
METHODS: tuple[Certifier, ...] = (SDP, LP, ALPHA_CROWN)
#: The first one as published: on parts of the set a split does more than further rows (same parts, more time).
IN_PARTS = replace(SDP, propose=partial(propose_sdp, extra=PLAIN))
SEMIDEFINITE, LINEAR, SLOPES = range(len(METHODS))

#: Undecided units beyond which slopes are optimized before the semidefinite bound, which then takes seconds.
MANY = 100
#: Steps on the slopes.
STEPS = 30


def plan(node: Node) -> tuple[Step, ...]:
    """Methods to try on a node before it is split, in order.

    A part without undecided units is a linear or a cone program. Elsewhere the semidefinite bound is taken while its
    system is small enough, since it needs far fewer parts; beyond that, slopes with multipliers of the signs.
    """
    undecided = sum(len(units) for units in node.undecided())
    if not undecided:
        return tuple(piece(penalty) for penalty in PENALTIES)
    if not is_small(node):
        return (slopes,)
    return (run(SEMIDEFINITE),) if undecided <= MANY else (slopes, run(SEMIDEFINITE))


def is_small(node: Node) -> bool:
    """Whether the semidefinite bound can be had: the size of its Newton system."""
    d = node.query.network.n_inputs if node.query.inputs.has_box else 1
    return 4 * sum(len(units) for units in node.undecided()) + d <= LARGEST_SYSTEM


def run(method: int) -> Step:
    """A certifier on the part, with the bounds of its layers."""

    def step(node: Node, effort: Effort) -> tuple[int, Evidence]:
        certifier = IN_PARTS if method == SEMIDEFINITE else METHODS[method]
        return method, certifier.propose(node.query, effort, node.layers)

    return step


def slopes(node: Node, effort: Effort) -> tuple[int, Evidence]:
    """Linear bounds with optimized slopes and multipliers of the signs."""
    return SLOPES, METHODS[SLOPES].propose(node.query, replace(effort, max_iter=STEPS), node.layers)


def cheap(node: Node, effort: Effort) -> tuple[int, Evidence]:
    """Linear bounds: what the check of "sdp" proves without multipliers."""
    del effort
    return SEMIDEFINITE, Evidence("sdp", node.layers.multiplier)


def piece(penalty: float) -> Step:
    """The program of an affine piece; what it proves is checked as a linear relaxation."""

    def step(node: Node, effort: Effort) -> tuple[int, Evidence]:
        del effort  # one small program
        return LINEAR, decided_evidence(node, penalty)

    return step
