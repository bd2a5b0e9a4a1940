"""Which program belongs to which regularizer of the functions and estimators."""

from __future__ import annotations

from collections.abc import Callable

from convexnn.restrictions.base import ConeProgram
from convexnn.restrictions.gated import GatedGroupLasso
from convexnn.restrictions.group_lasso import ReluGroupLasso
from convexnn.restrictions.lipschitz_joint import LipschitzProgram

PROGRAMS: dict[str, Callable[..., ConeProgram]] = {
    "lipschitz": LipschitzProgram,
    "l2": ReluGroupLasso,
    "gated": GatedGroupLasso,
}
