"""The scoped thread limit: in force inside, gone outside, never set by another thread."""

import threading

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from convexnn.network import Network
from convexnn.patterns import extract
from convexnn.restrictions import LipschitzProgram
from convexnn.solvers import solve
from convexnn.threads import one_thread


def numbers():
    return [pool["num_threads"] for pool in ThreadpoolController().info() if pool["user_api"] == "blas"]


@pytest.fixture
def two_threads():
    with threadpool_limits(2):
        if 2 not in numbers():
            pytest.skip("BLAS has one core here")
        yield


def test_limit_is_scoped_and_nests(two_threads):
    before = numbers()
    with one_thread():
        assert set(numbers()) == {1}
        with one_thread():
            assert set(numbers()) == {1}
        assert set(numbers()) == {1}
    assert numbers() == before


def test_large_work_keeps_its_threads(two_threads):
    before = numbers()
    with one_thread(False):
        assert numbers() == before


def test_errors_lift_the_limit(two_threads):
    before = numbers()
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert numbers() == before


def test_only_the_main_thread_changes_it(two_threads):
    before = numbers()
    seen = []

    def other():
        with one_thread():
            seen.append(numbers())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [before]
    assert numbers() == before


def test_solve_leaves_no_limit_behind(two_threads, rng):
    before = numbers()
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    network = Network.shallow(rng.standard_normal((4, 2)), rng.standard_normal(4), rng.standard_normal(4))
    solve(LipschitzProgram(X, y, extract(network, X)))
    assert numbers() == before
