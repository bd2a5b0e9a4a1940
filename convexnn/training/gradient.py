"""Plain first-order training: the two pretrainers everybody starts from."""

from __future__ import annotations

from typing import ClassVar

from convexnn.training.base import Trainer


class AdamTrainer(Trainer):
    """Adam on loss plus weight decay."""

    name: ClassVar[str] = "adam"
    optimizer: ClassVar[str] = "adam"
    learning_rate: ClassVar[float] = 0.01


class SGDTrainer(Trainer):
    """Stochastic gradient descent with momentum on loss plus weight decay."""

    name: ClassVar[str] = "sgd"
    optimizer: ClassVar[str] = "sgd"
    learning_rate: ClassVar[float] = 0.01
