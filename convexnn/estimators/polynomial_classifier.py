"""PolynomialSNNClassifier: a polynomial network trained to global optimality, robust on a ball, certified exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, validate_data

from convexnn.certificates.classification import CertifiedClassification
from convexnn.certificates.distance import certified_radius
from convexnn.certificates.polynomial import certify_polynomial
from convexnn.estimators.callbacks import Stages, tells_callbacks
from convexnn.estimators.labels import class_weights, encode_known, encode_labels
from convexnn.estimators.polynomial_base import PolynomialEstimator
from convexnn.estimators.polynomial_fit import Prepared, SolveOptions, robust_classes, solve_each
from convexnn.estimators.regressor import checked_weights
from convexnn.exceptions import InvalidInputError
from convexnn.losses import Logistic
from convexnn.program import Solution
from convexnn.restrictions.loss_bounds import scalar_loss
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram
from convexnn.threats import Threat
from convexnn.training.data import refuse_overflow

Array = NDArray[np.float64]

STRATEGIES = ("multimargin", "ovr")


class PolynomialSNNClassifier(ClassifierMixin, PolynomialEstimator):
    """Polynomial network for classification, trained against the worst case in a ball, to global optimality.

    Two classes: minimizes ``mean_i max_{|delta| <= radius} l(y_i f(x_i + delta)) + lam sum_j |alpha_j|`` over networks
    ``f(x) = sum_j alpha_j sigma(u_j'x)`` of any width, ``|u_j|_2 = 1``, ``sigma(t) = a t^2 + b t + c``, without biases.
    Training is a convex program, so ``solution_.gap`` is the gap to the best network there is; worst cases, certified
    radii and attacks are exact for l2.

    Parameters
    ----------
    radius : float, default=0.0
        Radius of the perturbations to be robust against, in the units of ``X``; 0 is ordinary training.
    norm : {2, inf}, default=2
        Of the perturbations. The box of ``inf`` is replaced by an ellipsoid around it: the objective is an upper bound
        on the robust one and the gap is about this program.
    lam : float, default=1e-2
        Weight of ``sum_j |alpha_j|``, positive.
    loss : {"squared_hinge", "hinge", "logistic"} or Loss, default="squared_hinge"
        A decreasing function of the margin.
    coefficients : tuple of three floats or "fit", default=(0.09, 0.5, 0.47)
        (a, b, c) of the activation; ``"fit"`` takes those nearest to ReLU on the range of the data.
    multi_class : {"multimargin", "ovr"}, default="multimargin"
        With three classes or more: one program for the margins ``f_y - f_k`` of all pairs (mean over the classes k), or
        one program a class against the rest (the objective is the mean of theirs).
    method : {"column_generation", "sdp"}, default="column_generation"
        ``"sdp"`` is the semidefinite program of the paper through cvxpy, for small data.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn: multiplies the weights of the samples of a class.
    standardize : bool, default=False
        Train on ``z = (x - mean) / std``. The radius stays in the units of ``X``: its ball is an ellipsoid in z, and
        the program takes it as that, exactly. In a Pipeline with a scaler the radius would be in scaled units.
    tol : float, default=1e-4
        Relative gap between the objective and the proved lower bound on every network.
    max_iter : int, default=200
        Rounds of column generation, or iterations of the generic solver.
    time_limit : float, optional
        Seconds for the solver; the best network so far is kept, with its honest gap.
    n_jobs : int, optional
        Programs solved at the same time with ``multi_class="ovr"``; the result does not depend on it.
    random_state : int, RandomState or None, default=None
        Seeds the random starts of :meth:`attack`, where it is not exact. Training has no randomness.
    verbose : int, default=0
        1 shows progress on the terminal.

    Attributes
    ----------
    network_ : Network
        The fitted network; takes raw inputs. One output for two classes, positive for ``classes_[1]``; more have one
        each.
    solution_ : Solution
        ``gap`` is the relative gap to the best network of any width, ``scope`` is ``"global"`` where it is within
        ``tol``, ``notes`` say what is special; recomputed from the data, not the solver's word.
    objective_, lower_bound_ : float
        Objective of ``network_`` and lower bound on that of every network.
    classes_ : array
    coefficients_ : tuple of float
        (a, b, c) of the activation.
    trivial_ : bool
        Whether the training samples that keep their label over their ball are of one class at most: then ``radius`` (or
        ``lam``) is too large for a robust classifier, and the optimum is no better than a constant. ``solution_.notes``
        says so.
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : array of str

    Notes
    -----
    Equal rows are merged and sorted before anything else: sample weights equal repetitions, and the order of the rows
    does not matter.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from convexnn import PolynomialSNNClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = PolynomialSNNClassifier(radius=0.1, standardize=True).fit(X, y)
    >>> bool(model.solution_.gap <= 1e-4)
    True
    >>> radii = model.certified_radius(X, y)  # exact: no perturbation below it changes the label
    >>> bool((radii > 0.1).mean() > 0.8)
    True
    """

    def __init__(
        self,
        radius: float = 0.0,
        *,
        norm: float = 2,
        lam: float = 1e-2,
        loss: Any = "squared_hinge",
        coefficients: Any = (0.09, 0.5, 0.47),
        multi_class: str = "multimargin",
        method: str = "column_generation",
        class_weight: Any = None,
        standardize: bool = False,
        tol: float = 1e-4,
        max_iter: int = 200,
        time_limit: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.radius = radius
        self.norm = norm
        self.lam = lam
        self.loss = loss
        self.coefficients = coefficients
        self.multi_class = multi_class
        self.method = method
        self.class_weight = class_weight
        self.standardize = standardize
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @tells_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> PolynomialSNNClassifier:
        """Fit the network.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
            Labels: numbers, strings or booleans.
        sample_weight : array-like, shape (n,), optional
            Nonnegative; an integer weight equals repeating the row.

        Returns
        -------
        self
        """
        inputs, targets = validate_data(self, X, y, dtype=np.float64)
        refuse_overflow(inputs, "X")
        options = self._options()
        weight = checked_weights(sample_weight, len(inputs))
        labels = encode_labels(targets, weight)
        data = self._prepared(inputs, labels.indices, class_weights(self.class_weight, labels, weight))
        stages = Stages(self, {"X": X, "y": y, "sample_weight": sample_weight})
        solution, metric = self._solved(data, labels.n_classes, options)
        self.classes_ = labels.classes
        self._store(data.network(solution.z), solution)
        self.trivial_ = len(robust_classes(data.margins(data.y, labels.n_classes, metric), solution.z)) < 2
        stages.end()
        return self

    def _solved(self, data: Prepared, n_classes: int, options: SolveOptions) -> tuple[Solution, Array | None]:
        """Solution of the program, or of one a class, and the metric of the set of perturbations."""
        if n_classes > 2 and self.multi_class == "ovr":
            signs = [np.where(data.y == c, 1.0, -1.0) for c in range(n_classes)]
            programs = [PolynomialProgram(data.X, each, **data.options) for each in signs]
            return solve_each(programs, data.box, options, self.n_jobs), data.options["metric"]
        if n_classes == 2:
            program = PolynomialProgram(data.X, 2.0 * data.y - 1.0, **data.options)
        else:
            program = MulticlassPolynomialProgram(data.X, data.y, n_classes=n_classes, **data.options)
        trained = options.solve(program, data.box)
        return trained.solution, trained.program.structure().metric

    def _options(self) -> SolveOptions:
        if self.multi_class not in STRATEGIES:
            raise InvalidInputError(f"multi_class={self.multi_class!r} was given; expected one of {STRATEGIES}")
        if not scalar_loss(self.loss).binary:
            raise InvalidInputError(f"loss={self.loss!r} was given; a classifier needs a margin loss such as 'hinge'")
        return super()._options()

    # -- predictions --------------------------------------------------------------------------------
    def decision_function(self, X: ArrayLike) -> Array:
        """Scores of the network.

        Parameters
        ----------
        X : array-like, shape (n, d)

        Returns
        -------
        array, shape (n,) or (n, k)
            Positive for the second of two classes; one score a class where there are more.
        """
        inputs = self._inputs(X)
        return self.network_(inputs)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels: the class with the largest score, shape (n,)."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[best])

    @available_if(lambda self: self._is_probabilistic())  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, with ``loss="logistic"`` only, shape (n, k).

        Two classes: ``1 / (1 + exp(-f))``. More: ``exp(f_c)`` normalized, the only probabilities whose odds of two
        classes are those of the pairwise losses; normalized ``1 / (1 + exp(-f_c))`` for one against the rest.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            second = expit(scores)
            return np.column_stack([expit(-scores), second])
        if self.multi_class == "ovr":
            single = np.maximum(expit(scores), np.finfo(float).tiny)
            return np.asarray(single / single.sum(axis=1, keepdims=True))
        return np.asarray(softmax(scores, axis=1))

    def _is_probabilistic(self) -> bool:
        if isinstance(self.loss, Logistic) or self.loss == "logistic":
            return True
        raise AttributeError(f"predict_proba needs loss='logistic'; this classifier has loss={self.loss!r}.")

    # -- robustness ---------------------------------------------------------------------------------
    def certified_radius(self, X: ArrayLike, y: ArrayLike) -> Array:
        """Distance of every sample to the nearest input that is not classified as its label: exact, rounded down.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
            Labels.

        Returns
        -------
        array, shape (n,)
            l2, raw input units: no perturbation up to this radius changes a right prediction. 0 where the sample is
            misclassified. See :func:`convexnn.certified_radius` and, without rounding,
            :func:`convexnn.distance_to_boundary`.
        """
        inputs, labels = self._labelled(X, y)
        return certified_radius(self.network_, inputs, labels)

    def certify(self, X: ArrayLike, y: ArrayLike, threat: Threat) -> CertifiedClassification:
        """Worst margins over ``threat``, UPPER bounds: exact up to rounding for l2 balls.

        A sample of an l2 ball that is not ``certified`` has a perturbation that changes its label, up to rounding;
        :meth:`attack` gives it. See :func:`convexnn.certificates.polynomial.certify_polynomial`.
        """
        inputs, labels = self._labelled(X, y)
        return certify_polynomial(self.network_, inputs, labels, threat)

    def _labelled(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
        inputs = self._inputs(X)
        labels = encode_known(y, self.classes_)
        check_consistent_length(inputs, labels)
        return inputs, labels
