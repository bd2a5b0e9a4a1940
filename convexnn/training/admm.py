"""Lipschitz-regularized training by the alternating direction method of multipliers (ADMM) of Pauli et al. (2022).

The weights W of the loss and the weights Wbar of the matrix inequality are split; loss steps, SDP steps and
multiplier steps alternate (docs/theory/admm.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp import maximize, stack, t_from_multiplier
from convexnn.training.lipschitz_gradient import LipschitzPenalized, raw_weights
from convexnn.training.lipsdp_prox import ProximalStep
from convexnn.training.loop import Session
from convexnn.training.optimizers import Layers
from convexnn.training.options import TrainingOptions, require_count, require_number
from convexnn.training.problem import Batch, TrainingProblem, sum_of_squares

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
STEP: Any = {"sharpest": 2e3, "max_iter": 60}  # of an SDP step: a sharper one takes twice the time and gains nothing
T_FLOOR, T_MARGIN = 1e-6, 1.02  # least t_i relative to the largest; factor that keeps tau > 0


@dataclass(frozen=True)
class Preset:
    """What a mode stands for where the trainer is not told otherwise.

    Attributes
    ----------
    penalty : float
        rho; in the tuned mode in units of ``lam`` (per squared raw unit of the inputs).
    relative : bool
        Whether ``penalty`` is in units of ``lam``.
    rounds : int
        Loss, SDP and multiplier steps.
    decay : float
        Weight decay of the initial training.
    update : bool
        Whether T is set anew from LipSDP after every round.
    plain : bool
        Loss steps by gradient descent without momentum at a constant rate (else Adam under the schedule).
    """

    penalty: float
    relative: bool
    rounds: int
    decay: float
    update: bool
    plain: bool


PRESETS = {
    "tuned": Preset(penalty=5.0, relative=True, rounds=40, decay=1e-3, update=True, plain=False),
    "original": Preset(penalty=2.0, relative=False, rounds=100, decay=5e-4, update=False, plain=True),
}


@dataclass(eq=False)
class ADMMTrainer(LipschitzPenalized):
    """ADMM on ``mean loss + lam L^2``: loss step, SDP step with fixed T, multiplier step.

    Implements: Pauli et al. (2022), the ADMM scheme, as in their published code (arXiv 2005.02929).

    Parameters
    ----------
    lam : float, default=1e-2
        Weight of ``L^2``, L the LipSDP bound in raw units.
    mode : {"tuned", "original"}, default="tuned"
        ``"tuned"``: Adam, T updated after every round, the best of all W and Wbar by the true objective is kept.
        ``"original"``: the settings of the published code: penalty 2, 100 rounds, plain gradient descent at the rate
        0.01, T kept from the start, and the LAST Wbar is returned. Its 10000 epochs a round are
        ``epochs=1_000_000`` here, shared out over the rounds like any other budget.
    penalty : float, optional
        rho, standardized units. None: 2 (original), or 5 ``lam`` in standardized units (tuned).
    rounds : int, optional
        Rounds that share the epochs after the warm-up. None: 40 (tuned), 100 (original).
    warm_up : float, default=0.25
        Part of the epochs spent on the initial network, trained with weight decay; 0 takes the start as it is.
    update_multiplier : bool, optional
        Whether T is recomputed from LipSDP after every round. None: the mode decides.

    Notes
    -----
    One hidden layer, one output, slopes of
    the activation in [0, 1].
    """

    lam: float = 1e-2
    mode: str = "tuned"
    penalty: float | None = None
    rounds: int | None = None
    warm_up: float = 0.25
    update_multiplier: bool | None = None
    name: ClassVar[str] = "admm"
    learning_rate: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        super().__post_init__()
        require_number("warm_up", self.warm_up)
        if self.mode not in PRESETS:
            raise InvalidInputError(f"mode must be one of {sorted(PRESETS)}, got {self.mode!r}.")
        if self.warm_up >= 1:
            raise InvalidInputError(f"warm_up must be a part of the epochs in [0, 1), got {self.warm_up!r}.")
        if self.penalty is not None:
            require_number("penalty", self.penalty, positive=True)
        if self.rounds is not None:
            require_count("rounds", self.rounds)
        if PRESETS[self.mode].plain:
            self.optimizer, self.learning_rate = "sgd", 0.01  # type: ignore[misc]

    # -- the run ----------------------------------------------------------------------------------
    def adapt(self, options: TrainingOptions) -> TrainingOptions:
        """Plain gradient descent at a constant rate in the original mode."""
        options = super().adapt(options)
        return options.replace(schedule="constant", momentum=0.0) if PRESETS[self.mode].plain else options

    def prepare(self, problem: TrainingProblem) -> None:
        """Forget an earlier run; refuse what the matrix inequality does not cover."""
        super().prepare(problem)
        low, high = problem.activation.slopes
        if low < 0 or high > 1:
            raise UnsupportedModelError(
                f"ADMM needs an activation with slopes in [0, 1], like ReLU or tanh, got {problem.activation.name!r}."
            )
        self._split: Split | None = None
        self._done = 0

    def run(self, session: Session) -> None:
        """Warm up, then rounds; each phase ends at an epoch that the plan fixes, so a resumed run takes its place."""
        total = session.options.epochs
        warm = min(round(self.warm_up * total), total - 1)
        ends = [warm + (total - warm) * (index + 1) // self._rounds for index in range(self._rounds)]
        session.descend(warm - session.epoch, self._initial)
        while session.status is None:
            if self._split is None:
                self._split = Split.at(session, self)
            elif due := sum(end <= session.epoch for end in ends) - self._done:
                self._outer_step(session, self._split, due)
            if session.epoch >= total:
                break
            session.descend(min(end for end in ends if end > session.epoch) - session.epoch)
        if not PRESETS[self.mode].plain:
            session.consider(session.parameters.values.new_zeros(session.parameters.values.shape))
        elif session.status is None and self._split is not None:
            self._return_last(session, self._split)

    def _outer_step(self, session: Session, split: Split, due: int) -> None:
        """SDP step, multiplier step, a new T, and a look at the new Wbar."""
        self._done += due
        split.sdp_step(session.layers)
        split.multiplier_step(session.layers)
        session.consider(split.flat(session))
        if self._update:
            split.new_multiplier()

    @staticmethod
    def _return_last(session: Session, split: Split) -> None:
        session.best = (np.inf, session.best[1], session.epoch)
        session.consider(split.flat(session))

    @property
    def _rounds(self) -> int:
        return PRESETS[self.mode].rounds if self.rounds is None else int(self.rounds)

    @property
    def _update(self) -> bool:
        return PRESETS[self.mode].update if self.update_multiplier is None else self.update_multiplier

    # -- what a step minimizes --------------------------------------------------------------------
    def _initial(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        decay = PRESETS[self.mode].decay
        return problem.data_loss(layers, batch) + problem.penalty(layers) + decay * sum_of_squares(layers)

    def objective(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        """Batch loss plus the augmented terms ``rho/2 ||W - Wbar||^2 + <Y, W - Wbar>``; biases are free."""
        assert self._split is not None
        return problem.data_loss(layers, batch) + problem.penalty(layers) + self._split.augmented(problem, layers)

    # -- checkpoints ------------------------------------------------------------------------------
    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the split variables, the multipliers and the number of rounds done."""
        arrays = {} if self._split is None else self._split.arrays()
        return {"done": np.array(self._done), **super().state(), **arrays}

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up an earlier run."""
        super().load(state)
        self._done = int(state["done"])
        if "W" in state:
            self._split = Split(*(np.array(state[name]) for name in Split.NAMES))


@dataclass
class Split:
    """The second copy (W, v) of the weights, the multipliers (Y, z) and T, standardized units, float64.

    ``weight`` is mu and ``penalty`` rho, both for standardized loss and ``scale`` (input scales up to their
    geometric mean).
    """

    W: Array
    v: Array
    Y: Array
    z: Array
    t: Array
    weight: Array
    penalty: Array
    scale: Array

    _anchors: Any = field(default=None, init=False, repr=False)

    NAMES: ClassVar[tuple[str, ...]] = ("W", "v", "Y", "z", "t", "weight", "penalty", "scale")

    @classmethod
    def at(cls, session: Session, trainer: ADMMTrainer) -> Split:
        """Copy of the current weights, zero multipliers, T of LipSDP."""
        problem = session.problem
        raw_weights(problem, session.layers)  # refuses deep networks
        W, v = _arrays(session.layers)
        if len(v) != 1:
            raise UnsupportedModelError(f"ADMM needs one output, these targets need {len(v)}; use method='lipschitz'.")
        unit = float(np.exp(np.log(problem.scaling.input_scale).mean()))
        # loss_unit cancels against the target scale inside L
        weight = trainer.lam / unit**2 * problem.scaling.target_scale**2 / problem.loss_unit
        preset = PRESETS[trainer.mode]
        default = preset.penalty * (weight if preset.relative else 1.0)
        penalty = default if trainer.penalty is None else trainer.penalty
        scale = problem.scaling.input_scale / unit
        Y, z = np.zeros_like(W), np.zeros_like(v[0])
        split = cls(W, v[0], Y, z, np.ones_like(z), np.array(weight), np.array(max(penalty, 1e-300)), scale)
        split.new_multiplier()
        return split

    def new_multiplier(self) -> None:
        """T of LipSDP at (W, v), away from the boundary."""
        q = maximize(stack(self.W / self.scale, self.v)).multiplier
        t = t_from_multiplier(self.v, q)
        t = np.where(np.isfinite(t), t, 0.0)  # units without weights
        largest = max(float(t.max()), float((self.v**2).max()))
        self.t = np.maximum(t, T_FLOOR * largest) * T_MARGIN if largest > 0 else np.ones_like(t)

    def sdp_step(self, layers: Layers) -> None:
        """``(W, v) <- argmin mu lmax(Q) + rho/2 ||.||^2 + <Y, .>`` with T fixed."""
        W, v = _arrays(layers)
        rho = float(self.penalty)
        step = ProximalStep(W + self.Y / rho, v[0] + self.z / rho, self.t, float(self.weight), rho, self.scale)
        self.W, self.v = step.solve(**STEP)

    def multiplier_step(self, layers: Layers) -> None:
        """``Y <- Y + rho (W - Wbar)``."""
        W, v = _arrays(layers)
        self.Y = self.Y + self.penalty * (W - self.W)
        self.z = self.z + self.penalty * (v[0] - self.v)
        self._anchors = None

    def augmented(self, problem: TrainingProblem, layers: Layers) -> torch.Tensor:
        """Augmented terms of both layers up to a constant: ``rho/2 ||W - (Wbar - Y / rho)||^2``."""
        if self._anchors is None:
            rho = self.penalty
            self._anchors = [problem.tensor(self.W - self.Y / rho), problem.tensor((self.v - self.z / rho)[None])]
        (W, _), (V, _) = layers
        square = (W - self._anchors[0]).square().sum() + (V - self._anchors[1]).square().sum()
        return 0.5 * float(self.penalty) * square

    def flat(self, session: Session) -> torch.Tensor:
        """Flat weights of the network (W, b, v, c) with the biases of the loss step."""
        import torch

        (_, b), (_, c) = session.layers
        tensor = session.problem.tensor
        parts = (tensor(self.W), b.detach(), tensor(self.v), c.detach())
        return torch.cat([part.reshape(-1) for part in parts])

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything, for a checkpoint."""
        return {name: np.asarray(getattr(self, name)) for name in self.NAMES}


def _arrays(layers: Layers) -> tuple[Array, Array]:
    W, V = (part.detach().cpu().double().numpy().copy() for part, _ in layers)
    return W, V
