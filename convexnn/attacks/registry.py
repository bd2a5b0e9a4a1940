"""``attack``: one call for every attack; one more attack is one line here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from convexnn.attacks.base import Attack, AttackProblem, AttackResult
from convexnn.attacks.best import BestOf
from convexnn.attacks.coordinate import CoordinateDescent
from convexnn.attacks.exact import Exact
from convexnn.attacks.fgsm import FGSM
from convexnn.attacks.objectives import build_objective
from convexnn.attacks.pgd import PGD
from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_floats
from convexnn.losses import Loss
from convexnn.network import as_network
from convexnn.threats import Threat

Array = NDArray[np.float64]

ATTACKS: dict[str, Any] = {
    FGSM.name: lambda steps, restarts: FGSM(),  # noqa: ARG005
    PGD.name: PGD,
    BestOf.name: lambda steps, restarts: BestOf(
        (Exact(required=False), CoordinateDescent(restarts, required=False), FGSM(), PGD(steps, restarts))
    ),
    Exact.name: lambda steps, restarts: Exact(),  # noqa: ARG005
    CoordinateDescent.name: lambda steps, restarts: CoordinateDescent(restarts),  # noqa: ARG005
}


def attack(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    threat: Threat,
    *,
    method: str | Attack = "pgd",
    steps: int = 40,
    restarts: int = 5,
    loss: str | Loss | None = None,
    random_state: Any = None,
) -> AttackResult:
    """Search the threat set of each sample for its worst point: a LOWER bound on the worst case.

    Every returned point was checked to lie in the set (up to rounding) and its value was recomputed in float64;
    it is never below the value of the unperturbed sample. Samples are attacked one by one in effect: the result
    of a sample does not depend on the others.

    Parameters
    ----------
    model : Network, torch.nn.Module, fitted sklearn MLP, fitted estimator or Pipeline
        With ``classes_``, these are the labels in ``y``.
    X : array-like, shape (n, d)
        Raw input units.
    y : array-like, shape (n,) or (n, k)
        Numbers (regression) or labels: the model's ``classes_``, else 0..k-1; with one output 0 / 1 or -1 / +1,
        where ``f > 0`` is the second class.
    threat : Threat
        :class:`~convexnn.threats.L2Ball`, ``LInfBall`` or ``Box``; radii in raw input units.
    method : {"pgd", "fgsm", "best", "exact", "coordinate"} or Attack, default="pgd"
        "exact" is the worst case itself: polynomial (or identity) networks with one hidden layer, an ``L2Ball``
        without clip. "coordinate" is for the same networks over boxes. "best" keeps the worst of the points of all
        that apply.
    steps, restarts : int
        Of PGD.
    loss : str or Loss, optional
        "squared", "margin", or a margin loss ("hinge", "squared_hinge", "logistic"; "multi_margin" for several
        outputs). None: "margin" for classifiers, "squared" for regressors. A bare network with one output counts
        as a classifier when ``y`` has an integer or boolean type and holds only 0 / 1 or -1 / +1.
    random_state : int, Generator, RandomState or None
        Seeds the random starts; the global random state is never touched.

    Returns
    -------
    AttackResult

    Raises
    ------
    InvalidInputError
        For NaN, wrong shapes, unknown labels or methods, an unbounded or empty threat set.
    UnsupportedModelError
        For method="exact" where the worst case is not known exactly; the message says why.
    """
    network = as_network(model)
    inputs = as_inputs(X, network.n_inputs)
    check_threat(threat, inputs)
    objective = build_objective(model, y, len(inputs), network.n_outputs, loss)
    return _chosen(method, steps, restarts)(AttackProblem(network, inputs, threat, objective, as_seed(random_state)))


def _chosen(method: str | Attack, steps: int, restarts: int) -> Attack:
    if isinstance(method, Attack):
        return method
    if not isinstance(method, str) or method not in ATTACKS:
        raise InvalidInputError(f"Unknown attack {method!r}; expected one of {sorted(ATTACKS)} or an Attack.")
    chosen: Attack = ATTACKS[method](steps, restarts)
    return chosen


def as_inputs(X: ArrayLike, n_inputs: int) -> Array:
    """Finite float64 inputs of shape (n, n_inputs); what is not is refused in words."""
    try:
        inputs = check_array(as_floats(X, "X"), dtype=np.float64, input_name="X")
    except InvalidInputError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"X is not usable: {error}") from error
    if inputs.shape[1] != n_inputs:
        raise InvalidInputError(f"The network takes {n_inputs} inputs, but X has {inputs.shape[1]} columns.")
    return np.asarray(inputs, dtype=np.float64)


def check_threat(threat: Any, X: Array) -> None:
    """Refuse what is not a bounded threat set for these inputs (n, d)."""
    if not isinstance(threat, Threat):
        raise InvalidInputError(f"threat must be an L2Ball, LInfBall or Box, got {type(threat).__name__}.")
    try:
        lower, upper = threat.bounding_box(X)
    except ValueError as error:
        raise InvalidInputError(f"The threat {threat!r} does not fit inputs with {X.shape[1]} columns.") from error
    if lower.shape != X.shape or not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise InvalidInputError(f"The threat {threat!r} must be a bounded set of {X.shape[1]} columns.")


def as_seed(random_state: Any) -> int:
    """One integer from anything that seeds; a generator is drawn from once."""
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool) and random_state >= 0:
        return int(random_state)
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    raise InvalidInputError(
        f"random_state must be None, an integer >= 0, a Generator or a RandomState, got {random_state!r}."
    )
