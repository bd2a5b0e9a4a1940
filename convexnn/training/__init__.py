"""Pretraining and baselines in torch; one more trainer is one file and one line in ``registry.py``."""

from convexnn.training.base import Trainer, TrainingResult
from convexnn.training.gradient import AdamTrainer, SGDTrainer
from convexnn.training.options import Progress, TrainingOptions
from convexnn.training.pretraining import pretrain
from convexnn.training.registry import TRAINERS, get_trainer

__all__ = [
    "TRAINERS",
    "AdamTrainer",
    "Progress",
    "SGDTrainer",
    "Trainer",
    "TrainingOptions",
    "TrainingResult",
    "get_trainer",
    "pretrain",
]
