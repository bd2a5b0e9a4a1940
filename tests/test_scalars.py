"""Scalar parameters of public functions that come as text, booleans, complex numbers, arrays or NaN: a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn import ConvexNNError, InvalidInputError, Monotone, SafeSNNRegressor, guarantees, train_constrained
from convexnn.constraints import ConstrainedOptions, monotone_constraints
from convexnn.inputs import as_number, generator_of, is_one_of, positive_number, seconds_or_none, whole_number
from convexnn.propagation import Effort
from convexnn.refinement import HeadOptions, RefineOptions
from tests._scalars import CALLS, NETWORK, WRONG, X, Y, scalars

COUNTS = "rounds", "max_nodes", "n_patterns", "seed", "max_iter"


def answers(name):
    """What is not refused in a sentence: parameter, what came, what happened."""
    for parameter in scalars(name):
        for label, value in WRONG.items():
            try:
                CALLS[name](**{parameter: value})
            except ConvexNNError as error:
                if len(str(error)) < 20:
                    yield parameter, label, str(error)
            except Exception as error:  # noqa: BLE001
                yield parameter, label, repr(error)
            else:
                yield parameter, label, "taken"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_number_is_refused_in_a_sentence(name) -> None:
    assert not list(answers(name))


def test_every_call_has_scalars() -> None:
    assert not [name for name in CALLS if not list(scalars(name))]
    assert sum(len(list(scalars(name))) for name in CALLS) > 150


def test_numbers() -> None:
    assert positive_number(np.float32(2), "it") == 2.0
    assert positive_number(0, "it", zero=True) == 0.0
    assert positive_number(np.inf, "it", infinite=True) == np.inf
    assert whole_number(3.0, "it") == whole_number(np.int8(3), "it") == 3
    assert seconds_or_none(None) is None
    assert seconds_or_none(0) == 0.0
    assert is_one_of(2.0, (2, np.inf))
    assert not any(
        is_one_of(value, (1, 2)) for value in (np.array([1, 2]), np.array([1]), np.array(1), [1], True, "1", {})
    )
    assert generator_of(3).random() == np.random.default_rng(3).random()
    for wrong in (True, np.True_, "1", 1j, [1.0], np.ones(1)):
        with pytest.raises(InvalidInputError, match="^it "):
            as_number(wrong, "it")
    for wrong in (0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidInputError, match=f"it={wrong!r} was given; expected a finite number > 0"):
            positive_number(wrong, "it")
    for wrong in (0, 2.5, np.nan, np.inf):
        with pytest.raises(InvalidInputError, match="expected an integer of at least 1"):
            whole_number(wrong, "it")
    for wrong in (-1, np.nan):
        with pytest.raises(InvalidInputError, match="seconds, or None"):
            seconds_or_none(wrong)
    for wrong in (True, "3", 2.5, -1, object()):
        with pytest.raises(InvalidInputError, match="random_state must be"):
            generator_of(wrong)


def test_counts_that_come_as_floats_are_kept_as_integers() -> None:
    options = ConstrainedOptions(rounds=2.0, max_nodes=3.0), HeadOptions(rounds=2.0, n_patterns=3.0, max_iter=9.0)
    options += RefineOptions(max_iter=5.0), Effort(seed=4.0, max_iter=0.0)
    kept = [getattr(one, name) for one in options for name in COUNTS if getattr(one, name, None) is not None]
    assert kept == [2, 3, 2, 3, 9, 5, 4, 0]
    assert {type(value) for value in kept} == {int}


@pytest.mark.parametrize("wrong", [5, 0.5, object(), Monotone])
def test_what_is_no_constraint_is_refused_in_a_sentence(wrong) -> None:
    for call in (
        lambda: guarantees(NETWORK, wrong),
        lambda: train_constrained(X, Y, wrong),
        lambda: SafeSNNRegressor(regularizer="l2", constraints=wrong).fit(X, Y),
    ):
        with pytest.raises(InvalidInputError, match=r"[Cc]onstraints? (must be|such as)|Expected constraints"):
            call()


@pytest.mark.parametrize("wrong", [[[1], [0, 1]], [1, [0]], [1j, 0], ["1", 0], [True, False], [np.nan, 0], 1, [[1, 0]]])
def test_what_is_no_monotonic_cst_is_refused_in_a_sentence(wrong) -> None:
    with pytest.raises(InvalidInputError, match="monotonic_cst"):
        monotone_constraints(wrong, 2)
