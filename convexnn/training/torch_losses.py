"""Losses and activations as torch functions: the differentiable twins of ``convexnn.losses`` and ``activations``.

Each loss takes predictions (n, k) and targets (n, k) (class losses: indices (n, 1)) and returns one value per
row, shape (n,). With several outputs the squared and the binary losses add over the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from convexnn.activations import Activation
from convexnn.exceptions import InvalidInputError
from convexnn.losses import Huber, Loss

if TYPE_CHECKING:
    import torch

    TorchLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def squared(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``sum_j (f_j - y_j)^2``."""
    return (f - y).square().sum(1)


def huber(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``r^2`` up to ``|r| = 1`` and ``2 |r| - 1`` beyond, ``r = f_j - y_j``, summed over j."""
    size = (f - y).abs()
    near = size.clamp_max(1)
    return (near * (near + 2 * (size - near))).sum(1)


def hinge(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``sum_j max(0, 1 - y_j f_j)`` for targets -1 / +1."""
    return (1 - y * f).clamp_min(0).sum(1)


def squared_hinge(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``sum_j max(0, 1 - y_j f_j)^2`` for targets -1 / +1."""
    return (1 - y * f).clamp_min(0).square().sum(1)


def logistic(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``sum_j log(1 + exp(-y_j f_j))`` for targets -1 / +1, without overflow."""
    from torch.nn.functional import softplus

    return softplus(-y * f).sum(1)


def multi_margin(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``max(0, 1 + max_{t != y} f_t - f_y)`` for class indices."""
    index = y.long()
    own = f.gather(1, index)[:, 0]
    rival = f.scatter(1, index, float("-inf")).amax(1)
    return (1 + rival - own).clamp_min(0)


def cross_entropy(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``log sum_t exp(f_t) - f_y`` for class indices."""
    return f.logsumexp(1) - f.gather(1, y.long())[:, 0]


TORCH_LOSSES: dict[str, Any] = {
    function.__name__: function
    for function in (squared, huber, hinge, squared_hinge, logistic, multi_margin, cross_entropy)
}


def loss_name(loss: str | Loss) -> str:
    """Name of a loss that can be trained on.

    Raises
    ------
    InvalidInputError
        For an unknown one, with the known names.
    """
    name = loss.name if isinstance(loss, Loss) else loss
    if not isinstance(name, str) or name not in TORCH_LOSSES:
        raise InvalidInputError(f"Unknown loss {loss!r}; expected one of {sorted(TORCH_LOSSES)}.")
    if isinstance(loss, Huber) and loss.delta != 1:
        raise InvalidInputError(f"the trainers know the Huber loss with delta 1, not {loss.delta!r}; scale the targets")
    return name


def torch_activation(activation: Activation) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the activation as a torch function."""
    import torch

    parameters = activation.parameters
    makers: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "identity": lambda z: z,
        "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, parameters[0]),
        "polynomial": lambda z: (parameters[0] * z + parameters[1]) * z + parameters[2],
    }
    if activation.name not in makers:
        raise InvalidInputError(f"The activation {activation.name!r} has no torch form; known: {sorted(makers)}.")
    return makers[activation.name]
