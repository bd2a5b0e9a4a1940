"""Two hundred hostile instances: certified or honest, feasible, never worse than the start."""

import pytest

from tests._hostile import complaints, hostile, solve_quietly

TOL = 1e-6
BLOCKS, SIZE = 8, 25


def run(seeds, choose=lambda problem: (problem.network, problem.programs()), **options):
    """Complaints over the chosen programs of the seeds, how many were solved, and how many to optimality."""
    found, solved, optimal = [], 0, 0
    for seed in seeds:
        network, programs = choose(hostile(seed))
        for program in programs:
            solution = solve_quietly(program, tol=TOL, **options)
            solved, optimal = solved + 1, optimal + solution.is_optimal
            wrong = complaints(program, network, solution, TOL)
            found += [f"seed {seed}, {program.name}: {text}" for text in wrong]
    return found, solved, optimal


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_hostile_instance_ends_certified_or_honest_and_never_worse(block):
    found, solved, optimal = run(range(SIZE * block, SIZE * (block + 1)), solver="interior_point")
    assert found == []
    assert optimal >= 0.95 * solved


def test_hostile_instances_with_other_losses():
    def choose(problem):
        return problem.network, problem.with_other_losses()

    found, solved, optimal = run(range(40), choose, solver="interior_point")
    assert found == []
    assert optimal >= 0.95 * solved


def test_hostile_instances_with_several_outputs():
    found, solved, optimal = run(range(30), lambda problem: problem.vector(), solver="interior_point")
    assert found == []
    assert optimal >= 0.95 * solved


@pytest.mark.parametrize("max_iter", [1, 4, 9])
def test_hostile_instances_cut_short_are_feasible_and_never_worse(max_iter):
    found, solved, optimal = run(range(300, 308), solver="interior_point", max_iter=max_iter)
    assert found == []
    assert optimal < solved


def test_hostile_instances_without_time_are_feasible_and_never_worse():
    assert run(range(320, 335), solver="interior_point", time_limit=1e-9)[0] == []


@pytest.mark.slow
def test_hostile_instances_through_every_fallback():
    found, solved, optimal = run(range(400, 420), solver="auto")
    assert found == []
    assert optimal >= 0.97 * solved
