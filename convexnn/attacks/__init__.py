"""Attacks: worst points found inside a threat set, re-verified; LOWER bounds on the worst case."""

from convexnn.attacks.base import Attack, AttackProblem, AttackResult, linear_maximizer
from convexnn.attacks.best import BestOf
from convexnn.attacks.coordinate import CoordinateDescent
from convexnn.attacks.exact import Exact
from convexnn.attacks.fgsm import FGSM
from convexnn.attacks.pgd import PGD
from convexnn.attacks.registry import ATTACKS, attack

__all__ = [
    "ATTACKS",
    "FGSM",
    "PGD",
    "Attack",
    "AttackProblem",
    "AttackResult",
    "BestOf",
    "CoordinateDescent",
    "Exact",
    "attack",
    "linear_maximizer",
]
