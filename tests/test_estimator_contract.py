"""What every estimator owes scikit-learn beyond its checks: routing, callbacks, nesting, representations, weights."""

import inspect

import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, VotingClassifier, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from convexnn import (
    ActivationPatternTransformer,
    L2Ball,
    PolynomialSNNClassifier,
    PolynomialSNNRegressor,
    SafeRegionClassifier,
    SafeSNNClassifier,
    SafeSNNRegressor,
    SafeSNNRegressorCV,
)
from convexnn.estimators.callbacks import has_callbacks

FAST = {"hidden_units": 4, "start": "random", "regularizer": "l2", "random_state": 0}
REGRESSORS = [
    SafeSNNRegressor(**FAST),
    SafeSNNRegressorCV(**FAST, n_lams=2, cv=2),
    PolynomialSNNRegressor(tol=1e-3),
]
CLASSIFIERS = [
    SafeSNNClassifier(**FAST),
    PolynomialSNNClassifier(tol=1e-3),
    SafeRegionClassifier(L2Ball(0.1), 2, max_iter=0, random_state=0),
]
ESTIMATORS = [*REGRESSORS, *CLASSIFIERS]
each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
each_regressor = pytest.mark.parametrize("estimator", REGRESSORS, ids=lambda estimator: type(estimator).__name__)
each_classifier = pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda estimator: type(estimator).__name__)


def data(estimator, n=24):
    """Distinct rows whose last one has another target than the rule, so that its weight matters."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 2))
    y = X[:, 0] + np.abs(X[:, 1])
    y[-1] = -y[-1]
    return (X, (y > 0.5).astype(int)) if is_classifier(estimator) else (X, y)


def outputs(fitted, X):
    return fitted.decision_function(X) if is_classifier(fitted) else fitted.predict(X)


@each
def test_kind_tags_and_signature(estimator):
    assert is_classifier(estimator) != is_regressor(estimator)
    tags = sklearn.utils.get_tags(estimator)
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert tags.target_tags.required
    assert list(inspect.signature(estimator.fit).parameters) == ["X", "y", "sample_weight"]


@each
def test_representations_are_short_and_free_of_work(estimator):
    text = estimator._repr_html_()
    assert type(estimator).__name__ in text
    assert "<style" in text
    assert type(estimator).__name__ in repr(estimator)
    assert repr(clone(estimator)) == repr(estimator)


@pytest.mark.slow
@each
def test_weights_reach_the_fit_through_a_pipeline_and_a_search(estimator):
    X, y = data(estimator)
    weight = np.r_[np.ones(len(X) - 1), 0.0]
    direct = clone(estimator).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(estimator).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = Pipeline([("model", routed)]).fit(X, y, sample_weight=weight)
        search = GridSearchCV(Pipeline([("model", routed)]), {}, cv=2, error_score="raise")
        search.fit(X, y, sample_weight=weight)
        silent = clone(estimator).set_fit_request(sample_weight=False)
        ignored = Pipeline([("model", silent)]).fit(X, y)
        with pytest.raises(TypeError, match="sample_weight"):
            Pipeline([("model", silent)]).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(outputs(pipeline, X), outputs(direct, X))
    np.testing.assert_array_equal(outputs(search, X), outputs(direct, X))
    np.testing.assert_array_equal(outputs(ignored, X), outputs(clone(estimator).fit(X, y), X))


@pytest.mark.slow
@each
def test_zero_weight_removes_and_two_repeats(estimator):
    X, y = data(estimator)
    count = np.r_[0, 2, np.ones(len(X) - 3, dtype=int), 0]
    weighted = clone(estimator).fit(X, y, sample_weight=count)
    rows = np.repeat(np.arange(len(X)), count)[::-1]
    repeated = clone(estimator).fit(X[rows], y[rows])
    np.testing.assert_allclose(outputs(weighted, X), outputs(repeated, X), atol=1e-7)


@pytest.mark.slow
@each
def test_frames_keep_their_names(estimator):
    pd = pytest.importorskip("pandas")
    X, y = data(estimator)
    frame = pd.DataFrame(X, columns=["age", "bmi"])
    fitted = clone(estimator).fit(frame, y)
    assert list(fitted.feature_names_in_) == ["age", "bmi"]
    with pytest.raises(ValueError, match="feature names"):
        outputs(fitted, frame[["bmi", "age"]])
    columns = ColumnTransformer([("scale", StandardScaler(), ["bmi"])], remainder="passthrough")
    nested = make_pipeline(columns, clone(estimator)).fit(frame, y)
    assert outputs(nested, frame).shape == y.shape


@pytest.mark.slow
@each
def test_searches_and_bags(estimator):
    X, y = data(estimator, n=40)
    name = "tol" if hasattr(estimator, "tol") else "learning_rate"
    pipeline = make_pipeline(StandardScaler(), clone(estimator))
    grid = {f"{type(estimator).__name__.lower()}__{name}": [1e-3, 1e-2]}
    halving = HalvingGridSearchCV(pipeline, grid, cv=2, min_resources=16, random_state=0, error_score="raise")
    assert outputs(halving.fit(X, y), X).shape == y.shape
    bag = (BaggingClassifier if is_classifier(estimator) else BaggingRegressor)(estimator, 2, random_state=0)
    assert bag.fit(X, y).predict(X).shape == y.shape
    scores = cross_validate(estimator, X, y, cv=2, return_estimator=True, error_score="raise")
    assert np.isfinite(scores["test_score"]).all()


@pytest.mark.slow
def test_votes_targets_and_probabilities():
    X, y = data(REGRESSORS[0])
    voting = VotingRegressor([(str(i), estimator) for i, estimator in enumerate(REGRESSORS)]).fit(X, y)
    parts = [part.predict(X) for part in voting.estimators_]
    np.testing.assert_allclose(voting.predict(X), np.mean(parts, axis=0))
    shifted = TransformedTargetRegressor(REGRESSORS[0], transformer=StandardScaler()).fit(X, y)
    assert shifted.predict(X).shape == y.shape
    X, y = data(CLASSIFIERS[0], n=40)
    voting = VotingClassifier([(str(i), estimator) for i, estimator in enumerate(CLASSIFIERS)]).fit(X, y)
    assert set(voting.predict(X)) <= {0, 1}
    for estimator in CLASSIFIERS:
        calibrated = CalibratedClassifierCV(estimator, cv=2).fit(X, y)
        np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1.0)
    labels = np.digitize(X[:, 0], [-0.5, 0.5])
    assert OneVsRestClassifier(CLASSIFIERS[1]).fit(X, labels).predict(X).shape == labels.shape


class Record:
    """A callback that writes down what it hears; handed on by meta-estimators."""

    max_propagation_depth = None

    def __init__(self, stop=False):
        self.heard, self.models, self.stop = [], [], stop

    def setup(self, estimator, context):
        self.heard.append("setup")

    def teardown(self, estimator, context):
        self.heard.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.heard.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.heard.append(f"end {context.task_name}")
        if fitted_estimator is not None and hasattr(fitted_estimator, "score"):
            self.models.append(fitted_estimator.score(X, y))
        return self.stop


needs_callbacks = pytest.mark.skipif(not has_callbacks(), reason="this scikit-learn has no callbacks")


@needs_callbacks
@pytest.mark.slow
@each
def test_callbacks_hear_every_fit(estimator):
    X, y = data(estimator)
    record = Record()
    fitted = clone(estimator).set_callbacks(record).fit(X, y)
    assert record.heard[:2] == ["setup", "begin fit"]
    assert record.heard[-2:] == ["end fit", "teardown"]
    assert record.models[-1] == pytest.approx(fitted.score(X, y))
    np.testing.assert_array_equal(outputs(fitted, X), outputs(clone(estimator).fit(X, y), X))
    with pytest.raises(ValueError, match=r"."):
        clone(estimator).set_callbacks(record).fit(X[:, 0], y)


@needs_callbacks
def test_callbacks_see_the_stages_and_may_stop_the_last():
    X, y = data(REGRESSORS[0])
    record = Record(stop=True)
    model = SafeSNNRegressor(**FAST, scope="global", time_limit=30).set_callbacks(record).fit(X, y)
    assert record.heard[2:-2] == [
        f"{what} {stage}" for stage in ("start", "convex program") for what in ("begin", "end")
    ]
    assert model.global_gap_ == np.inf
    assert record.models[0] <= record.models[1]  # R2 of the start and of the refined network; weight decay is small
    record = Record()
    clone(REGRESSORS[1]).set_callbacks(record).fit(X, y)
    assert [line for line in record.heard if line.startswith("begin")] == [
        f"begin {stage}" for stage in ("fit", "folds", "start", "convex program")
    ]


@needs_callbacks
def test_callbacks_of_a_pipeline_reach_the_network():
    X, y = data(REGRESSORS[0])
    record = Record()
    pipeline = make_pipeline(StandardScaler(), ActivationPatternTransformer(4, random_state=0), clone(REGRESSORS[0]))
    pipeline = make_pipeline(StandardScaler(), clone(REGRESSORS[0]))
    pipeline.set_callbacks(record).fit(X, y)
    assert "begin convex program" in record.heard
    assert record.heard.count("setup") == record.heard.count("teardown")
