"""Robustness and stage tables: the sandwich, recomputation, and what the writers keep."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import CertificateError, InvalidInputError
from convexnn.network import Network
from convexnn.report import (
    Sheet,
    Stage,
    robustness_sheet,
    robustness_table,
    stage_sheet,
    stage_table,
    to_csv,
    to_markdown,
    to_rich,
    to_text,
    transposed,
)
from convexnn.report.versions import versions_text

RADII = [0.05, 0.2, 0.8]
FAST = {"steps": 5, "restarts": 1, "random_state": 0}


def random_network(rng, units=6, d=3):
    return Network.shallow(
        rng.standard_normal((units, d)), rng.standard_normal(units), rng.standard_normal(units), rng.standard_normal()
    )


@pytest.fixture
def data(rng):
    return rng.standard_normal((30, 3)), rng.standard_normal(30)


@pytest.fixture
def models(rng):
    return {"a": random_network(rng), "b": random_network(rng, units=1)}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_clean_attacked_and_certified_errors_are_in_order(models, data, norm):
    table = robustness_table(models, *data, RADII, norm=norm, **FAST)
    assert table.names == ("a", "b")
    assert (table.clean[:, None] <= table.attacked).all()
    assert (table.attacked <= table.certified * (1 + 1e-9)).all()
    assert (np.diff(table.attacked, axis=1) >= 0).all()
    assert (np.diff(table.certified, axis=1) >= 0).all()


def test_at_radius_zero_all_three_errors_agree(models, data):
    table = robustness_table(models, *data, [0.0], **FAST)
    np.testing.assert_allclose(table.attacked[:, 0], table.clean, rtol=1e-12)
    np.testing.assert_allclose(table.certified[:, 0], table.clean, rtol=1e-9, atol=1e-12)  # covers the rounding


def test_one_linear_unit_makes_the_sandwich_tight(data):
    # One unit that is active on every ball is linear there: f(x) = v (w'x + b), so the worst squared error in the
    # l2 ball is (|f(x) - y| + radius |v| |w|)^2, and LipSDP of one unit is |v| |w|.
    X, y = data
    w, b, v = np.array([1.0, -2.0, 2.0]), 100.0, 0.5
    network = Network.shallow(w[None], [b], [v])
    table = robustness_table({"linear": network}, X, y, RADII, steps=20, restarts=1, random_state=0)
    worst = (np.abs(v * (X @ w + b) - y)[None] + np.array(RADII)[:, None] * 1.5) ** 2
    np.testing.assert_allclose(table.attacked[0], worst, rtol=1e-6)
    np.testing.assert_allclose(table.certified[0], worst, rtol=1e-6)


def test_means_are_those_of_the_samples(models, data):
    table = robustness_table(models, *data, RADII, **FAST)
    np.testing.assert_array_equal(table.attacked_mse, table.attacked.mean(axis=2))
    np.testing.assert_array_equal(table.certified_mse, table.certified.mean(axis=2))
    X, y = data
    np.testing.assert_allclose(table.clean_mse, [np.mean((f(X) - y) ** 2) for f in models.values()])
    np.testing.assert_array_equal(table.lipschitz, [lipschitz(f).bound for f in models.values()])


def test_radii_are_sorted_and_merged(models, data):
    assert robustness_table(models, *data, [0.2, 0.05, 0.2], **FAST).radii.tolist() == [0.05, 0.2]


def test_a_given_certificate_must_be_of_the_network(models, data):
    swapped = {"a": lipschitz(models["b"])}
    with pytest.raises(CertificateError, match="another network"):
        robustness_table(models, *data, RADII, certificates=swapped, **FAST)


def test_a_lying_certificate_is_refused(models, data):
    honest = lipschitz(models["a"])
    lying = replace(honest, bound=honest.bound / 2)
    with pytest.raises(CertificateError, match="not the claimed"):
        robustness_table(models, *data, RADII, certificates={"a": lying}, **FAST)


def test_an_attack_above_a_certificate_is_an_error(models, data):
    table = robustness_table(models, *data, RADII, **FAST)
    with pytest.raises(CertificateError, match="exceeds"):
        replace(table, certified=table.attacked * 0.9)


@pytest.mark.parametrize(
    ("radii", "options", "match"),
    [
        ([], {}, "radii"),
        ([-1.0], {}, "radii"),
        ([np.nan], {}, "radii"),
        ([0.1], {"norm": "l1"}, "norm"),
    ],
)
def test_unusable_radii_and_norms(models, data, radii, options, match):
    with pytest.raises(InvalidInputError, match=match):
        robustness_table(models, *data, radii, **options)


def test_no_models_and_numbers_for_labels(data, rng):
    with pytest.raises(InvalidInputError, match="No models"):
        robustness_table({}, *data, RADII)
    wide = Network.shallow(rng.standard_normal((4, 3)), np.zeros(4), rng.standard_normal((2, 4)))
    with pytest.raises(InvalidInputError, match="one of the 2 class labels"):
        robustness_table({"wide": wide}, *data, RADII)


# -- stages ---------------------------------------------------------------------------------------


@pytest.fixture
def stages(models):
    return [Stage(name, network, seconds=1.5) for name, network in models.items()]


def test_stage_objectives_are_recomputed_from_the_networks(stages, data):
    X, y = data
    table = stage_table(stages, data, data, RADII, lam=0.3, lam_l2=0.01, **FAST)
    for stage, row in zip(stages, table.rows, strict=True):
        f = stage.network
        loss, bound = np.mean((f(X) - y) ** 2), lipschitz(f).bound
        assert row.objective == pytest.approx(loss + 0.3 * bound**2)
        # a unit (w, b, v) may be rescaled to (a w, a b, v / a): the smallest sum of squares is 2 |v| |(w, b)|
        balanced = 2 * sum(abs(v) * np.hypot(np.linalg.norm(w), b) for w, b, v in zip(f.W, f.b, f.v, strict=True))
        assert row.objective_l2 == pytest.approx(loss + 0.01 * balanced)
        assert row.objective_l2 <= loss + 0.01 * ((f.W**2).sum() + (f.b**2).sum() + (f.v**2).sum())
        assert row.test_mse == pytest.approx(loss)
        assert row.lipschitz == pytest.approx(bound)
        assert row.gap == np.inf


def test_stages_need_distinct_names(stages, data):
    twice = [stages[0], replace(stages[1], name=stages[0].name)]
    with pytest.raises(InvalidInputError, match="names of the stages must differ"):
        stage_table(twice, data, data, RADII, lam=0.1, **FAST)


def test_stage_sheet_shows_every_radius_and_says_what_the_gap_is_of(stages, data):
    table = stage_table(stages, data, data, RADII, lam=0.3, **FAST)
    sheet = stage_sheet(table)
    assert all(len(row) == len(sheet.columns) for row in sheet.rows)
    assert sum(label.startswith("attacked") for label in sheet.columns) == len(RADII)
    assert "own convex program" in " ".join(sheet.notes)
    assert sheet.columns[-2] == "certified\n0.2"
    assert stage_sheet(table, 0.8).columns[-2] == "certified\n0.8"
    assert sheet.rows[0][3] is None  # no program, no gap
    with pytest.raises(InvalidInputError, match="must be one of"):
        stage_sheet(table, 0.3)


# -- writing --------------------------------------------------------------------------------------

SHEET = Sheet("T", ("name", "x\ny"), (("a|b", 1 / 3), ("c", None)), ("a note",))


def test_csv_keeps_all_digits():
    rows = list(csv.reader(io.StringIO(to_csv(SHEET))))
    assert rows[0] == ["name", "x y"]
    assert rows[1][0] == "a|b"
    assert float(rows[1][1]) == 1 / 3
    assert rows[2] == ["c", ""]


def test_markdown_escapes_bars_and_keeps_notes():
    lines = to_markdown(SHEET).splitlines()
    assert lines[0] == "| name | x y |"
    assert lines[1] == "| --- | ---: |"
    assert lines[2] == r"| a\|b | 0.3333 |"
    assert lines[3] == "| c | - |"
    assert lines[-1] == "- a note"


def test_text_aligns_columns():
    lines = to_text(SHEET).splitlines()
    assert [
        line.index(cell) + len(cell) for line, cell in zip(lines[1:2] + lines[3:5], ["y", "0.3333", "-"], strict=True)
    ]
    ends = {len(line) for line in (lines[0], lines[1], lines[3], lines[4])}
    assert len(ends) == 1
    assert str(SHEET) == to_text(SHEET)


def test_transposing_twice_keeps_the_numbers():
    turned = transposed(SHEET)
    assert turned.columns == ("name", "a|b", "c")
    assert turned.rows == (("x y", 1 / 3, None),)


def test_rich_shows_the_same_cells(models, data):
    from rich.console import Console

    sheet = robustness_sheet(robustness_table(models, *data, RADII, **FAST))
    console = Console(width=200, file=io.StringIO())
    console.print(to_rich(sheet))
    shown = console.file.getvalue()
    text = to_text(Sheet(sheet.title, sheet.columns, sheet.rows))
    for cell in text.split():
        assert set(cell) == {"-"} or cell in shown


@pytest.mark.parametrize("write", [to_text, to_markdown, lambda sheet: to_text(transposed(sheet))])
def test_bounds_are_written_on_the_side_on_which_they_stay_bounds(write):
    # 1/3 and 2/3 have no last digit: four of them are below and above, or above and below
    third, two = 1.0 / 3.0, 2.0 / 3.0
    columns = ("model", "clean", "attacked >=", "certified <=", "attacked\n0.1", "certified\n0.1")
    text = write(Sheet("", columns, (("a", two, two, third, two, third),)))
    numbers = [word for word in text.replace("|", " ").split() if word.startswith("0.") and len(word) == 6]
    assert numbers == ["0.6667", "0.6666", "0.3334", "0.6666", "0.3334"]


def test_versions_name_what_runs_from_a_source_folder():
    text = versions_text("numpy", "no-such-package")
    assert text.startswith(f"numpy {np.__version__}, no-such-package (not installed), Python 3.")
