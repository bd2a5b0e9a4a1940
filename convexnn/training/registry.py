"""Trainers by name; one more trainer is one line here."""

from __future__ import annotations

from convexnn.exceptions import InvalidInputError
from convexnn.training.admm import ADMMTrainer
from convexnn.training.adversarial import AdversarialTrainer
from convexnn.training.base import Trainer
from convexnn.training.gradient import AdamTrainer, SGDTrainer
from convexnn.training.lipschitz_gradient import LipschitzTrainer
from convexnn.training.max_gradient_penalty import MaxGradientTrainer
from convexnn.training.sharpness_aware import SAMTrainer

TRAINERS: dict[str, type[Trainer]] = {
    kind.name: kind
    for kind in (
        AdamTrainer,
        SGDTrainer,
        SAMTrainer,
        AdversarialTrainer,
        LipschitzTrainer,
        MaxGradientTrainer,
        ADMMTrainer,
    )
}


def get_trainer(method: str | Trainer) -> Trainer:
    """Look a trainer up by name (default settings); a trainer is returned as it is."""
    if isinstance(method, Trainer):
        return method
    if not isinstance(method, str) or method not in TRAINERS:
        raise InvalidInputError(f"Unknown training method {method!r}; expected one of {sorted(TRAINERS)} or a Trainer.")
    return TRAINERS[method]()
