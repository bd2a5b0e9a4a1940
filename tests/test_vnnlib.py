"""VNN-LIB: what is read, where errors are, and that writing and reading gives the same numbers."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convexnn.exceptions import InvalidInputError
from convexnn.exchange import Case, Property, counterexample_text, parse_vnnlib, read_vnnlib, write_vnnlib

DECLARED = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)\n"
BOX = "(assert (and (>= X_0 -1) (<= X_0 1) (>= X_1 0) (<= X_1 .5)))\n"


def read(*conditions, box=BOX):
    return parse_vnnlib(DECLARED + box + "".join(f"(assert {condition})" for condition in conditions))


def rows(*conditions):
    (case,) = read(*conditions).cases
    return case.rows.tolist(), case.offset.tolist()


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "row", "offset"),
    [
        ("(>= Y_0 Y_1)", [1, -1], 0),
        ("(<= Y_0 Y_1)", [-1, 1], 0),
        ("(<= Y_0 2.5e-1)", [-1, 0], 0.25),
        ("(>= 3 Y_1)", [0, -1], 3),
        ("(not (< Y_0 Y_1))", [1, -1], 0),
        ("(not (not (>= Y_0 1)))", [1, 0], -1),
        ("(>= (+ Y_0 (* 2 Y_1) 1) (- Y_1 Y_0))", [2, 1], 1),
        ("(<= (- Y_0) (/ Y_1 4))", [1, 0.25], 0),
        ("(>= (* 2 (+ Y_0 1) -3) 0)", [-6, 0], -6),
        ("(>= (- (* Y_0 2) Y_0 1 Y_1) 0)", [1, -1], -1),
    ],
)
def test_linear_conditions(condition, row, offset):
    assert rows(condition) == ([row], [offset])


def test_conditions_that_are_several():
    assert rows("(= Y_0 2)") == ([[-1, 0], [1, 0]], [2, -2])
    assert rows("(<= 0 Y_0 Y_1)") == ([[1, 0], [-1, 1]], [0, 0])
    assert rows("(and (>= Y_0 0) (and (>= Y_1 0) true))") == ([[1, 0], [0, 1]], [0, 0])
    different = read("(not (= Y_0 2))").cases
    assert [case.rows.tolist() for case in different] == [[[1, 0]], [[-1, 0]]]
    assert all(case.strict.all() for case in different)


def test_alternatives_are_multiplied_out():
    prop = read("(or (>= Y_0 0) (and (>= Y_1 0) (>= Y_1 1)))", "(or (<= Y_0 9) (<= Y_1 9))")
    assert [len(case.rows) for case in prop.cases] == [2, 2, 3, 3]
    negated = read("(not (and (>= Y_0 0) (or (>= Y_1 0) (>= Y_1 1))))")  # de Morgan
    assert [case.rows.tolist() for case in negated.cases] == [[[-1, 0]], [[0, -1], [0, -1]]]
    assert read("(or)").cases == ()
    assert read("(or false (>= 0 1) )").cases[0].offset.tolist() == [-1]


def test_boxes_of_their_own_and_mixed_conditions():
    prop = parse_vnnlib(
        DECLARED + "(assert (>= X_0 0)) (assert (<= X_1 8))"
        "(assert (or (and (<= X_0 1) (>= X_1 2) (>= Y_0 X_1)) (and (<= X_0 3) (>= X_1 4) (<= (* 2 X_0) 1) (> X_0 0))))"
    )
    one, two = prop.cases
    assert (one.lower.tolist(), one.upper.tolist()) == ([0, 2], [1, 8])
    assert (one.rows.tolist(), one.input_rows.tolist()) == ([[1, 0]], [[0, -1]])
    assert two.lower.tolist() == [0, 4]
    assert two.upper[0] == np.nextafter(0.5, 1)  # rounded outward; the row below says the rest
    assert two.input_rows.tolist() == [[-2, 0], [1, 0]]
    assert two.strict.tolist() == [False, True]
    points = np.array([[0.0, 5.0], [0.5, 5.0], [0.25, 5.0], [0.6, 5.0]])
    assert two.contains(points, np.zeros((4, 2))).tolist() == [False, True, True, False]


def test_empty_boxes_vanish_and_equalities_fix_inputs():
    assert read("(>= X_0 2)", "(>= Y_0 0)").cases == ()
    (case,) = read("(= X_0 0.5)").cases
    assert case.lower[0] == case.upper[0] == 0.5
    assert case.rows.shape == (0, 2)


def test_comments_logic_and_compressed_files(tmp_path):
    text = "; a comment (with\n(set-logic QF_LRA)(declare-fun X_0 () Real) ; more\n(declare-const Y_0 Real)"
    text += "(assert (<= 0 X_0 1))(assert (>= Y_0 +1e2))(check-sat)(get-model)"
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    assert read_vnnlib(tmp_path / "p.vnnlib.gz") == parse_vnnlib(text)
    (tmp_path / "bad.vnnlib.gz").write_bytes(b"\x1f\x8b garbage")
    with pytest.raises(InvalidInputError, match="compressed"):
        read_vnnlib(tmp_path / "bad.vnnlib.gz")
    (tmp_path / "latin.vnnlib").write_bytes(b"; \xff")
    with pytest.raises(InvalidInputError, match="UTF-8"):
        read_vnnlib(tmp_path / "latin.vnnlib")


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("(>= Z_0 1)", r"line 3, column 13: 'Z_0' is neither a number nor a declared variable"),
        ("(>= Y_2 1)", "'Y_2' is neither"),
        ("(>= (* Y_0 Y_1) 1)", "column 13: a product of two variables is not linear"),
        ("(>= (/ 1 Y_0) 1)", r"\(/ ...\) is not supported"),
        ("(>= (/ Y_0 0) 1)", r"\(/ ...\) is not supported"),
        ("(>= Y_0 nan)", "'nan' is neither"),
        ("(>= Y_0 1e999)", "'1e999' is too large"),
        ("(>= (* 1e300 1e300 Y_0) 0)", "overflow"),
        ("(>= Y_0)", "needs two sides"),
        ("(>= Y_0 (>= Y_1 0))", "needs numbers and variables"),
        ("(and Y_0 (>= Y_1 0))", "needs conditions, not numbers"),
        ("(not (>= Y_0 0) (>= Y_1 0))", "needs one condition, got 2"),
        ("(=> (>= Y_0 0) (>= Y_1 0))", "known are and, or, not"),
        ("(exp Y_0)", r"\(exp ...\) is not supported"),
        ("Y_0", "a condition was expected"),
        ("()", r"\( ...\) needs numbers"),
        ("((>= Y_0 0))", "needs numbers and variables"),
    ],
)
def test_conditions_that_are_refused(condition, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_vnnlib(DECLARED + BOX + f"(assert {condition})")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (>= Y_0 0)", "line 1, column 1: this parenthesis is never closed"),
        ("\n )", "line 2, column 2: this parenthesis closes nothing"),
        ("hello", "'hello' stands where a command"),
        ('(set-info "a)', "stands where a command"),
        ("(assert)", "needs one condition"),
        ("(define-fun f () Real 1)", "the command 'define-fun' is not known"),
        ("(vnnlib-version <2.0>)", "version 2 is not read"),
        ("(declare-const X_0 Int)", "expected .declare-const X_i Real"),
        ("(declare-const input Real)", "'input' is not the name X_i"),
        ("(declare-const X_00 Real)", "'X_00' is not the name"),
        ("(declare-const X_99999999 Real)", "is not the name"),
        ("(declare-const X_0 Real)(declare-const X_0 Real)", "column 25: X_0 is declared twice"),
        ("(declare-const Y_0 Real)", "declares no X_0"),
        ("(declare-const X_1 Real)(declare-const Y_0 Real)", "declares X_1 but not X_0"),
        ("", "declares no X_0"),
    ],
)
def test_texts_that_are_refused(text, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_vnnlib(text)


def test_inputs_without_bounds_are_named():
    with pytest.raises(InvalidInputError, match="the input X_1 has no upper bound"):
        read("(>= Y_0 0)", box="(assert (<= 0 X_0 1))(assert (>= X_1 0))")


def test_formulas_that_explode_are_refused_and_deep_ones_are_read():
    pair = "(or (>= Y_0 0) (>= Y_1 0))"
    assert len(read(*[pair] * 7).cases) == 128
    with pytest.raises(InvalidInputError, match=r"has \d+ alternatives"):
        read(*[pair] * 60)
    with pytest.raises(InvalidInputError, match=r"has \d+ alternatives"):
        read(f"(and {pair * 60})")
    with pytest.raises(InvalidInputError, match=r"has \d+ alternatives"):
        read("(and " * 40 + pair + f" {pair})" * 40)
    depth = 3_001  # three times the limit of the interpreter
    assert rows("(not " * depth + "(>= Y_0 1)" + ")" * depth) == ([[-1, 0]], [1])
    assert rows("(>= " + "(+ 1 " * depth + "Y_0" + ")" * depth + " 0)") == ([[1, 0]], [depth])


# -- writing --------------------------------------------------------------------------------------


numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
entries = st.one_of(st.sampled_from([0.0, 1.0, -1.0]), numbers)


@st.composite
def properties(draw):
    d, k = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def case():
        ends = [sorted(draw(st.tuples(numbers, numbers))) for _ in range(d)]
        q = draw(st.integers(0, 3))
        C = np.array(draw(st.lists(st.lists(entries, min_size=k, max_size=k), min_size=q, max_size=q))).reshape(q, k)
        A = np.array(draw(st.lists(st.lists(entries, min_size=d, max_size=d), min_size=q, max_size=q))).reshape(q, d)
        A[(C == 0).all(axis=1)] = 0.0  # a condition on one input alone is a bound of the box
        offset = draw(st.lists(numbers, min_size=q, max_size=q))
        strict = draw(st.lists(st.booleans(), min_size=q, max_size=q))
        return Case(np.array([e[0] for e in ends]), np.array([e[1] for e in ends]), C, offset, A, strict)

    cases = [case() for _ in range(draw(st.integers(0, 3)))]
    if cases and draw(st.booleans()):
        first = cases[0]
        cases = [Case(first.lower, first.upper, c.rows, c.offset, c.input_rows, c.strict) for c in cases]
    return Property(tuple(cases), d, k)


@given(properties())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_bit_for_bit(tmp_path, prop):
    assert read_vnnlib(write_vnnlib(tmp_path / "p.vnnlib", prop)) == prop


@given(st.text(alphabet='()+-*/<>=. \n;XY_01ande|"', max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_or_refused_in_words(text):
    for start in ("", DECLARED + BOX, DECLARED + BOX + "(assert "):
        try:
            prop = parse_vnnlib(start + text)
        except InvalidInputError as error:
            assert str(error)  # noqa: PT017
        else:
            assert (prop.n_inputs, prop.n_outputs) == (2, 2)


def test_short_forms_that_every_reader_knows(tmp_path):
    prop = Property.of_classification([0.5, 0.25], 1, 0.5, n_outputs=3, clip=(0.0, 1.0))
    text = write_vnnlib(tmp_path / "p.vnnlib", prop).read_text()
    assert "(assert (<= X_1 0.75))" in text
    assert "(and (>= Y_0 Y_1))" in text
    assert prop.cases[1].rows.tolist() == [[0, -1, 1]]
    assert read_vnnlib(tmp_path / "p.vnnlib") == prop


def test_classification_with_one_output_and_bad_arguments():
    negative, positive = (Property.of_classification([0.0], label, 1.0, n_outputs=1) for label in (0, 1))
    assert (negative.cases[0].rows.tolist(), positive.cases[0].rows.tolist()) == ([[1]], [[-1]])
    for label, radius, clip in (
        (3, 1.0, None),
        (0, -1.0, None),
        (0, np.inf, None),
        (0, 1.0, (5, 6)),
        (0, np.nan, None),
    ):
        with pytest.raises(InvalidInputError):
            Property.of_classification([0.0], label, radius, n_outputs=3, clip=clip)


def test_cases_that_contradict_themselves_are_refused():
    good = {"lower": [0.0], "upper": [1.0], "rows": [[1.0]], "offset": [0.0]}
    for bad in ({"lower": [2.0]}, {"rows": [[np.nan]]}, {"offset": [0.0, 1.0]}, {"input_rows": [[1.0, 2.0]]}):
        with pytest.raises(InvalidInputError):
            Case(**{**good, **bad})
    with pytest.raises(InvalidInputError, match="Every case must have 2 inputs"):
        Property((Case(**good),), 2, 1)
    case = Case(**good)
    with pytest.raises(ValueError, match="read-only"):
        case.lower[0] = 5.0


def test_counterexamples_in_the_format_of_the_competition():
    assert counterexample_text([0.1, -0.0], [1e-30]) == "sat\n((X_0 0.1)\n(X_1 0.0)\n(Y_0 1e-30))\n"
    assert counterexample_text(None, None, "unsat") == "unsat\n"
