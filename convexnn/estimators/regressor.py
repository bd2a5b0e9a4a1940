"""SafeSNNRegressor: a shallow ReLU regressor trained by a convex program, with certificates."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from convexnn.attacks import AttackResult, attack
from convexnn.certificates.regression import CertifiedRegression, certified_interval, certify_regression
from convexnn.constraints import ConstrainedTraining, Guarantees
from convexnn.estimators.callbacks import CallbackSupport, Stages, tells_callbacks
from convexnn.estimators.cloning import KeepsTrainedModel
from convexnn.estimators.constrained import Asked, asked_constraints, fit_constrained
from convexnn.estimators.global_stage import GlobalStage, require_scope, train_on
from convexnn.estimators.starts import Condensed, condense, load_trainer, require_hidden_units, start_network
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.refinement import Refinement, RefineOptions, refine_network
from convexnn.threats import Threat
from convexnn.training.data import refuse_overflow

if TYPE_CHECKING:
    from typing import Self

    import torch

Array = NDArray[np.float64]


class SafeSNNRegressor(CallbackSupport, RegressorMixin, KeepsTrainedModel):
    """Shallow ReLU network for regression, trained by convex reformulation.

    Minimizes ``mean((f(x_i) - y_i)^2) + lam * R(f)``: a start network is trained (or taken), its activation
    patterns define a convex program, and the program's solution is a network that is never worse than the
    start, with a verified duality gap and a certified Lipschitz bound.

    Parameters
    ----------
    hidden_units : int, default=100
        Hidden units of a trained or sampled start.
    regularizer : {"lipschitz", "l2", "gated"}, default="lipschitz"
        ``"lipschitz"``: ``R = L(f)^2`` with ``L`` the LipSDP upper bound on the l2 Lipschitz constant in raw input
        units. ``"l2"``: ``R = sum_j |(w_j, b_j)|^2 + v_j^2``. ``"gated"``: as ``"l2"``, through the gated relaxation
        without cones; the network may have twice the units.
    lam : float, default=1e-2
        Weight of ``R``, positive; :func:`convexnn.lam_max` is where a path of weights starts.
    start : str, Trainer, Network, torch.nn.Module or fitted MLPRegressor, default="adam"
        ``"adam"`` or ``"sgd"`` trains one, ``"lipschitz"`` (exact LipSDP gradient) and ``"admm"`` (Pauli et al. 2022)
        train one on ``mean loss + lam L^2``, ``"adversarial"`` one against l2 perturbations of a tenth of the inputs'
        standard deviations, ``"random"`` samples gates; a trainer with own settings is run, a model taken as it is.
    method : {"joint", "alternating"}, default="joint"
        For ``"lipschitz"``: one convex program, or the alternating minimization of the paper.
    pattern_search : int, default=0
        Rounds of :func:`convexnn.pattern_search` after the convex solve; each step is kept only if it is better.
    tol : float, default=1e-6
        Relative gap between the program's objective and its verified lower bound.
    max_iter : int, default=200
        Iterations of the convex solver.
    time_limit : float, optional
        Seconds for the whole fit; the best network found so far is kept.
    solver : {"auto", "interior_point", "first_order", "clarabel", "scs", "mosek"}, default="auto"
        Who solves the convex programs; see :doc:`/guide/which_solver`.
    device : str, default="auto"
        Device of the torch start trainer.
    random_state : int, RandomState or None, default=None
        Seed; an integer makes fits repeatable.
    verbose : int, default=0
        1 shows progress on the terminal.
    scope : {"patterns", "global"}, default="patterns"
        ``"global"``: go on by column generation until no network of any width can be better by more than
        ``global_tol``, or time is up; meant for few features (up to about seven for ``"l2"``, three for
        ``"lipschitz"``). Give a ``time_limit``.
    global_tol : float, default=1e-3
        Relative global gap at which ``scope="global"`` stops.
    monotonic_cst : array-like of int, shape (n_features,), mapping of name to int, or None, default=None
        As in scikit-learn: +1 nondecreasing, -1 nonincreasing, 0 free. Not with ``"gated"``, no
        ``pattern_search``, and a solver of cvxpy; ``"auto"`` is Clarabel then.
    constraints : sequence of Constraint, default=()
        Further properties of the network, see :func:`convexnn.constraints.train_constrained`; the same settings.

    Attributes
    ----------
    network_ : Network
        The fitted network; takes raw inputs.
    solution_ : Solution or None
        The convex program's solution; its gap concerns the program with ``patterns_``, not training as a whole:
        ``solution_.scope`` is ``"global"`` and ``solution_.global_gap`` finite where more was proved. The objective of
        a Lipschitz program contains a ridge of 1e-10 on the merged biases, ``objective_`` does not.
    start_objective_, objective_ : float
        Training objective of the start and of ``network_``; never larger after than before (without constraints, which
        the start usually breaks).
    guarantees_ : Guarantees
        What is proved of ``network_`` for ``monotonic_cst`` and ``constraints``; empty without them.
    constrained_ : ConstrainedTraining or None
        With constraints only: lower bound of all networks on these cells, price of the constraints.
    global_bound_, global_gap_ : float
        Lower bound on ``objective_`` of every network of any width and the relative gap to it; ``-inf`` and ``inf``
        unless ``scope="global"``.
    patterns_ : ActivationPatterns
        Patterns of the program on the distinct training rows.
    lipschitz_ : Certificate
        Upper bound on the l2 Lipschitz constant of ``network_``.
    history_ : list of dict
        ``stage``, ``objective``, ``seconds``; the objective never rises after the start.
    n_iter_ : int
        Iterations of the convex solver; with constraints the number of convex programs.
    n_features_in_ : int
    feature_names_in_ : array of str

    Notes
    -----
    Equal rows are merged and sorted before anything else: sample weights equal repetitions, and the order of
    the rows does not matter.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from convexnn import L2Ball, SafeSNNRegressor
    >>> X, y = load_diabetes(return_X_y=True, scaled=False)
    >>> model = SafeSNNRegressor(20, lam=1.0, random_state=0).fit(X, y)
    >>> model.objective_ <= model.start_objective_
    True
    >>> bool((model.attack(X, y, L2Ball(1.0)).values <= model.certify(X, y, L2Ball(1.0)).certified).all())
    True
    """

    _trained_parameter = "start"

    def __init__(
        self,
        hidden_units: int = 100,
        *,
        regularizer: str = "lipschitz",
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
        scope: str = "patterns",
        global_tol: float = 1e-3,
        monotonic_cst: Any = None,
        constraints: Any = (),
    ) -> None:
        self.hidden_units = hidden_units
        self.regularizer = regularizer
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
        self.scope = scope
        self.global_tol = global_tol
        self.monotonic_cst = monotonic_cst
        self.constraints = constraints

    @tells_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the network.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
        sample_weight : array-like, shape (n,), optional
            Nonnegative; an integer weight equals repeating the row.

        Returns
        -------
        self
        """
        options = self._options(self.lam)
        require_scope(self.scope, self.global_tol)
        inputs, targets = self._validated(X, y)
        data = condense(inputs, targets, checked_weights(sample_weight, len(inputs)))
        stages = Stages(self, {"X": X, "y": y, "sample_weight": sample_weight}, 3 if self.scope == "global" else 2)
        return self._fit_at(self.lam, data, options, self._seed(), stages, asked_constraints(self))

    def _fit_at(
        self, lam: float, data: Condensed, options: RefineOptions, seed: int, stages: Stages, asked: Asked = ()
    ) -> Self:
        """Train a start network with weight ``lam``, then the one of the convex programs with that of ``options``."""
        load_trainer(self.start)
        began = time.perf_counter()
        self.global_bound_, self.global_gap_ = -np.inf, np.inf
        with stages.stage("start") as fitted:
            start = fitted["network_"] = self._start(data, lam, seed)
        if asked:  # the start is needed for its cells only
            with stages.stage("constrained programs") as fitted:
                fit_constrained(self, data, start, asked, self._remaining(options, began), began)
                fitted["network_"] = self.network_
        else:
            self._refine(start, data, self._remaining(options, began), seed, stages)
        stages.end()
        return self

    def _refine(self, start: Network, data: Condensed, options: RefineOptions, seed: int, stages: Stages) -> None:
        """Refine a start network, go on to the global optimum if asked, store it all."""
        began = time.perf_counter()
        with stages.stage("convex program") as fitted:
            result = refine_network(start, data.X, data.y, options, sample_weight=data.weight)
            fitted["network_"] = result.network
        stage = GlobalStage(result)
        if self.scope == "global" and not stages.stopped:
            with stages.stage("column generation") as fitted:
                stage = train_on(result, data, self._remaining(options, began), self.global_tol, seed)
                fitted["network_"] = stage.refinement.network
        self.global_bound_, self.global_gap_ = stage.bound, stage.gap
        self._store(stage.refinement)

    def _store(self, result: Refinement) -> None:
        self.guarantees_ = Guarantees(())
        self.constrained_: ConstrainedTraining | None = None
        self.network_, self.solution_ = result.network, result.solution
        self.start_objective_, self.objective_ = result.before, result.after
        self.patterns_, self.lipschitz_ = result.patterns, result.certificate
        self.history_ = result.history
        self.n_iter_ = max(1, result.solution.iterations) if result.solution is not None else 1

    def _validated(self, X: ArrayLike, y: ArrayLike, reset: bool = True) -> tuple[Array, Array]:
        inputs, targets = validate_data(self, X, y, reset=reset, y_numeric=True, dtype=np.float64)
        targets = np.asarray(targets, dtype=np.float64)
        refuse_overflow(inputs, "X")
        refuse_overflow(targets, "y")
        return inputs, targets

    def _options(self, lam: float) -> RefineOptions:
        require_hidden_units(self.hidden_units)
        return RefineOptions(
            regularizer=self.regularizer,
            lam=lam,
            method=self.method,
            pattern_search=self.pattern_search,
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            time_limit=self.time_limit,
            verbose=self.verbose,
        )

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _start(self, data: Condensed, lam: float, seed: int) -> Network:
        limit = None if self.time_limit is None else self.time_limit / 2
        return start_network(
            self.start,
            data,
            hidden_units=int(self.hidden_units),
            seed=seed,
            lam=lam,
            regularizer=self.regularizer,
            time_limit=limit,
            device=self.device,
            verbose=self.verbose,
        )

    def _remaining(self, options: RefineOptions, began: float) -> RefineOptions:
        if options.time_limit is None:
            return options
        return replace(options, time_limit=max(options.time_limit - (time.perf_counter() - began), 1e-3))

    def predict(self, X: ArrayLike) -> Array:
        """Outputs of the network.

        Parameters
        ----------
        X : array-like, shape (n, d)

        Returns
        -------
        array, shape (n,)
        """
        check_is_fitted(self)
        return self.network_(validate_data(self, X, reset=False, dtype=np.float64))

    def attack(self, X: ArrayLike, y: ArrayLike, threat: Threat, **options: Any) -> AttackResult:
        """Attack the fitted network; see :func:`convexnn.attack`. A LOWER bound on the worst case."""
        check_is_fitted(self)
        inputs, targets = self._validated(X, y, reset=False)
        return attack(self.network_, inputs, targets, threat, **options)

    def certify(self, X: ArrayLike, y: ArrayLike, threat: Threat) -> CertifiedRegression:
        """Intervals and squared errors that no perturbation in ``threat`` can leave; UPPER bounds.

        See :func:`convexnn.certificates.certify_regression`.
        """
        check_is_fitted(self)
        inputs, targets = self._validated(X, y, reset=False)
        return certify_regression(self.network_, inputs, targets, threat, self.lipschitz_)

    def certified_interval(self, X: ArrayLike, threat: Threat) -> tuple[Array, Array]:
        """Intervals that no output leaves while the input stays in ``threat``: ``f(x) -+ L |x' - x|``.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Raw input units.
        threat : Threat
            For an :class:`~convexnn.L2Ball` of radius r every interval is ``2 L r`` wide.

        Returns
        -------
        lower, upper : array, shape (n,)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return certified_interval(self.network_, X, threat, self.lipschitz_)

    def to_torch(self, dtype: torch.dtype | None = None) -> torch.nn.Sequential:
        """``nn.Sequential(Linear, ReLU, Linear)`` with the fitted weights, float64 unless ``dtype`` says otherwise."""
        check_is_fitted(self)
        return self.network_.to_torch(dtype)


def checked_weights(sample_weight: ArrayLike | None, n: int) -> Array | None:
    """Sample weights as an array of n nonnegative finite numbers, or None."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.ndim != 1:
        raise InvalidInputError("Sample weights must be 1D array or scalar.")
    if weights.shape != (n,):
        raise InvalidInputError(f"sample_weight must have shape ({n},), got {weights.shape}.")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InvalidInputError("sample_weight must hold nonnegative finite numbers that are not all zero.")
    refuse_overflow(weights, "sample_weight")
    return weights
