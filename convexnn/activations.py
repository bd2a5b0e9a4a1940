"""Scalar activation functions: value, derivative and the interval of their slopes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Activation:
    """Base of the activations; elementwise on arrays of any shape."""

    name: ClassVar[str] = ""

    @property
    def slopes(self) -> tuple[float, float]:
        """Smallest interval that contains every slope; infinite ends when unbounded."""
        raise NotImplementedError

    @property
    def parameters(self) -> tuple[float, ...]:
        """Numbers that define the activation, as stored in files."""
        return ()

    def __call__(self, z: Array) -> Array:
        """Value at ``z``, same shape."""
        raise NotImplementedError

    def derivative(self, z: Array) -> Array:
        """Slope at ``z``, same shape; ties at a kink count as active."""
        raise NotImplementedError


@dataclass(frozen=True)
class ReLU(Activation):
    """``max(z, 0)``; the slope at 0 is 1 (ties are active)."""

    name: ClassVar[str] = "relu"

    @property
    def slopes(self) -> tuple[float, float]:
        """``(0, 1)``."""
        return 0.0, 1.0

    def __call__(self, z: Array) -> Array:
        """``max(z, 0)``."""
        return np.maximum(z, 0.0)

    def derivative(self, z: Array) -> Array:
        """``1[z >= 0]``."""
        return (np.asarray(z) >= 0).astype(float)


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """``z`` for ``z >= 0``, ``slope * z`` below.

    Parameters
    ----------
    slope : float
        In [0, 1).
    """

    slope: float = 0.01
    name: ClassVar[str] = "leaky_relu"

    def __post_init__(self) -> None:
        """Refuse slopes for which the function is not ``max(z, slope z)``."""
        if not 0 <= as_number(self.slope, "slope") < 1:
            raise InvalidInputError(f"LeakyReLU needs a slope in [0, 1), got {self.slope!r}.")

    @property
    def slopes(self) -> tuple[float, float]:
        """``(slope, 1)``."""
        return self.slope, 1.0

    @property
    def parameters(self) -> tuple[float, ...]:
        """``(slope,)``."""
        return (self.slope,)

    def __call__(self, z: Array) -> Array:
        """``max(z, slope * z)``."""
        return np.maximum(z, self.slope * np.asarray(z))

    def derivative(self, z: Array) -> Array:
        """1 where ``z >= 0``, else the slope."""
        return np.where(np.asarray(z) >= 0, 1.0, self.slope)


@dataclass(frozen=True)
class Polynomial(Activation):
    """``a z^2 + b z + c``, the activation of globally solvable networks.

    The defaults are the fit to ReLU used by Bartan & Pilanci (2021).

    Parameters
    ----------
    a, b, c : float
        Finite; zero and negative numbers are allowed.
    """

    a: float = 0.09
    b: float = 0.5
    c: float = 0.47
    name: ClassVar[str] = "polynomial"

    def __post_init__(self) -> None:
        """Refuse coefficients that are not finite."""
        if not all(math.isfinite(as_number(value, "a coefficient")) for value in self.parameters):
            raise InvalidInputError(f"Polynomial needs finite coefficients, got {self.parameters}.")

    @property
    def slopes(self) -> tuple[float, float]:
        """``(b, b)`` without quadratic term, else the whole line."""
        return (self.b, self.b) if self.a == 0 else (-math.inf, math.inf)

    @property
    def parameters(self) -> tuple[float, ...]:
        """``(a, b, c)``."""
        return self.a, self.b, self.c

    def __call__(self, z: Array) -> Array:
        """Value ``a z^2 + b z + c``."""
        z = np.asarray(z)
        return (self.a * z + self.b) * z + self.c

    def derivative(self, z: Array) -> Array:
        """``2 a z + b``."""
        return 2 * self.a * np.asarray(z) + self.b


@dataclass(frozen=True)
class Identity(Activation):
    """``z``: a linear network."""

    name: ClassVar[str] = "identity"

    @property
    def slopes(self) -> tuple[float, float]:
        """``(1, 1)``."""
        return 1.0, 1.0

    def __call__(self, z: Array) -> Array:
        """``z``."""
        return np.asarray(z, dtype=float)

    def derivative(self, z: Array) -> Array:
        """Ones."""
        return np.ones(np.shape(z))


@dataclass(frozen=True)
class Tanh(Activation):
    """Hyperbolic tangent."""

    name: ClassVar[str] = "tanh"

    @property
    def slopes(self) -> tuple[float, float]:
        """``(0, 1)``."""
        return 0.0, 1.0

    def __call__(self, z: Array) -> Array:
        """``tanh(z)``."""
        return np.tanh(z)

    def derivative(self, z: Array) -> Array:
        """``1 - tanh(z)^2``."""
        return 1.0 - np.tanh(z) ** 2


@dataclass(frozen=True)
class Sigmoid(Activation):
    """Logistic function ``1 / (1 + exp(-z))``."""

    name: ClassVar[str] = "sigmoid"

    @property
    def slopes(self) -> tuple[float, float]:
        """``(0, 1/4)``."""
        return 0.0, 0.25

    def __call__(self, z: Array) -> Array:
        """``(1 + tanh(z / 2)) / 2``, which cannot overflow."""
        return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(z)))

    def derivative(self, z: Array) -> Array:
        """``sigmoid(z) (1 - sigmoid(z))``."""
        value = self(z)
        return value * (1.0 - value)


ACTIVATIONS: dict[str, type[Activation]] = {
    kind.name: kind for kind in (ReLU, LeakyReLU, Polynomial, Identity, Tanh, Sigmoid)
}


def get_activation(activation: str | Activation, parameters: tuple[float, ...] = ()) -> Activation:
    """Activation of a name, or the activation itself.

    Parameters
    ----------
    activation : str or Activation
        One of ``"relu"``, ``"leaky_relu"``, ``"polynomial"``, ``"identity"``, ``"tanh"``, ``"sigmoid"``.
    parameters : tuple of float
        Positional parameters for a named activation.
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise InvalidInputError(f"Unknown activation {activation!r}; expected one of {sorted(ACTIVATIONS)}.")
    try:
        return ACTIVATIONS[activation](*parameters)
    except TypeError as error:
        raise InvalidInputError(f"The activation {activation!r} does not take the parameters {parameters}.") from error
