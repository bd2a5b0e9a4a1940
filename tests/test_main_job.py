"""The main job on real data: pretrain, extract, solve, decode, certify, attack."""

import numpy as np
import pytest

from convexnn.attacks import attack
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.regression import certify_regression
from convexnn.patterns import extract
from convexnn.refinement import TrainingObjective, refine
from convexnn.restrictions import LipschitzProgram
from convexnn.solvers import solve
from convexnn.threats import L2Ball
from convexnn.training import pretrain
from convexnn.training.alternating import alternating_minimization
from tests._shared import require_shared

LAM = 1e-2


def servo():
    """Split 0 of servo, standardized on its training rows."""
    table = np.loadtxt(require_shared("data", "splits", "servo.csv"), delimiter=",")
    test = np.loadtxt(require_shared("data", "splits", "servo_test_mask.csv"), delimiter=",")[:, 0].astype(bool)
    standard = (table - table[~test].mean(axis=0)) / table[~test].std(axis=0)
    return standard[~test, :-1], standard[~test, -1], standard[test, :-1], standard[test, -1]


@pytest.mark.slow
def test_servo_joint_is_at_most_every_alternating_iterate(rng):
    X, y, X_test, y_test = servo()
    start = pretrain(X, y, hidden_units=100, epochs=1000, weight_decay=1e-4, random_state=0).network
    objective = TrainingObjective(X, y, None, "lipschitz", LAM)

    program = LipschitzProgram(X, y, extract(start, X), lam=LAM, start=start)
    joint = solve(program, tol=1e-6)
    assert joint.gap <= 1e-6
    assert joint.violation == 0
    assert joint.status == "optimal"

    alternating = alternating_minimization(start, X, y, lam=LAM, max_rounds=4)
    steps = [value for row in alternating.history for value in (row.after_multiplier, row.after_weights)]
    iterates = [program.network_objective(start), *steps]
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in zip(iterates, iterates[1:], strict=False))
    assert joint.objective <= min(iterates)
    assert iterates[-1] < iterates[0]

    refined = refine(start, X, y, lam=LAM)
    assert refined.after <= min(iterates)
    assert objective(alternating.network) <= objective(start)
    assert objective(refined.network) == pytest.approx(refined.after, rel=1e-9)
    certificate = lipschitz(refined.network)
    threat = L2Ball(0.2)
    attacked = attack(refined.network, X_test, y_test, threat, random_state=0)
    certified = certify_regression(refined.network, X_test, y_test, threat, certificate)
    assert (certified.clean <= attacked.values * (1 + 1e-12)).all()
    assert (attacked.values <= certified.certified).all()
