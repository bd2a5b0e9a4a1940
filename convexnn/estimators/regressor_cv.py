"""SafeSNNRegressorCV: the weight of the regularizer chosen by cross-validation along warm-started paths."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from convexnn.estimators.callbacks import Stages, tells_callbacks, without_callbacks
from convexnn.estimators.constrained import Asked, asked_constraints, fold_networks
from convexnn.estimators.global_stage import require_scope
from convexnn.estimators.regressor import SafeSNNRegressor, checked_weights
from convexnn.estimators.starts import Condensed, condense, load_trainer
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.paths import path
from convexnn.paths.lams import check_spacing, checked_lams, lams_below
from convexnn.patterns import extract
from convexnn.restrictions import lam_max

if TYPE_CHECKING:
    from typing import Self

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

RULES = ("best", "one_standard_error")
#: Rows up to which integer weights are written out for scoring.
MOST_REPEATED = 100_000


class SafeSNNRegressorCV(SafeSNNRegressor):
    """:class:`SafeSNNRegressor` whose ``lam`` is chosen by cross-validation.

    In every fold one start network is trained at the smallest weight of the grid; its patterns define one convex
    program, which is solved from the largest weight down, each solve starting from the one before
    (:func:`convexnn.path`). The chosen weight is then used on all data in the same way. So the cost is one training
    and one path a fold, not one training a fold and weight as in a grid search over :class:`SafeSNNRegressor`.

    Parameters
    ----------
    hidden_units : int, default=100
        Hidden units of a trained or sampled start.
    regularizer : {"lipschitz", "l2", "gated"}, default="lipschitz"
        As in :class:`SafeSNNRegressor`.
    lams : array-like, optional
        Weights to choose from, positive; default ``n_lams`` from :func:`convexnn.lam_max` of all data down to
        ``lam_ratio`` times that.
    n_lams : int, default=20
        Length of the path where ``lams`` is not given.
    lam_ratio : float, default=1e-5
        Smallest weight of the path over the largest.
    cv : int, splitter, iterable of (train, test) or None, default=None
        An integer k (default 5): k folds of the distinct ``(X, y)`` rows, shuffled by ``random_state``, so that copies
        of a row are never in train and test at once and the order of the rows does not matter. Anything else is applied
        to the rows as given.
    scoring : str, callable or None, default=None
        As in scikit-learn, larger is better; default is the negative mean squared error. Rows with integer weights are
        repeated for it; other weights are handed over as ``sample_weight``.
    rule : {"best", "one_standard_error"}, default="best"
        The weight with the best mean score, or the largest one whose mean score is within one standard error of that:
        a smaller Lipschitz constant or network at no demonstrable loss.
    n_jobs : int, optional
        Folds in parallel through joblib; results do not depend on it.
    start, pattern_search, tol, max_iter, time_limit, solver, device, random_state, verbose
        As in :class:`SafeSNNRegressor`. A start that is a trained model has seen all rows: the scores are then too good
        and small weights are favored, so let a trainer start every fold. ``time_limit`` holds for the path of each
        fold, half of it more for training its start, and for the final fit with its start. ``pattern_search`` is a part
        of the final fit only.
    scope, global_tol
        As in :class:`SafeSNNRegressor`, of the final fit only; scores are those of the convex programs of the folds.
    monotonic_cst, constraints
        As in :class:`SafeSNNRegressor`. Every network that is scored keeps them by proof, and the final one does; with
        them there is no path: every weight of every fold is a training of its own, so give few ``lams``.

    Attributes
    ----------
    lam_ : float
        The chosen weight.
    lams_ : array, shape (k,)
        All weights, decreasing.
    cv_results_ : dict of arrays
        ``lam``, ``mean_test_score``, ``std_test_score`` (over the folds), ``split<i>_test_score``. A fold that was cut
        short by ``time_limit`` has NaN where it did not arrive; such weights are not chosen.
    best_index_ : int
        Of ``lam_`` in ``lams_``.
    best_score_ : float
        Mean score of ``lam_``.
    network_, solution_, objective_, start_objective_, global_bound_, global_gap_, patterns_, lipschitz_, history_, \
    guarantees_, constrained_
        Of the final fit, as in :class:`SafeSNNRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> from convexnn import SafeSNNRegressorCV
    >>> X = np.linspace(-1, 1, 60)[:, None]
    >>> y = np.abs(X[:, 0])
    >>> model = SafeSNNRegressorCV(6, n_lams=6, cv=3, random_state=0).fit(X, y)
    >>> bool(model.lam_ == model.lams_[model.best_index_] and model.solution_.gap <= 1e-6)
    True
    """

    method = "joint"  # the program of the path

    def __init__(
        self,
        hidden_units: int = 100,
        *,
        regularizer: str = "lipschitz",
        lams: Any = None,
        n_lams: int = 20,
        lam_ratio: float = 1e-5,
        cv: Any = None,
        scoring: Any = None,
        rule: str = "best",
        n_jobs: int | None = None,
        start: Any = "adam",
        pattern_search: int = 0,
        tol: float = 1e-6,
        max_iter: int = 200,
        time_limit: float | None = None,
        solver: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        scope: str = "patterns",
        global_tol: float = 1e-3,
        monotonic_cst: Any = None,
        constraints: Any = (),
    ) -> None:
        self.hidden_units = hidden_units
        self.regularizer = regularizer
        self.lams = lams
        self.n_lams = n_lams
        self.lam_ratio = lam_ratio
        self.cv = cv
        self.scoring = scoring
        self.rule = rule
        self.n_jobs = n_jobs
        self.start = start
        self.pattern_search = pattern_search
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.solver = solver
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.scope = scope
        self.global_tol = global_tol
        self.monotonic_cst = monotonic_cst
        self.constraints = constraints

    @tells_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Choose ``lam`` and fit the network on all data.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
        sample_weight : array-like, shape (n,), optional
            Nonnegative; an integer weight equals repeating the row. Test scores are weighted as well.

        Returns
        -------
        self
        """
        self._require_options()
        inputs, targets = self._validated(X, y)
        weights = checked_weights(sample_weight, len(inputs))
        seed = self._seed()
        asked = asked_constraints(self)
        data = condense(inputs, targets, weights)
        stages = Stages(self, {"X": X, "y": y, "sample_weight": sample_weight}, 4 if self.scope == "global" else 3)
        with stages.stage("folds"):
            self.lams_ = self._grid(data, seed)
            self._choose(_scores(self, self._folds(inputs, targets, weights, data, seed), seed, asked))
        return self._fit_at(float(self.lams_[-1]), data, self._options(self.lam_), seed, stages, asked)

    def _require_options(self) -> None:
        if self.rule not in RULES:
            raise InvalidInputError(f"rule must be one of {RULES}, got {self.rule!r}.")
        self._options(1.0)
        require_scope(self.scope, self.global_tol)

    def _grid(self, data: Condensed, seed: int) -> Array:
        if self.lams is not None:
            return checked_lams(self.lams)
        check_spacing(self.n_lams, self.lam_ratio)
        top = _largest_useful(self, data, seed)
        # where nothing can be gained at any weight (constant targets) every weight gives the same constant
        return lams_below(top if top > 0 else 1.0, self.n_lams, self.lam_ratio)

    def _folds(
        self, X: Array, y: Array, weights: Array | None, data: Condensed, seed: int
    ) -> list[tuple[Condensed, Condensed]]:
        """Train and test rows of every fold."""
        from sklearn.model_selection import KFold, check_cv

        if self.cv is None or isinstance(self.cv, numbers.Integral):
            k = 5 if self.cv is None else int(self.cv)
            if k < 2 or len(data.y) < 2:
                raise InvalidInputError(
                    f"cross-validation needs at least 2 folds and n_samples >= 2 distinct samples, got cv={k} and "
                    f"n_samples={len(data.y)}."
                )
            splits = KFold(min(k, len(data.y)), shuffle=True, random_state=seed).split(data.X)
            return [(_take(data, train), _take(data, test)) for train, test in splits]
        rows = Condensed(X, y, np.ones(len(X)) if weights is None else weights)
        splits = check_cv(self.cv).split(X, y)
        taken = [(_take(rows, train), _take(rows, test)) for train, test in splits]
        usable = [(train, test) for train, test in taken if train.weight.any() and test.weight.any()]
        return [(condense(train.X, train.y, train.weight), test) for train, test in usable]

    def _choose(self, scores: Array) -> None:
        mean, spread = scores.mean(axis=0), scores.std(axis=0)
        if not np.isfinite(mean).any():
            raise InvalidInputError(
                f"scoring={self.scoring!r} is NaN in some fold at every weight (R2 needs two test samples); choose "
                "another scoring or larger folds."
            )
        best = int(np.nanargmax(mean))
        if self.rule == "one_standard_error":
            error = spread[best] / math.sqrt(max(len(scores) - 1, 1))
            best = int(np.flatnonzero(mean >= mean[best] - error)[0])
        self.best_index_, self.lam_, self.best_score_ = best, float(self.lams_[best]), float(mean[best])
        splits = {f"split{i}_test_score": row for i, row in enumerate(scores)}
        self.cv_results_ = {"lam": self.lams_, "mean_test_score": mean, "std_test_score": spread} | splits


@dataclass
class _Fitted(RegressorMixin, BaseEstimator):
    """A network as a fitted regressor, for scorers."""

    network: Network

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: ARG002
        return self

    def predict(self, X: ArrayLike) -> Array:
        return self.network(np.asarray(X, dtype=float))

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _take(data: Condensed, rows: Indices) -> Condensed:
    return Condensed(data.X[rows], data.y[rows], data.weight[rows])


def _largest_useful(model: SafeSNNRegressorCV, data: Condensed, seed: int) -> float:
    """:func:`convexnn.lam_max`; the l2 threshold with the patterns of a start trained without knowing it."""
    if model.regularizer == "lipschitz":
        return lam_max(data.X, data.y, sample_weight=data.weight)
    start = model._start(data, 1e-3 * float(np.var(data.y)) + np.finfo(float).tiny, seed)
    return lam_max(data.X, data.y, extract(start, data.X), regularizer=model.regularizer, sample_weight=data.weight)


def _scores(model: SafeSNNRegressorCV, folds: list[tuple[Condensed, Condensed]], seed: int, asked: Asked) -> Array:
    """Scores of every fold and weight, shape (folds, k)."""
    if len(folds) < 1:
        raise InvalidInputError("cv gave no fold with samples of positive weight in train and test.")
    from joblib import Parallel, delayed

    plain = without_callbacks(model)
    jobs = (delayed(_fold_scores)(plain, train, test, seed, asked) for train, test in folds)
    return np.array(Parallel(n_jobs=model.n_jobs)(jobs))


def _fold_scores(model: SafeSNNRegressorCV, train: Condensed, test: Condensed, seed: int, asked: Asked) -> Array:
    from sklearn.metrics import check_scoring

    load_trainer(model.start)
    start: Any = model._start(train, float(model.lams_[-1]), seed)
    networks = (
        fold_networks(train, start, asked, model._options(1.0), model.lams_.tolist())
        if asked
        else _path_networks(model, train, start)
    )
    scores = np.full(len(model.lams_), np.nan)
    X, y, weights = _test_rows(test)
    scorer = check_scoring(_Fitted(networks[0]), scoring=model.scoring or "neg_mean_squared_error")
    for index, network in enumerate(networks):
        scores[index] = scorer(_Fitted(network), X, y, **weights)
    return scores


def _path_networks(model: SafeSNNRegressorCV, train: Condensed, start: Any) -> Sequence[Network]:
    gated = model.regularizer == "gated"  # the relaxation is only the way: what is fitted has cones
    found = path(
        train.X,
        train.y,
        extract(start, train.X).with_both_signs() if gated else start,
        regularizer="l2" if gated else model.regularizer,
        lams=model.lams_,
        sample_weight=train.weight,
        tol=model.tol,
        max_iter=model.max_iter,
        solver=model.solver,
        time_limit=model.time_limit,
    )
    return found.networks


def _test_rows(test: Condensed) -> tuple[Array, Array, dict[str, Array]]:
    """Rows to score, and their weights where repeating rows cannot say the same: not every scorer takes weights."""
    if (test.weight == test.weight[0]).all():
        return test.X, test.y, {}
    if (test.weight == np.round(test.weight)).all() and test.weight.sum() <= MOST_REPEATED:
        rows = np.repeat(np.arange(len(test.y)), test.weight.astype(int))
        return test.X[rows], test.y[rows], {}
    return test.X, test.y, {"sample_weight": test.weight}
