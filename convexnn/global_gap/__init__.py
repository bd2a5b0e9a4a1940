"""How far a fit can be from the global optimum of training: dual bounds, and column generation that closes them."""

from convexnn.global_gap.dual_point import best_dual_point
from convexnn.global_gap.kappa import KappaBracket
from convexnn.global_gap.l2 import train_global
from convexnn.global_gap.l2_bound import GlobalBound, global_lam_max, l2_global_bound
from convexnn.global_gap.lipschitz import train_global_lipschitz
from convexnn.global_gap.lipschitz_bound import LipschitzMultipliers, lipschitz_global_bound
from convexnn.global_gap.optimality import OptimalityGap, optimality_gap
from convexnn.global_gap.oracle import kappa_upper
from convexnn.global_gap.result import GlobalResult, GlobalRound
from convexnn.global_gap.signs import kappa_upper_signs

__all__ = [
    "GlobalBound",
    "GlobalResult",
    "GlobalRound",
    "KappaBracket",
    "LipschitzMultipliers",
    "OptimalityGap",
    "best_dual_point",
    "global_lam_max",
    "kappa_upper",
    "kappa_upper_signs",
    "l2_global_bound",
    "lipschitz_global_bound",
    "optimality_gap",
    "train_global",
    "train_global_lipschitz",
]
