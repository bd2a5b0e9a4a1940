"""Robustness tables: the sandwich for regressors and classifiers, radii by hand, every model type, trials."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn.attacks import FGSM, PGD, BestOf, attack
from convexnn.certificates.lipschitz import lipschitz, lipschitz_pairs
from convexnn.certificates.margins import certified_margins, certified_radii, rival_bounds
from convexnn.certificates.robustness import RobustnessTable, robustness_table
from convexnn.certificates.trials import RobustnessTrials, stack_trials
from convexnn.exceptions import CertificateError, InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.plotting import RobustnessCurveDisplay
from convexnn.report import robustness_sheet, to_text
from convexnn.threats import L2Ball, LInfBall
from tests._families import few
from tests._shared import shared_path

RADII = [0.05, 0.2, 0.8]
FAST = {"steps": 5, "restarts": 2, "random_state": 0}
NORMS = ["l2", "linf"]


def random_network(rng, k=1, units=6, d=3):
    v = rng.standard_normal((k, units))
    return Network.shallow(rng.standard_normal((units, d)), rng.standard_normal(units), v, rng.standard_normal(k))


def linear_network(A, c, size=1e3):
    """The network ``A x + c`` wherever every coordinate of ``x`` is above ``-size``: x + size is never cut off."""
    A = np.atleast_2d(np.asarray(A, dtype=float))
    return Network.shallow(np.eye(A.shape[1]), np.full(A.shape[1], size), A, np.asarray(c) - size * A.sum(axis=1))


def classifiers(rng, k):
    """Two classifiers of k classes with samples and labels; one output where k is 2."""
    outputs = 1 if k == 2 else k
    return (
        {"a": random_network(rng, outputs), "b": random_network(rng, outputs, units=15)},
        rng.standard_normal((40, 3)),
        rng.integers(k, size=40),
    )


def assert_sandwich(part):
    """Clean <= attacked <= certified for every sample, both nondecreasing in the radius."""
    assert (part.clean[:, None] <= part.attacked).all()
    assert (part.attacked <= part.certified).all()
    assert (np.diff(part.attacked, axis=1) >= 0).all()
    assert (np.diff(part.certified, axis=1) >= 0).all()


# -- the sandwich ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("k", [2, 3])
def test_errors_and_margins_of_classifiers_are_in_order(rng, norm, k):
    models, X, y = classifiers(rng, k)
    table = robustness_table(models, X, y, RADII, norm=norm, **FAST)
    assert table.task == "classification"
    for part in (table, table.margins):
        assert_sandwich(part)
    for part in (table.clean, table.attacked, table.certified):
        assert set(np.unique(part)) <= {0.0, 1.0}
    assert (table.certified_accuracy <= table.attacked_accuracy).all()
    assert (table.attacked_accuracy <= table.clean_accuracy[:, None]).all()
    assert 0 < table.attacked_accuracy[0, -1] < table.attacked_accuracy[0, 0]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("outputs", [1, 2])
def test_errors_of_regressors_are_in_order(rng, norm, outputs):
    models = {"a": random_network(rng, outputs), "b": random_network(rng, outputs)}
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, outputs))
    table = robustness_table(models, X, y, RADII, norm=norm, **FAST)
    assert table.task == "regression"
    assert table.margins is None
    assert_sandwich(table)
    error = [((f(X).reshape(20, -1) - y) ** 2).sum(axis=1) for f in models.values()]
    np.testing.assert_allclose(table.clean, error)


def test_the_errors_are_those_of_the_margins(rng):
    models, X, y = classifiers(rng, 3)
    table = robustness_table(models, X, y, RADII, **FAST)
    for name in ("clean", "attacked", "certified"):
        np.testing.assert_array_equal(getattr(table, name), getattr(table.margins, name) > 0)
    right = [np.mean(f(X).argmax(axis=1) == y) for f in models.values()]
    np.testing.assert_allclose(table.clean_accuracy, right)


@pytest.mark.parametrize("norm", NORMS)
def test_linear_classifiers_have_tight_margins_and_radii(rng, norm):
    # f = A x + c: the worst gap of rival t is (f_t - f_y)(x) + radius |A_t - A_y| in the dual norm, and the nearest
    # misclassified point lies at the least (f_y - f_t)(x) / |A_t - A_y| over the rivals.
    A, c, X = rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal((30, 3))
    network, scores = linear_network(A, c), X @ A.T + c
    y = scores.argmax(axis=1)
    table = robustness_table({"linear": network}, X, y, RADII, norm=norm, **FAST)
    dual = np.linalg.norm(A[:, None] - A[None], ord=2 if norm == "l2" else 1, axis=2)
    gaps = scores - scores[np.arange(30), y][:, None]
    rivals = np.where(np.arange(4) == y[:, None], -np.inf, 0.0)
    worst = [(gaps + radius * dual[y] + rivals).max(axis=1) for radius in RADII]
    np.testing.assert_allclose(table.margins.attacked[0], worst, rtol=1e-6, atol=1e-8)
    assert (table.margins.certified[0] >= worst).all()
    # MaxGrad and LipSDP see every neuron cut off, this network cuts none: coordinates with the same sign stay tight
    own = np.array([[lipschitz(network.margin(a, b), norm=2 if norm == "l2" else np.inf).bound if a != b else 0.0
                     for a in range(4)] for b in range(4)])  # fmt: skip
    bound = np.maximum(-gaps / np.where(own[y] > 0, own[y], 1.0), 0.0)
    expected = np.where(np.isinf(rivals), np.inf, bound).min(axis=1)
    np.testing.assert_allclose(table.certified_radii[0], expected, rtol=1e-6)


def test_one_linear_neuron_makes_the_certified_radius_the_distance(rng):
    # f(x) = w'x + b on the data: the distance to the boundary is |f(x)| / |w|_2, and |w|_2 is its Lipschitz constant.
    w, X = np.array([3.0, -4.0]), rng.standard_normal((25, 2))
    network = Network.shallow(w[None], [1e3], [1.0], -1e3 + 0.5)
    y = (network(X) > 0).astype(int)
    table = robustness_table({"f": network}, X, y, RADII, **FAST)
    distance = np.abs(X @ w + 0.5) / 5.0
    np.testing.assert_allclose(table.certified_radii[0], distance, rtol=1e-7)
    for j, radius in enumerate(RADII):
        np.testing.assert_array_equal(table.attacked[0, j], distance < radius)
        np.testing.assert_array_equal(table.certified[0, j], distance < radius)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("k", [2, 3])
def test_nothing_within_the_certified_radius_changes_the_prediction(rng, norm, k):
    for _ in range(5):
        models, X, _ = classifiers(rng, k)
        for network in models.values():
            y = (network(X) > 0).astype(int) if k == 2 else network(X).argmax(axis=1)
            radii = certified_radii(network, X, y, rival_bounds(network, norm))
            assert (radii > 0).all()
            for x, label, radius in zip(X, y, radii, strict=True):
                ball = L2Ball(radius) if norm == "l2" else LInfBall(radius)
                found = attack(network, x[None], np.array([label]), ball, steps=10, restarts=1, random_state=0)
                assert not found.success[0]


def test_margins_and_radii_agree(rng):
    network, X = random_network(rng, 3), rng.standard_normal((30, 3))
    y = network(X).argmax(axis=1)
    bounds = rival_bounds(network)
    radii = certified_radii(network, X, y, bounds)
    for i, radius in enumerate(radii):
        inside = certified_margins(network, X[[i]], y[[i]], L2Ball(radius * (1 - 1e-9)), bounds)
        outside = certified_margins(network, X[[i]], y[[i]], L2Ball(radius * (1 + 1e-6)), bounds)
        assert inside[0] < 0 < outside[0]


def test_a_wrong_prediction_has_radius_zero_and_a_constant_one_never_changes(rng):
    constant = Network.shallow(np.zeros((2, 3)), np.zeros(2), np.zeros((2, 2)), [0.0, 1.0])
    X, bounds = rng.standard_normal((2, 3)), rival_bounds(constant)
    wrong, right = certified_radii(constant, X, np.array([0, 1]), bounds)
    assert wrong == 0
    assert right > 1e300  # the bound covers the rounding of margins, so it is not exactly zero


def test_pairs_are_tighter_than_one_bound_for_all_margins(rng):
    network, X = random_network(rng, 4, units=12), rng.standard_normal((20, 3))
    y = network(X).argmax(axis=1)
    certificate = lipschitz(network)
    loose, tight = rival_bounds(network, certificate=certificate), rival_bounds(network)
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(loose[off], np.sqrt(2) * certificate.bound, rtol=1e-12)
    assert (tight[off] <= loose[off] * (1 + 1e-6)).all()
    given = robustness_table({"f": network}, X, y, RADII, certificates={"f": certificate}, **FAST)
    own = robustness_table({"f": network}, X, y, RADII, **FAST)
    assert (own.certified_radii >= given.certified_radii * (1 - 0.01)).all()  # bisection leaves one percent


def test_linf_bounds_are_no_worse_than_those_through_l2(rng):
    network, X, y = random_network(rng, units=12), rng.standard_normal((20, 3)), rng.standard_normal(20)
    certificate = lipschitz(network)
    through = robustness_table({"f": network}, X, y, RADII, norm="linf", certificates={"f": certificate}, **FAST)
    own = robustness_table({"f": network}, X, y, RADII, norm="linf", **FAST)
    assert (own.certified <= through.certified).all()
    assert own.bounds[0]["linf"][0, 0] < 0.99 * np.sqrt(3) * through.bounds[0]["l2"][0, 0]
    many = random_network(rng, 3, units=12)
    pairs = lipschitz_pairs(many, norm=np.inf)
    assert (pairs <= np.sqrt(3) * lipschitz_pairs(many) * (1 + 1e-4)).all()
    for a in range(3):
        for b in range(a):
            slow = lipschitz(many.margin(a, b), norm=np.inf)
            assert slow.lower <= pairs[a, b] <= slow.bound * (1 + 1.1e-4)


def test_an_attack_above_a_certificate_is_an_error(rng):
    models, X, y = classifiers(rng, 3)
    table = robustness_table(models, X, y, RADII, **FAST)
    with pytest.raises(CertificateError, match="exceeds"):
        replace(table, certified=np.zeros_like(table.certified))
    with pytest.raises(CertificateError, match="exceeds"):
        replace(table.margins, certified=table.margins.attacked - 1e-3)
    lifted = replace(table.margins, certified=table.margins.attacked - 1e-12)  # rounding
    np.testing.assert_array_equal(lifted.certified, table.margins.attacked)


def test_samples_outside_the_data_range_count_as_they_are(rng):
    network = random_network(rng)
    X, y = np.array([[-1.2, 0.0, 0.0], [0.5, 0.5, 0.5]]), np.zeros(2)
    table = robustness_table({"f": network}, X, y, [0.3, 0.5], clip=(-1.0, 1.0), **FAST)
    assert_sandwich(table)


# -- attacks --------------------------------------------------------------------------------------


def test_best_is_the_worse_of_both_attacks(rng):
    models, X, y = classifiers(rng, 3)
    found = {
        method: robustness_table(models, X, y, RADII, method=method, **FAST).margins.attacked
        for method in ("fgsm", "pgd", "best")
    }
    np.testing.assert_array_equal(found["best"], np.maximum(found["fgsm"], found["pgd"]))
    own = BestOf([FGSM(), PGD(5, 2)])
    same = robustness_table(models, X, y, RADII, method=own, random_state=0).margins.attacked
    np.testing.assert_array_equal(same, found["best"])
    with pytest.raises(InvalidInputError, match="BestOf needs"):
        BestOf([])


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_the_number_of_jobs_changes_nothing(rng, k):
    models = {"a": random_network(rng, k), "b": random_network(rng, k)}
    X, y = rng.standard_normal((10, 3)), rng.standard_normal(10) if k == 1 else rng.integers(k, size=10)
    tables = [robustness_table(models, X, y, RADII, n_jobs=jobs, **FAST) for jobs in (1, 2)]
    for name in ("clean", "attacked", "certified"):
        np.testing.assert_allclose(*(getattr(table, name) for table in tables), rtol=1e-12)


def test_a_generator_seeds_the_same_starts_for_every_model(rng):
    network, X, y = random_network(rng), rng.standard_normal((10, 3)), rng.standard_normal(10)
    options = {**FAST, "random_state": np.random.default_rng(3)}
    table = robustness_table({"a": network, "b": network}, X, y, RADII, **options)
    np.testing.assert_array_equal(table.attacked[0], table.attacked[1])


# -- models ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X[::3], np.array(["setosa", "versicolor", "virginica"])[y[::3]]


@pytest.mark.parametrize("binary", [True, False])
def test_scikit_learn_torch_and_networks_are_judged_alike(iris, binary):
    X, names = iris
    y = names == "setosa" if binary else names
    mlp = MLPClassifier(hidden_layer_sizes=8, solver="lbfgs", max_iter=1000, alpha=1.0, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mlp).fit(X, y)
    network = as_network(pipeline)
    models = {"pipeline": pipeline, "network": network, "torch": network.to_torch()}
    table = robustness_table(models, X, y, [0.1, 0.5], **FAST)
    np.testing.assert_allclose(table.clean_accuracy, pipeline.score(X, y))
    for other in (1, 2):
        np.testing.assert_allclose(table.margins.attacked[other], table.margins.attacked[0], rtol=1e-9)
        np.testing.assert_allclose(table.certified[other], table.certified[0])


def test_a_scalar_network_of_real_signs_is_a_classifier_when_told_so(rng):
    network, X = random_network(rng), rng.standard_normal((10, 3))
    y = np.where(network(X) > 0, 1.0, -1.0)
    assert robustness_table({"f": network}, X, y, RADII, **FAST).task == "regression"
    table = robustness_table({"f": network}, X, y, RADII, task="classification", **FAST)
    assert table.clean_accuracy.tolist() == [1.0]


@pytest.mark.parametrize("kind", [RandomForestRegressor, RandomForestClassifier])
def test_a_forest_has_no_gradient(rng, kind):
    X, y = rng.standard_normal((20, 3)), rng.integers(2, size=20)
    forest = kind(2, random_state=0).fit(X, y)
    with pytest.raises(UnsupportedModelError, match="'forest' gives no network, so there is no gradient"):
        robustness_table({"forest": forest}, X, y, RADII, **FAST)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"radii": ["a"]}, "radii must hold numbers"),
        ({"radii": (r for r in (0.1, 0.2))}, "radii must hold numbers"),
        ({"radii": []}, "at least one"),
        ({"radii": [0.1, -0.1]}, "nonnegative"),
        ({"radii": [0.1, np.nan]}, "nonnegative"),
        ({"radii": [1e200]}, r"at most 1e\+100"),
        ({"models": [Network.shallow([[1.0]], [0.0], [1.0])]}, "models must map names to models.* got list"),
        ({"certificates": {"nett": None}}, r"certificates some of these names; got \['net'\]"),
        ({"X": [["a"]]}, "X must hold numbers"),
        ({"X": [[np.nan]]}, "X contains NaN"),
    ],
)
def test_what_cannot_be_a_table_is_said(changed, message):
    given = {"models": {"net": Network.shallow([[1.0]], [0.0], [1.0])}, "X": [[1.0]], "y": [0.5], "radii": [0.1]}
    with pytest.raises(InvalidInputError, match=message):
        robustness_table(**(given | changed))


def test_radii_are_sorted_and_taken_once(rng):
    network, X = (
        Network.shallow(rng.normal(size=(4, 2)), rng.normal(size=4), rng.normal(size=4)),
        rng.normal(size=(9, 2)),
    )
    table = robustness_table({"net": network}, X, X[:, 0], [0.3, 0.0, 0.3], random_state=0)
    assert table.radii.tolist() == [0.0, 0.3]
    assert np.array_equal(table.attacked[:, 0], table.clean)
    np.testing.assert_allclose(table.certified[:, 0], table.clean, rtol=1e-9, atol=1e-12)


def test_regressors_and_classifiers_do_not_mix(rng):
    X, y = rng.standard_normal((20, 3)), rng.integers(2, size=20)
    models = {
        kind.__name__: kind(hidden_layer_sizes=3, solver="lbfgs", max_iter=500, alpha=10.0).fit(X, y)
        for kind in (MLPRegressor, MLPClassifier)
    }
    with pytest.raises(InvalidInputError, match="'MLPRegressor': regressor, 'MLPClassifier': classifier"):
        robustness_table(models, X, y, RADII, **FAST)
    with pytest.raises(InvalidInputError, match="task must be one of"):
        robustness_table(models, X, y, RADII, task="ranking", **FAST)


def test_labels_must_fit_the_outputs(rng):
    network, X = random_network(rng), rng.standard_normal((6, 3))

    class ThreeClasses:
        network_ = network
        classes_ = np.arange(3)

    with pytest.raises(InvalidInputError, match="tells 2 classes apart, but there are 3 labels"):
        robustness_table({"f": ThreeClasses()}, X, np.arange(6) % 3, RADII, **FAST)
    with pytest.raises(InvalidInputError, match="class indices 0 to 2"):
        certified_radii(random_network(rng, 3), X, np.full(6, 3), np.ones((3, 3)))


def test_mse_of_classifiers_and_accuracy_of_regressors_are_refused(rng):
    models, X, y = classifiers(rng, 2)
    table = robustness_table(models, X, y, RADII, **FAST)
    with pytest.raises(InvalidInputError, match="classification; use attacked_accuracy"):
        _ = table.attacked_mse
    regression = robustness_table(models, X, y.astype(float), RADII, **FAST)
    with pytest.raises(InvalidInputError, match="regression; use clean_mse"):
        _ = regression.clean_accuracy
    with pytest.raises(InvalidInputError, match="kind must be one of"):
        table.mean("worst")


# -- writing --------------------------------------------------------------------------------------


def test_frame_and_csv_hold_every_sample(rng, tmp_path):
    pytest.importorskip("pandas")
    models, X, y = classifiers(rng, 3)
    table = robustness_table(models, X, y, RADII, **FAST)
    frame = table.to_frame()
    assert len(frame) == 2 * len(RADII) * len(X)
    one = frame[(frame.model == "b") & (frame.radius == 0.2)]
    np.testing.assert_array_equal(one.margin_attacked, table.margins.attacked[1, 1])
    np.testing.assert_array_equal(one.certified, table.certified[1, 1])
    np.testing.assert_array_equal(one.certified_radius, table.certified_radii[1])
    rows = list(csv.DictReader(table.to_csv(tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == list(frame.columns)
    np.testing.assert_array_equal([float(row["margin_certified"]) for row in rows], frame.margin_certified)
    regression = robustness_table(models, X, rng.standard_normal((40, 3)), RADII, **FAST)
    assert "certified_radius" not in regression.to_frame()


def test_the_sheet_of_a_classifier_shows_errors(rng):
    models, X, y = classifiers(rng, 2)
    table = robustness_table(models, X, y, RADII, **FAST)
    sheet = robustness_sheet(table)
    assert sheet.columns[2:5] == ("clean error", "attacked error >=", "certified error <=")
    assert [row[3] for row in sheet.rows] == table.mean("attacked").ravel().tolist()
    assert "clean error" in to_text(sheet)


# -- trials ---------------------------------------------------------------------------------------


@pytest.fixture
def tables(rng):
    def trial(n):
        models = {"a": random_network(rng), "b": random_network(rng)}
        return robustness_table(models, rng.standard_normal((n, 3)), rng.standard_normal(n), RADII, **FAST)

    return [trial(n) for n in (8, 9, 10)]


def test_medians_and_quantiles_are_over_trials(tables):
    trials = stack_trials(tables)
    attacked = np.array([table.attacked_mse for table in tables])
    np.testing.assert_array_equal(trials.median("attacked"), np.sort(attacked, axis=0)[1])  # the middle of three
    low, high = trials.quantiles("attacked", (0.0, 1.0))
    np.testing.assert_array_equal(low, attacked.min(axis=0))
    np.testing.assert_array_equal(high, attacked.max(axis=0))
    assert trials.quantiles("clean").shape == (2, 2)
    assert trials.median("lipschitz").shape == (2,)
    assert (trials.median("attacked") <= trials.median("certified")).all()
    assert (trials.names, trials.norm, trials.task) == (("a", "b"), "l2", "regression")
    assert "3 trials" in repr(trials)


def test_trials_must_fit_together(tables):
    first = tables[0]
    for change in ({"names": ("a", "c")}, {"norm": "linf"}, {"radii": np.array([0.1, 0.2, 0.3])}):
        with pytest.raises(InvalidInputError, match=f"Trial 1 has {next(iter(change))}"):
            stack_trials([first, replace(first, **change)])
    with pytest.raises(InvalidInputError, match="one RobustnessTable or more"):
        stack_trials([])
    trials = stack_trials(tables)
    with pytest.raises(InvalidInputError, match="kind must be one of"):
        trials.median("worst")
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        trials.quantiles("clean", (25, 75))


def test_trials_are_written_one_row_a_trial_model_and_radius(tables, tmp_path):
    pytest.importorskip("pandas")
    trials = RobustnessTrials(tables)
    frame = trials.to_frame()
    assert len(frame) == 3 * 2 * 3
    picked = frame[(frame.trial == 2) & (frame.model == "b")]
    np.testing.assert_array_equal(picked.certified, tables[2].certified_mse[1])
    assert set(picked.lipschitz) == {tables[2].lipschitz[1]}
    rows = list(csv.DictReader(trials.to_csv(tmp_path / "trials.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["attacked"]) for row in rows] == frame.attacked.tolist()


def test_a_display_of_trials_draws_medians_and_bands(tables):
    trials, ax = stack_trials(tables), Figure().subplots()
    display = RobustnessCurveDisplay.from_trials(trials, quantiles=(0.0, 1.0), ax=ax)
    x, low = display.lines_[1].get_data()
    np.testing.assert_allclose(x, [0.0, *RADII])
    np.testing.assert_allclose(low, [trials.median("clean")[1], *trials.median("attacked")[1]])
    assert len(ax.collections) == 4  # two models, attacked and certified
    edges = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(trials.quantiles("attacked", (1.0,))[0, 0].max())
    assert "of 3 trials" in ax.get_legend().get_texts()[-1].get_text()
    with pytest.raises(InvalidInputError, match="pair that increases"):
        RobustnessCurveDisplay.from_trials(trials, quantiles=(0.9, 0.1))


def test_a_display_of_a_classifier_shows_the_fraction_misclassified(iris):
    X, y = iris
    mlp = MLPClassifier(hidden_layer_sizes=5, solver="lbfgs", max_iter=1000, alpha=1.0, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mlp).fit(X, y)
    ax = Figure().subplots()
    display = RobustnessCurveDisplay.from_estimator(pipeline, X, y, [0.1, 0.5], ax=ax, **FAST)
    assert ax.get_ylabel() == "fraction misclassified"
    assert ax.get_ylim()[0] == 0
    assert ax.get_yscale() == "linear"
    assert display.lines_[0].get_ydata()[0] == pytest.approx(1 - pipeline.score(X, y))


# -- real data ------------------------------------------------------------------------------------


def shared_table(name):
    """Numeric columns of a shared data set, standardized, and its last one as target; skipped where absent."""
    path = shared_path("data", f"{name}.csv")
    if path is None:
        pytest.skip("needs data/*.csv in ../shared or in the folder named by CONVEXNN_SHARED")
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[1:]
    columns = [column for column in zip(*rows, strict=True) if all(_is_number(cell) for cell in column)]
    values = StandardScaler().fit_transform(np.array(columns, dtype=float).T[:120])
    return values[:, :-1], values[:, -1]


def _is_number(cell):
    return cell.replace(".", "", 1).replace("-", "", 1).isdigit()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "name", few(["diabetes", "servo", "machine", "solar_flare", "winequality_red", "rastrigin"], ["diabetes", "servo"])
)
def test_the_adversarial_error_is_monotone_and_certified_on_every_data_set(rng, name, norm):
    if name == "diabetes":
        X, y = (StandardScaler().fit_transform(part.reshape(442, -1)) for part in load_diabetes(return_X_y=True))
        X, y = X[:120], y[:120, 0]
    elif name == "rastrigin":
        X = rng.uniform(-1, 1, (120, 2))
        y = (X**2 - 10 * np.cos(2 * np.pi * X)).sum(axis=1) / 20 + 1
    else:
        X, y = shared_table(name)
    mlp = MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", max_iter=2000, alpha=1.0, random_state=0).fit(
        X[:60], y[:60]
    )
    table = robustness_table({"mlp": mlp}, X[60:], y[60:], [0.0, *RADII], norm=norm, **FAST)
    assert_sandwich(table)
    for means in (table.attacked_mse[0], table.certified_mse[0]):
        assert (np.diff(means) > 0).all()
        assert means[0] == pytest.approx(table.clean_mse[0])
    for j, radius in enumerate(table.radii):  # what is certified holds for every attack
        found = attack(mlp, X[60:], y[60:], L2Ball(radius) if norm == "l2" else LInfBall(radius), **FAST)
        assert ((as_network(mlp)(found.X_adv) - y[60:]) ** 2 <= table.certified[0, j]).all()


def test_certified_and_attacked_accuracy_of_a_wine_classifier():
    X, y = load_wine(return_X_y=True)
    mlp = MLPClassifier(hidden_layer_sizes=10, solver="lbfgs", max_iter=500, alpha=10.0, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mlp).fit(X[::2], y[::2])
    scaled = pipeline[0].transform(X[1::2])
    table = robustness_table({"mlp": pipeline[1]}, scaled, y[1::2], [0.1, 0.3, 1.0], **FAST)
    assert isinstance(table, RobustnessTable)
    assert table.clean_accuracy[0] > 0.9
    assert table.certified_accuracy[0, 0] > 0.8
    assert (table.certified_accuracy <= table.attacked_accuracy).all()
    assert table.attacked_accuracy[0, -1] < table.clean_accuracy[0]
