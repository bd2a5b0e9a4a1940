"""Trainers as starts of a convex fit: by name, with the weights that suit the fit's own objective."""

from __future__ import annotations

from typing import Any

from convexnn.exceptions import InvalidInputError
from convexnn.training.adversarial import AdversarialTrainer
from convexnn.training.base import Trainer
from convexnn.training.lipschitz_gradient import LipschitzPenalized
from convexnn.training.registry import TRAINERS

#: Weight decay of a pretrained start, in standardized units, when the fit itself is not weight decay.
START_DECAY = 1e-4


def start_trainer(start: str | Trainer, lam: float) -> Trainer:
    """Trainer of a start: ``lam`` weighs ``L^2`` for "lipschitz" and "admm"; "adversarial" ignores units."""
    if isinstance(start, Trainer):
        return start
    if start not in TRAINERS:
        raise InvalidInputError(
            f"start must be one of {sorted(TRAINERS)} or a trainer (an estimator also takes 'random' or a trained "
            f"model); got {start!r}."
        )
    kind = TRAINERS[start]
    if issubclass(kind, LipschitzPenalized):
        return kind(lam=lam)
    return AdversarialTrainer(units="standardized", steps=5) if kind is AdversarialTrainer else kind()


def start_penalty(trainer: Trainer, regularizer: str, lam: float) -> dict[str, Any]:
    """Weight decay of a start, by option of :func:`convexnn.training.pretrain`.

    A fit by weight decay starts from its own objective, a Lipschitz fit from a mild decay. A trainer that penalizes
    ``L^2`` itself gets none: it minimizes the objective of a Lipschitz fit.
    """
    if isinstance(trainer, LipschitzPenalized):
        return {}
    return {"weight_decay": START_DECAY} if regularizer == "lipschitz" else {"lam": lam}
