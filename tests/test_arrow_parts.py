"""The parts of the structured solver against dense linear algebra: completion, Newton system, directions, starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.relaxations.arrow.directions import Point, corrector_of, direction
from convexnn.relaxations.arrow.factors import Completion, Slack, grams
from convexnn.relaxations.arrow.problem import ArrowProblem
from convexnn.relaxations.arrow.rows import Products
from convexnn.relaxations.arrow.schur import schur_factor
from convexnn.relaxations.arrow.sharing import Watch, spares
from convexnn.relaxations.arrow.starts import dual_start, moved_to, primal_start
from convexnn.relaxations.arrow.steps import dual_step, primal_step
from convexnn.relaxations.arrow.targets import relaxation_of
from tests._arrow_instances import SETS, random_query, sampled_maximum


def dense(core, side, diagonal):
    """Matrix over (h, xi) from its entries on the arrow; the rest of the input block is zero."""
    return np.block([[core, side.T], [side, np.diag(diagonal)]])


def symmetric(M):
    return 0.5 * (M + M.T)


class Instance:
    """A problem at its start, with everything dense beside it."""

    def __init__(self, rng, kind, triangle=False, widths=(5, 6, 4, 2)):
        query = random_query(rng, widths, kind, radius=1.0)
        signs = tuple(np.zeros(n, dtype=np.int8) for n in query.network.n_hidden)
        signs[0][0] = 1
        query = query.with_signs(signs)
        self.relaxation = relaxation_of(query, crown_bounds(query), triangle)
        if triangle:  # all that may be added
            i, j = (np.append(part, part) for part in np.nonzero(~np.eye(self.relaxation.m, dtype=bool)))
            chosen = np.flatnonzero(rng.random(len(i)) < 0.4)
            products = Products(i[chosen], j[chosen], chosen < len(i) // 2)
            self.relaxation = replace(self.relaxation, products=products)
        self.problem = ArrowProblem(self.relaxation, self.relaxation.forms.outputs[0])
        self.primal = primal_start(self.relaxation, 0)
        self.slack = Slack.at(self.problem, dual_start(self.problem))
        self.done = Completion.of(self.primal)
        products = grams(self.relaxation, self.primal, self.done, self.slack)
        self.point = Point.of(self.relaxation, self.primal, self.done, self.slack, products)
        self.args = (self.relaxation, self.primal, self.done, self.slack, products)
        p, n = self.relaxation.p, self.relaxation.p + self.relaxation.d
        J = np.vstack([np.eye(p), self.done.Jx])
        self.X = J @ self.primal.Xhh @ J.T + np.diag(np.r_[np.zeros(p), self.done.rest])
        self.Z = dense(self.slack.Zhh, self.slack.B.T, self.slack.N)
        self.inverse = np.linalg.inv(self.Z)
        basis = np.eye(self.relaxation.n_rows + self.relaxation.n_nu)
        self.rows = np.array([self.matrix(*self.relaxation.arrow(e)) for e in basis])
        assert self.rows.shape[1:] == (n, n)

    @staticmethod
    def matrix(Zhh, B, N):
        return dense(Zhh, B.T, N)

    def on_arrow(self, M):
        p = self.relaxation.p
        return M[:p, :p], M[p:, :p], np.diag(M)[p:]


@pytest.fixture(params=[(kind, triangle) for kind in SETS for triangle in (False, True)], ids=str)
def instance(request, rng):
    return Instance(rng, *request.param)


def test_the_completion_keeps_the_arrow_and_its_inverse_has_its_zeros(instance):
    p = instance.relaxation.p
    core, side, diagonal = instance.on_arrow(instance.X)
    np.testing.assert_allclose(core, instance.primal.Xhh)
    np.testing.assert_allclose(side, instance.primal.Xx)
    np.testing.assert_allclose(diagonal, instance.primal.Xd)
    block = np.linalg.inv(instance.X)[p:, p:]
    np.testing.assert_allclose(block - np.diag(np.diag(block)), 0.0, atol=1e-9 * np.abs(block).max())


def test_the_newton_matrix_is_the_one_of_its_definition(instance):
    positive = instance.relaxation.positive
    factor = np.tril(schur_factor(*instance.args))
    expected = np.einsum("kij,jm,lmn,ni->kl", instance.rows, instance.X, instance.rows, instance.inverse, optimize=True)
    expected = symmetric(expected) + np.diag(np.where(positive, instance.primal.s / instance.slack.v, 0.0))
    np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())


def test_adjoints_are_adjoint(instance, rng):
    relaxation = instance.relaxation
    expected = np.einsum("kij,ij->k", instance.rows, instance.inverse)
    np.testing.assert_allclose(instance.point.pull, expected, atol=1e-11 * np.abs(expected).max())
    M = symmetric(rng.standard_normal(instance.Z.shape))
    expected = np.einsum("kij,ij->k", instance.rows, M)
    np.testing.assert_allclose(relaxation.adjoint_of(*instance.on_arrow(M)), expected, atol=1e-11)


def test_directions_solve_the_linearized_equations(instance):
    point, slack, primal, positive = instance.point, instance.slack, instance.primal, instance.relaxation.positive
    factor = schur_factor(*instance.args)
    for smu, use_corrector in ((0.0, False), (0.3, False), (0.3, True)):
        affine = direction(point, factor, 0.0)
        corrector = corrector_of(point, affine) if use_corrector else None
        way = direction(point, factor, smu, corrector)
        dZ = instance.matrix(way.dZ, way.dB, way.dN)
        expected = smu * instance.inverse - instance.X - symmetric(instance.X @ dZ @ instance.inverse)
        rows = np.zeros(len(slack.v))
        if use_corrector:
            dZ0 = instance.matrix(affine.dZ, affine.dB, affine.dN)
            dX0 = -instance.X - symmetric(instance.X @ dZ0 @ instance.inverse)
            expected -= symmetric(dX0 @ dZ0 @ instance.inverse)
            rows = affine.ds * affine.dv
        for part, wanted in zip((way.dXhh, way.dXx, way.dXd), instance.on_arrow(expected), strict=True):
            np.testing.assert_allclose(part, wanted, atol=1e-9 * np.abs(expected).max())
        # the new point is primal feasible and the rows with a sign are on the central path to first order
        moved = instance.relaxation.adjoint_of(
            primal.Xhh + way.dXhh, primal.Xx + way.dXx, primal.Xd + way.dXd
        ) + np.where(positive, primal.s + way.ds, 0.0)
        scale = np.abs(instance.relaxation.cost - moved + primal.s).max()
        np.testing.assert_allclose(moved, instance.relaxation.cost, atol=1e-8 * max(1.0, scale))
        product = slack.v * primal.s + slack.v * way.ds + primal.s * way.dv
        np.testing.assert_allclose(product[positive], (smu - rows)[positive], atol=1e-9)


def test_steps_keep_both_sides_positive_definite(instance):
    point = instance.point
    way = direction(point, schur_factor(*instance.args), 0.1)
    step = primal_step(point, way, 0.95)
    moved = dense(
        instance.primal.Xhh + step * way.dXhh, instance.primal.Xx + step * way.dXx, instance.primal.Xd + step * way.dXd
    )
    p = instance.relaxation.p
    assert 0.0 < step <= 1.0
    for i in range(p, len(moved)):  # every clique of the arrow
        index = np.r_[np.arange(p), i]
        assert np.linalg.eigvalsh(moved[np.ix_(index, index)])[0] > 0
    step = dual_step(point, way, 0.95)
    assert 0.0 < step <= 1.0
    assert np.linalg.eigvalsh(instance.Z + step * instance.matrix(way.dZ, way.dB, way.dN))[0] > 0


def test_starts_are_strictly_feasible_and_t_is_lowered_to_the_boundary(instance):
    assert np.linalg.eigvalsh(instance.Z)[0] > 0
    assert np.linalg.eigvalsh(instance.X)[0] > 0
    spare = instance.slack.spare()
    lowered = instance.Z.copy()
    lowered[0, 0] -= spare
    assert abs(np.linalg.eigvalsh(lowered)[0]) < 1e-9 * np.abs(instance.Z).max()
    again = moved_to(instance.problem, instance.slack.v)
    assert np.linalg.eigvalsh(instance.matrix(*instance.problem.arrow(again)))[0] > 0


def test_no_strictly_feasible_start_is_said(rng):
    instance = Instance(rng, "box")
    bad = np.full(len(instance.slack.v), np.nan)
    assert moved_to(instance.problem, bad) is None


def test_one_iterate_bounds_every_row(rng):
    for kind in SETS:
        query = random_query(rng, (5, 6, 4, 3), kind, radius=1.0, rows=4)
        relaxation = relaxation_of(query, crown_bounds(query))
        first = ArrowProblem(relaxation, relaxation.forms.outputs[0]).without_constant()
        slack = Slack.at(first, dual_start(first))
        others = relaxation.forms.outputs
        expected = [Slack.at(ArrowProblem(relaxation, objective), slack.v).spare() for objective in others]
        np.testing.assert_allclose(spares(first, slack, others), expected, rtol=1e-9)
        watch = Watch.over(others)
        watch.look(first, slack)
        for row, v in enumerate(watch.multipliers):
            Z = Slack.at(ArrowProblem(relaxation, others[row]), v)
            assert abs(np.linalg.eigvalsh(Z.S)[0]) < 1e-8 * np.abs(Z.S).max()
            assert watch.best[row] == pytest.approx(relaxation.cost @ v)
            assert watch.best[row] >= sampled_maximum(rng, query, 500)[row]
