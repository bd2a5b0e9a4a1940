"""Adam and SGD on one flat parameter vector: a handful of tensor operations per step, states that save to npz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

Layers = list[tuple[Any, Any]]


class FlatParameters:
    """All weights of a network in one vector, with leaf tensors (W, b) that are views of it.

    Gradients accumulate into one vector as well, so an optimizer touches two vectors whatever the depth.

    Parameters
    ----------
    layers : list of (W, b) tensors
        Copied; device and dtype are theirs.
    """

    def __init__(self, layers: Layers) -> None:
        import torch

        self.values = torch.cat([part.detach().reshape(-1) for pair in layers for part in pair]).clone()
        self.gradient = torch.zeros_like(self.values)
        self.layers: Layers = []
        start = 0
        for pair in layers:
            views = []
            for part in pair:
                stop = start + part.numel()
                view = self.values[start:stop].view(part.shape).detach().requires_grad_(True)
                view.grad = self.gradient[start:stop].view(part.shape)
                views.append(view)
                start = stop
            self.layers.append((views[0], views[1]))

    def read(self) -> torch.Tensor:
        """Copy of the flat vector."""
        return self.values.clone()

    def write(self, values: torch.Tensor) -> None:
        """Overwrite every weight in place."""
        self.values.copy_(values)


class Optimizer(Protocol):
    """A first-order method on a :class:`FlatParameters`."""

    def step(self, rate: float) -> None:
        """Move along the accumulated gradient with step size ``rate``."""

    def reset(self) -> None:
        """Forget all moments."""

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that define the method's memory."""

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take up a memory written by :meth:`state`."""


class SGD:
    """Gradient descent with heavy-ball momentum: ``m <- momentum m + g``, ``theta <- theta - rate m``."""

    def __init__(self, parameters: FlatParameters, momentum: float) -> None:
        self.parameters, self.momentum = parameters, momentum
        self.reset()

    def reset(self) -> None:
        """Forget the velocity."""
        self.velocity = self.parameters.gradient.clone().zero_()

    def step(self, rate: float) -> None:
        """One step along the velocity."""
        self.velocity.mul_(self.momentum).add_(self.parameters.gradient)
        self.parameters.values.add_(self.velocity, alpha=-rate)

    def state(self) -> dict[str, np.ndarray]:
        """Return the velocity."""
        return {"velocity": self.velocity.cpu().numpy().copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take up a velocity."""
        import torch

        self.velocity.copy_(torch.from_numpy(np.array(state["velocity"])))


class Adam:
    """Adam with bias correction.

    Implements: Kingma & Ba (2015), algorithm 1, arXiv 1412.6980.
    """

    def __init__(self, parameters: FlatParameters, momentum: float, beta: float = 0.999, epsilon: float = 1e-8) -> None:
        self.parameters, self.momentum, self.beta, self.epsilon = parameters, momentum, beta, epsilon
        self.reset()

    def reset(self) -> None:
        """Forget both moments."""
        self.count = 0
        self.first = self.parameters.gradient.clone().zero_()
        self.second = self.first.clone()

    def step(self, rate: float) -> None:
        """One step along the first moment, scaled by the root of the second."""
        gradient = self.parameters.gradient
        self.count += 1
        self.first.lerp_(gradient, 1.0 - self.momentum)
        self.second.mul_(self.beta).addcmul_(gradient, gradient, value=1.0 - self.beta)
        root = (self.second / (1.0 - self.beta**self.count)).sqrt_().add_(self.epsilon)
        self.parameters.values.addcdiv_(self.first, root, value=-rate / (1.0 - self.momentum**self.count))

    def state(self) -> dict[str, np.ndarray]:
        """Return both moments and the step count."""
        return {
            "first": self.first.cpu().numpy().copy(),
            "second": self.second.cpu().numpy().copy(),
            "count": np.array(self.count),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Take up both moments and the step count."""
        import torch

        self.first.copy_(torch.from_numpy(np.array(state["first"])))
        self.second.copy_(torch.from_numpy(np.array(state["second"])))
        self.count = int(state["count"])


OPTIMIZERS: dict[str, Any] = {"adam": Adam, "sgd": SGD}
