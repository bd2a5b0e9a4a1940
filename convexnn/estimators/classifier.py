"""SafeSNNClassifier: a shallow ReLU classifier trained by convex programs, with certificates."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from convexnn.attacks import AttackResult, attack
from convexnn.certificates.classification import (
    CertifiedClassification,
    certify_classification,
    margin_bounds,
    radii_from,
)
from convexnn.estimators.callbacks import CallbackSupport, Stages, tells_callbacks
from convexnn.estimators.classifier_fit import (
    Fitted,
    checked_options,
    one_against_the_rest,
    start_of,
    train_classifier,
)
from convexnn.estimators.cloning import KeepsTrainedModel
from convexnn.estimators.constrained import asked_constraints
from convexnn.estimators.labels import class_weights, encode_known, encode_labels
from convexnn.estimators.regressor import checked_weights
from convexnn.estimators.starts import Condensed, condense, load_trainer
from convexnn.exceptions import InvalidInputError
from convexnn.losses import Logistic
from convexnn.restrictions.robust_relu_terms import checked_norm
from convexnn.threats import Threat
from convexnn.training.data import refuse_overflow

if TYPE_CHECKING:
    from typing import Self

    import torch

Array = NDArray[np.float64]


class SafeSNNClassifier(CallbackSupport, ClassifierMixin, KeepsTrainedModel):
    """Shallow ReLU network for classification, trained by convex reformulation.

    Minimizes ``mean(l(f(x_i); y_i)) + lam * R(f)``: a start network is trained (or taken), its activation patterns
    define a convex program, and the program's solution is a network that is never worse than the start, with a verified
    duality gap and certified Lipschitz bounds of every margin. Two classes share one output, ``f > 0`` is the second;
    more classes have one output each, and the loss is that of every class against the rest, summed over the classes.

    Parameters
    ----------
    hidden_units : int, default=100
        Hidden units of a trained or sampled start.
    regularizer : {"lipschitz", "l2", "gated", "adversarial", "margin"}, default="lipschitz"
        ``"lipschitz"``: ``R = L(f)^2`` with ``L`` the LipSDP upper bound on the l2 Lipschitz constant in raw input
        units. ``"l2"``: ``R = sum_j |(w_j, b_j)|^2 + |v_j|^2``. ``"gated"``: as ``"l2"``, through the gated relaxation
        without cones; the network may have twice the units. ``"adversarial"``: as ``"l2"`` with the loss of a bound on
        the worst case in the ball of ``radius`` (convex robust ReLU training). ``"margin"``: as ``"l2"`` with the loss
        of the certified margins ``f_y - f_k - radius L_yk``. Robust losses average over the rivals of a sample.
    loss : {"squared_hinge", "logistic", "hinge"} or Loss, default="squared_hinge"
        A decreasing function of the margin.
    radius : float, default=0.0
        Of the perturbations that ``"adversarial"``, ``"margin"`` and ``start="adversarial"`` train against, raw input
        units. The other objectives do not look at it.
    norm : {2, inf}, default=2
        Of these perturbations.
    lam : float, default=1e-2
        Weight of ``R``, positive.
    start : str, Trainer, Network, torch.nn.Module or fitted MLPClassifier, default="adam"
        ``"adam"``, ``"sgd"``, ``"sam"`` (sharpness-aware), ``"lipschitz"`` (exact LipSDP gradient) and
        ``"adversarial"`` (PGD) train one, ``"random"`` samples gates; a trainer with settings of its own is run,
        a model taken as it is (two outputs stand for their difference where there are two classes).
    method : {"joint", "alternating"}, default="joint"
        For ``"lipschitz"``: one convex program, or the alternating minimization of the paper (two classes). With more
        classes ``"joint"`` alternates two convex programs: inner weights and lengths, then all outer weights.
    pattern_search : int, default=0
        Rounds of :func:`convexnn.pattern_search` after the convex solve; with more than two classes rounds of
        disturbance, descent and convex programs. Each step is kept only if it is better.
    tol : float, default=1e-6
        Relative gap between the program's objective and its verified lower bound; ``"adversarial"`` is solved to 1e-3
        and ``"margin"`` to 1e-5 at best.
    max_iter : int, default=200
        Iterations of the convex solver; robust trainers: an eighth (inner minimizations), tenfold (gradient steps).
    time_limit : float, optional
        Seconds for the whole fit; the best network found so far is kept.
    solver : {"auto", "interior_point", "first_order", "clarabel", "scs", "mosek"}, default="auto"
        Who solves the convex programs; see :doc:`/guide/which_solver`.
    device : str, default="auto"
        Device of the torch trainers.
    random_state : int, RandomState or None, default=None
        Seed; an integer makes fits repeatable.
    verbose : int, default=0
        1 shows progress on the terminal.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn: factors of the sample weights.
    monotonic_cst : array-like of int, shape (n_features,), mapping of name to int, or None, default=None
        As in scikit-learn: +1, the score of ``classes_[1]`` (so its probability) never falls in a feature, -1 it never
        rises, 0 free; proved for all inputs. Two classes, ``regularizer="l2"``, no ``pattern_search``.
    constraints : sequence of Constraint, default=()
        Other properties of the score, see :func:`convexnn.constraints.train_constrained`; same settings.

    Attributes
    ----------
    network_ : Network
        The fitted network; takes raw inputs.
    solution_ : Solution or None
        The last convex program over all hidden units (None with constraints); its gap concerns the program with
        ``patterns_``, not training as a whole.
    start_objective_, objective_ : float
        Training objective of the start and of ``network_``; never larger after than before (without constraints).
    patterns_ : ActivationPatterns
        Patterns of that program on the distinct training rows.
    lipschitz_ : Certificate
        Upper bound on the l2 Lipschitz constant of ``network_`` (outputs in l2).
    guarantees_, constrained_ : Guarantees, ConstrainedTraining or None
        What is proved for ``monotonic_cst`` and ``constraints``, and what they cost on these cells.
    history_ : list of dict
        ``stage``, ``objective``, ``seconds``; the objective never rises after the start.
    n_iter_ : int
        Iterations of the convex solver; with constraints the number of convex programs.
    classes_ : array
    n_features_in_ : int
    feature_names_in_ : array of str

    Notes
    -----
    Equal rows are merged and sorted first: sample weights equal repetitions, and the order of rows does not matter.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from convexnn import L2Ball, SafeSNNClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SafeSNNClassifier(10, random_state=0).fit(X, y)
    >>> model.objective_ <= model.start_objective_
    True
    >>> attacked = model.attack(X, y, L2Ball(0.2), random_state=0)
    >>> bool((~attacked.success).mean() >= model.certify(X, y, L2Ball(0.2)).certified_accuracy)
    True
    """

    _trained_parameter = "start"

    def __init__(
        self,
        hidden_units: int = 100,
        *,
        regularizer: str = "lipschitz",
        loss: Any = "squared_hinge",
        radius: float = 0.0,
        norm: float = 2,
        lam: float = 1e-2,
        start: Any = "adam",
        method: str = "joint",
        pattern_search: int = 0,
        tol: float = 1e-6,
        max_iter: int = 200,
        time_limit: float | None = None,
        solver: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        class_weight: Any = None,
        monotonic_cst: Any = None,
        constraints: Any = (),
    ) -> None:
        self.hidden_units = hidden_units
        self.regularizer = regularizer
        self.loss = loss
        self.radius = radius
        self.norm = norm
        self.lam = lam
        self.start = start
        self.method = method
        self.pattern_search = pattern_search
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.solver = solver
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.class_weight = class_weight
        self.monotonic_cst = monotonic_cst
        self.constraints = constraints

    @tells_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
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
        options = checked_options(self)
        inputs, targets = validate_data(self, X, y, dtype=np.float64)
        refuse_overflow(inputs, "X")
        weight = checked_weights(sample_weight, len(inputs))
        labels = encode_labels(targets, weight)
        self.classes_ = labels.classes
        asked = asked_constraints(self, labels.n_classes)
        weight = class_weights(self.class_weight, labels, weight)
        rows = condense(inputs, labels.indices.astype(np.float64), weight)
        data = Condensed(rows.X, one_against_the_rest(rows.y.astype(np.intp), labels.n_classes), rows.weight)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        stages = Stages(self, {"X": X, "y": y, "sample_weight": sample_weight}, 2)
        load_trainer(self.start)
        began = time.perf_counter()
        with stages.stage("start") as fitted:
            start = start_of(self.start, data, options, labels.classes, int(self.hidden_units), seed)
            fitted["network_"] = start
        with stages.stage("convex program") as fitted:
            found = train_classifier(start, data, options.left(began), seed, asked)
            fitted["network_"] = found.network
        self._store(found)
        stages.end()
        return self

    def _store(self, fitted: Fitted) -> None:
        self.network_, self.solution_ = fitted.network, fitted.solution
        self.start_objective_, self.objective_ = fitted.before, fitted.after
        self.patterns_, self.lipschitz_, self.history_ = fitted.patterns, fitted.certificate, fitted.history
        self.n_iter_ = fitted.iterations
        self.constrained_, self.guarantees_ = fitted.constrained, fitted.guarantees
        self._bounds: dict[str, Array] = {}

    # -- predictions --------------------------------------------------------------------------------
    def decision_function(self, X: ArrayLike) -> Array:
        """Outputs of the network.

        Parameters
        ----------
        X : array-like, shape (n, d)

        Returns
        -------
        array, shape (n,) or (n, k)
            Positive for the second of two classes; one score a class where there are more.
        """
        check_is_fitted(self)
        return self.network_(validate_data(self, X, reset=False, dtype=np.float64))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels: the class with the largest score, shape (n,)."""
        scores = self.decision_function(X)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[best])

    @available_if(lambda self: self._is_probabilistic())  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes, with ``loss="logistic"`` only, shape (n, k).

        Two classes: ``1 / (1 + exp(-f))``. More: the same for every class against the rest, normalized.
        """
        scores = self.decision_function(X)
        scores = np.column_stack([-scores, scores]) if scores.ndim == 1 else scores
        logs = -np.logaddexp(0.0, -scores)
        return np.asarray(np.exp(logs - logsumexp(logs, axis=1, keepdims=True)))

    def _is_probabilistic(self) -> bool:
        if isinstance(self.loss, Logistic) or self.loss == "logistic":
            return True
        raise AttributeError(f"predict_proba needs loss='logistic'; this classifier has loss={self.loss!r}.")

    # -- robustness ---------------------------------------------------------------------------------
    def margin_bounds(self, norm: float = 2) -> dict[str, Array]:
        """Certified Lipschitz bounds of all margins ``f_a - f_b``, shape (k, k), or (1, 1) for two classes.

        Parameters
        ----------
        norm : {2, inf}
            Of the perturbed inputs. For ``inf`` there are bounds for inputs measured in l2 as well: either may be the
            better one.

        Returns
        -------
        dict of str to array
            By the norm of the inputs, "l2" and "linf"; computed once.
        """
        check_is_fitted(self)
        known = self._bounds | margin_bounds(self.network_, _norm_name(norm), self._bounds)
        self._bounds = known  # never changed in place: other threads may be reading it
        return {name: known[name] for name in (("l2",) if norm == 2 else ("l2", "linf"))}

    def certify(self, X: ArrayLike, y: ArrayLike, threat: Threat) -> CertifiedClassification:
        """Worst margins and radii that no perturbation in ``threat`` can exceed, and which samples are certified.

        By Lipschitz bounds of every pair of classes and by local bounds that know which units cannot switch near a
        sample; see :func:`convexnn.certificates.classification.certify_classification`.
        """
        inputs, indices = self._known(X, y)
        norm = 2 if getattr(threat, "norm", None) == "l2" else np.inf
        return certify_classification(self.network_, inputs, indices, threat, self.margin_bounds(norm))

    def certified_radius(self, X: ArrayLike, y: ArrayLike, norm: float = 2) -> Array:
        """LOWER bounds on the distance of every sample to the nearest input with another label than ``y``.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
            Labels.
        norm : {2, inf}

        Returns
        -------
        array, shape (n,)
            At least ``min_t (f_y - f_t)(x) / L_yt`` in raw input units, up to eight times as much where local bounds
            prove it; 0 where the sample is misclassified, ``inf`` where nothing ever changes.
        """
        inputs, indices = self._known(X, y)
        return radii_from(self.network_, inputs, indices, self.margin_bounds(norm), _norm_name(norm))

    def attack(self, X: ArrayLike, y: ArrayLike, threat: Threat, **options: Any) -> AttackResult:
        """Attack the fitted network; see :func:`convexnn.attack`. A LOWER bound on the worst case."""
        inputs, _ = self._known(X, y)
        return attack(self, inputs, y, threat, **options)

    def _known(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
        check_is_fitted(self)
        inputs, indices = validate_data(self, X, reset=False, dtype=np.float64), encode_known(y, self.classes_)
        if len(indices) != len(inputs):
            raise InvalidInputError(f"X has {len(inputs)} rows but y has {len(indices)}; they must agree.")
        return inputs, indices

    def to_torch(self, dtype: torch.dtype | None = None) -> torch.nn.Sequential:
        """``nn.Sequential(Linear, ReLU, Linear)`` with the fitted weights, float64 unless ``dtype`` says otherwise."""
        check_is_fitted(self)
        return self.network_.to_torch(dtype)


def _norm_name(norm: float) -> str:
    return "l2" if checked_norm(norm) == 2 else "linf"
