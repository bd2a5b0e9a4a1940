"""The matrix fraction of the spectral regularizers: central start, eliminated Newton equations, longest steps."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from convexnn.solvers import _full_block, interior_point, solve
from convexnn.solvers._fractional_block import FractionalBlock
from convexnn.solvers._fractional_elimination import symmetric_basis, to_matrix, to_vector
from convexnn.solvers._full_block import pays_to_split
from convexnn.solvers._small_matrices import last_nonnegative
from convexnn.solvers._spectral_block import SpectralBlock
from convexnn.solvers.cone_problem import ConeProblem, power_of_two_unit
from tests._instances import PROGRAMS, joint, regression

spectral = pytest.mark.parametrize("make", [joint, PROGRAMS["fixed"]], ids=["joint", "fixed"])
MU = 0.3


def started(make, rng):
    """A block on its central path and its point."""
    structure = make(*regression()).structure()
    problem = ConeProblem(structure, power_of_two_unit(structure), np.arange(structure.D.shape[1]))
    block = interior_point._block(problem, structure, 1.0)
    return block, block.start(rng.normal(size=(problem.d1, problem.p)), MU)


def off_center(block, U, rng):
    """Move the primal point and the dual rows a little: no equation of the path holds any more."""
    U = U * (1 + 0.1 * rng.normal(size=U.shape))
    block._set_primal(U)
    block.z = block.z * (1 + 0.01 * rng.normal(size=block.z.shape))
    block._set_dual()
    block.rescale()
    return U


def targeted(block, rng):
    """A random target, its parts, and a random change of the units."""
    target = rng.normal(size=block.d**2 + block.corners + block.E.size)
    T, corners, rows = block._parts(target)
    T[:] = T + T.T
    return target, T, corners, rows


@spectral
def test_start_is_central(make, rng):
    block, _ = started(make, rng)
    assert np.abs(block.T @ block.W - block.omega * MU * np.eye(block.d)).max() < 1e-3  # q, x, W: a short iteration
    assert block.E @ block.W + block.q[:, None] * block.z == pytest.approx(0, abs=1e-12)
    if block.fixed_corner:
        assert np.trace(block.W) == pytest.approx(block.weight, rel=1e-6)
    else:
        assert block.q * block.slack == pytest.approx(MU, rel=1e-2)


@spectral
def test_the_fraction_is_the_schur_complement_of_the_arrow(make, rng):
    block, U = started(make, rng)
    U = off_center(block, U, rng)
    W = (U[: block.d] / block.scale).T
    E = block.row_scale[:, None] * np.vstack([W.sum(axis=0), W])
    arrow = np.block([[block.x * np.eye(block.d), E.T], [E, np.diag(block.q)]])
    inverse = np.linalg.inv(arrow)[: block.d, : block.d]
    assert np.linalg.inv(block.T) == pytest.approx(inverse, rel=1e-9)
    assert np.linalg.eigvalsh(block.matrix())[0] > -1e-12
    products = np.vdot(block.matrix(), arrow)
    assert block.gap() == pytest.approx(products, rel=1e-9)


@spectral
def test_a_step_solves_all_equations_that_were_eliminated(make, rng):
    block, U = started(make, rng)
    off_center(block, U, rng)
    target, T, corners, rows = targeted(block, rng)
    block.pull_back(target)
    dU = rng.normal(size=U.shape)
    step = block.expand(dU, np.zeros(0), target)
    dW, dq, dx, de, dz = block._changes(step)
    y, z, W = block.ratio, block.z, block.W
    assert de == pytest.approx(block._off_diagonal(dU))
    dT = dx * np.eye(block.d) - y.T @ de - de.T @ y
    if block.fixed_corner:
        dq = np.zeros(block.count)
        assert np.trace(dW) == pytest.approx(0, abs=1e-10)
    else:
        dT += (y.T * dq) @ y
        dy = (de - y * dq[:, None]) / block.q[:, None]
        slack = block.weight + np.einsum("ia,ia->i", y, 2 * z + y @ W)
        d_slack = np.einsum("ia,ia->i", y, 2 * dz + y @ dW) + 2 * np.einsum("ia,ia->i", dy, z + y @ W)
        assert (slack >= block.slack).all()
        solved = block.q * d_slack + (2 * slack - block.slack) * dq
        assert solved == pytest.approx(block.corner * corners, rel=1e-7, abs=1e-9)
    assert dT + block.root @ block.root.T @ dW @ block.root @ block.root.T == pytest.approx(
        block.root @ T @ block.root.T, rel=1e-7, abs=1e-9
    )
    bilinear = block.E @ dW + de @ W + dq[:, None] * z + block.q[:, None] * dz
    missing = -(block.E @ block.W + block.q[:, None] * block.z)
    assert bilinear == pytest.approx(missing + rows, rel=1e-7, abs=1e-9)


@spectral
def test_the_hessian_is_what_the_elimination_does(make, rng):
    # with target zero, on the path, the dual change is -(unit blocks + F'F) dU in U
    block, U = started(make, rng)
    block.rescale()
    target = np.zeros(block.d**2 + block.corners + block.E.size)
    block.pull_back(target)
    dU = rng.normal(size=U.shape)
    block.z = block._changes(block.expand(dU, np.zeros(0), target))[-1]
    F = block.low_rank()
    image = np.einsum("iab,bi->ai", block.unit_hessian(), dU)
    image += np.einsum("ria,r->ai", F, np.einsum("ria,ai->r", F, dU))
    assert block.dual_residual()[0] == pytest.approx(-image, rel=1e-6, abs=1e-8)


@spectral
def test_the_corrector_knows_the_curvature_of_the_fraction(make, rng):
    """What a short step leaves of every equation beyond its linear part is the second-order target, times t^2."""
    block, U = started(make, rng)
    block.rescale()
    target, *_ = targeted(block, rng)
    block._parts(target)[2][:] = 0  # of the row equation; it enters that of the slacks squared
    block.pull_back(target)
    step = block.expand(0.1 * rng.normal(size=U.shape), np.zeros(0), target)
    T, corners, rows = block._parts(block.second_order(step))
    dW, dq, dx, de, dz = block._changes(step)
    t = 1e-4
    q = block.q + t * dq if block.corners else block.q
    bend = block._remainder(block.E + t * de, q, block.x + t * dx) - block.T
    bend = (bend - t * block.root @ block._parts(step.primal)[0] @ block.root.T) / t**2
    scaled = block.root_inverse @ bend @ block.root_inverse.T
    product = block._parts(step.primal)[0] @ block._parts(step.dual)[0]
    sums = block.lmbda[:, None] + block.lmbda
    assert -(product + product.T) / sums - scaled == pytest.approx(T, rel=5e-2, abs=1e-3 * np.abs(T).max())
    W, z = block.W + t * dW, block.z + t * dz
    missing = (block.E + t * de) @ W + q[:, None] * z
    assert missing / t**2 == pytest.approx(-rows, abs=1e-3 * np.abs(rows).max())
    if block.corners:
        slack = block.weight - np.einsum("ia,ab,ib->i", z, np.linalg.inv(W), z)
        left = (q * slack - block.corner * (block.corner + t * block._parts(target)[1])) / t**2
        assert left == pytest.approx(-block.corner * corners, rel=5e-2, abs=1e-3 * np.abs(left).max())


@spectral
def test_the_longest_step_ends_before_the_boundary_and_near_it(make, rng):
    block, U = started(make, rng)
    off_center(block, U, rng)
    for size in (1e-3, 0.3, 10.0):
        target, *_ = targeted(block, rng)
        block.pull_back(target)
        step = block.expand(size * rng.normal(size=U.shape), np.zeros(0), target)
        length = block.max_step(step, 1.0)
        assert 0 < length <= 1
        dW, dq, dx, de, dz = block._changes(step)

        def smallest(t, dW=dW, dq=dq, dx=dx, de=de, dz=dz):
            q = block.q + t * dq if block.corners else block.q
            W, z = block.W + t * dW, block.z + t * dz
            T = block._remainder(block.E + t * de, q, block.x + t * dx)
            slack = block.weight - np.einsum("ia,ab,ib->i", z, np.linalg.inv(W), z) if block.corners else np.ones(1)
            return min(np.linalg.eigvalsh(T)[0], np.linalg.eigvalsh(W)[0], slack.min(), q.min())

        assert smallest(0.999 * length) > 0
        assert length == 1 or smallest(min(3 * length, 1.0)) < 0  # the search is coarse


def test_search_for_the_last_nonnegative_value(rng):
    assert last_nonnegative(lambda t: 1 - t, 2.0, 0.02) == pytest.approx(1, abs=0.02)
    assert last_nonnegative(lambda t: 1 - t, 0.5, 0.02) == 0.5
    for _ in range(50):
        a, b = rng.normal(), np.exp(3 * rng.normal())
        end = (a + np.sqrt(a * a + 4 * b)) / (2 * b)  # of 1 + a t - b t^2
        found = last_nonnegative(lambda t, a=a, b=b: 1 + a * t - b * t * t, 3 * end, 0.02)
        assert 0.5 * end < found <= end


@pytest.mark.parametrize("d", [1, 2, 5])
def test_symmetric_vectors_are_isometric(d, rng):
    A = rng.normal(size=(d, d))
    A = A + A.T
    assert to_matrix(to_vector(A), d) == pytest.approx(A)
    assert np.linalg.norm(to_vector(A)) == pytest.approx(np.linalg.norm(A))
    V = symmetric_basis(d, traceless=True)
    assert V.T @ V == pytest.approx(np.eye(V.shape[1]))
    assert all(abs(np.trace(to_matrix(v, d))) < 1e-12 for v in V.T)


@spectral
def test_fraction_and_whole_inequality_agree(make, monkeypatch):
    """Many features and few units keep the inequality whole; both forms end at the same verified optimum."""
    X, y, net = regression(seed=3, n=40, d=12, p=5)
    found = {}
    for factor in (0.0, np.inf):
        monkeypatch.setattr(_full_block, "SPLIT_FACTOR", factor)
        found[factor] = solve(make(X, y, net), solver="interior_point")
        assert found[factor].is_optimal
    low, high = (found[factor] for factor in (0.0, np.inf))
    assert low.lower_bound <= high.objective * (1 + 1e-12)
    assert high.lower_bound <= low.objective * (1 + 1e-12)


@spectral
def test_a_fraction_that_stalls_is_solved_as_a_whole(make, monkeypatch):
    def fail(self):
        raise np.linalg.LinAlgError("no")

    program = make(*regression())
    expected = solve(program, solver="interior_point")
    monkeypatch.setattr(FractionalBlock, "rescale", fail)
    solution = solve(program, solver="interior_point")
    assert solution.is_optimal
    assert solution.objective == pytest.approx(expected.objective, rel=2e-6)
    monkeypatch.setattr(_full_block, "LARGEST_WHOLE", 0)
    assert solve(program, solver="interior_point").status == "stalled"


@spectral
@pytest.mark.parametrize("broken", ["_start", "rescale"])
def test_nothing_found_is_lost_when_the_whole_inequality_fails(make, broken, monkeypatch):
    """The iterate at which the fraction stalled is looked at, and its iterations count."""

    def fail(self, *args):
        raise np.linalg.LinAlgError("no")

    program = make(*regression())
    rescale, begun = FractionalBlock.rescale, iter(range(5))
    expected = solve(program, solver="interior_point", max_iter=5)
    assert expected.status == "max_iter"
    monkeypatch.setattr(FractionalBlock, "rescale", lambda self: (fail if next(begun, None) is None else rescale)(self))
    monkeypatch.setattr(SpectralBlock, broken, fail)
    solution = solve(program, solver="interior_point")
    assert (solution.status, solution.iterations) == ("stalled", 5)
    assert (solution.objective, solution.lower_bound) == (expected.objective, expected.lower_bound)


def test_a_pair_of_the_other_regularizer_is_refused(rng):
    joint_block, U = started(joint, rng)
    fixed_block, V = started(PROGRAMS["fixed"], rng)
    states = joint_block.state(), fixed_block.state()
    assert joint_block.resume(states[0], U, 0.5)
    assert fixed_block.resume(states[1], V, 0.5)
    assert not joint_block.resume(states[1], U, 1.0)
    assert not fixed_block.resume(states[0], V, 1.0)


@spectral
def test_units_that_are_all_bias_have_a_start(make, rng):
    block, U = started(make, rng)
    U[: block.d] = 0
    assert np.isfinite(block.start(U, MU)).all()
    assert np.linalg.eigvalsh(block.T)[0] > 0
    assert np.linalg.eigvalsh(block.W)[0] > 0


def test_the_whole_inequality_is_taken_where_features_are_many():
    def problem(n, d, p):
        return SimpleNamespace(n=n, size=p * (d + 1), p=p, n_weights=d)

    assert pays_to_split(problem(175, 7, 100))
    assert pays_to_split(problem(10_000, 20, 100))
    assert not pays_to_split(problem(100, 60, 20))
    assert not pays_to_split(problem(1000, 784, 50))  # 308,504 rows would be added
