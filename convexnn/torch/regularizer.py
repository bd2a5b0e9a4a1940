"""LipSDP as a module of torch: an exactly differentiable Lipschitz bound for training loops of one's own."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.lipsdp.deep_gradient import value_and_gradient
from convexnn.network import Network
from convexnn.threads import one_thread
from convexnn.torch.layers import LiveLayers
from convexnn.training.lipsdp_regularizer import WarmLipSDP

Array = NDArray[np.float64]
#: Units up to which the matrices of a semidefinite program are small for BLAS.
SMALL = 500


class LipSDPRegularizer(torch.nn.Module):
    """LipSDP Lipschitz bound (l2 to l2) of a torch network, differentiable in its weights.

    ::

        regularizer = LipSDPRegularizer()
        loss = mse(model(X), y) + lam * regularizer(model) ** 2
        loss.backward()

    The value is LipSDP of the current weights to the relative gap ``tol``, not rounded upward; the gradient is exact by
    Danskin's theorem, so no derivative of the maximization is needed. The maximization runs in float64 on the CPU
    whatever the device and dtype of the model, from multipliers kept from the last call. There are no
    second derivatives.

    Implements: convexnn, Proposition 4 of docs/theory/lipsdp.md, Proposition 4 of docs/theory/deep.md (Danskin).

    Parameters
    ----------
    exact_every : int, default 1
        One hidden layer and one output: the maximization is exact on every so many calls; in between its factor follows
        by power steps, and the value is a lower bound on LipSDP. Other networks are exact on every call.
    power_steps : int, default 3
        Power steps of a call in between.
    tol : float, default 1e-8
        Relative gap of the exact maximizations.

    Raises
    ------
    InvalidInputError
        For settings that cannot be meant.

    Notes
    -----
    The module has no parameters and does not hold the model: ``deepcopy``, ``state_dict`` (the multipliers, as extra
    state) and pickles of it are small. A model may change its shape between calls. One regularizer for one model: with
    several, each call starts from the multipliers of the other.

    Examples
    --------
    >>> import torch
    >>> from convexnn.torch import LipSDPRegularizer
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> regularizer = LipSDPRegularizer()
    >>> value = regularizer(model)
    >>> value.backward()
    >>> bool(value.item() <= regularizer.certificate().bound * (1 + 1e-6))
    True
    """

    def __init__(self, *, exact_every: int = 1, power_steps: int = 3, tol: float = 1e-8) -> None:
        super().__init__()
        if not 0.0 < tol < 1.0:
            raise InvalidInputError(f"tol must lie between 0 and 1, got {tol!r}.")
        WarmLipSDP(exact_every=exact_every, power_steps=power_steps)  # says what is wrong with the counts
        self.exact_every, self.power_steps, self.tol = exact_every, power_steps, tol
        self._warm: WarmLipSDP | None = None
        self._start: Array | None = None
        self._shapes: tuple[tuple[int, ...], ...] = ()
        self._model: weakref.ref[torch.nn.Module] | None = None

    @torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
    def forward(self, model: torch.nn.Module) -> torch.Tensor:
        """Lipschitz bound of the current weights, a tensor of shape () with the dtype and device of the weights.

        Parameters
        ----------
        model : torch.nn.Sequential
            Of Linear layers and one kind of activation, any depth, any number of outputs; parametrized weights
            (``weight_norm``, ``spectral_norm``) get their gradients too. nan where a weight is nan or infinite.

        Raises
        ------
        UnsupportedModelError
            Names the layer that cannot be represented, or the activation without bounded slopes.
        """
        layers = LiveLayers.of(model)
        slopes = layers.activation.slopes
        if not np.isfinite(slopes).all():
            raise UnsupportedModelError(
                f"The activation {layers.activation.name!r} has unbounded slopes, so there is no Lipschitz constant."
            )
        self._model = weakref.ref(model)
        weights = layers.weights
        shapes = tuple(tuple(W.shape) for W in weights)
        if shapes != self._shapes:
            self._shapes, self._warm, self._start = shapes, None, None
        if not all(bool(W.isfinite().all()) for W in weights):
            return torch.stack([W.sum() for W in weights]).sum() * float("nan")
        if len(weights) > 2:
            return self._deep(weights, slopes)
        if self._warm is None or self._warm.slopes != slopes:
            self._warm = WarmLipSDP(slopes, exact_every=self.exact_every, power_steps=self.power_steps, tol=self.tol)
        return _once(self._warm, *weights)

    def _deep(self, weights: tuple[torch.Tensor, ...], slopes: tuple[float, float]) -> torch.Tensor:
        plain = [W.detach().cpu().double().numpy() for W in weights]
        with one_thread(sum(map(len, plain)) <= SMALL):
            found = value_and_gradient(plain, slopes, self.tol, self._start)
        self._start = found.t
        return _Given.apply(found.value, found.gradients, *weights)  # type: ignore[no-untyped-call]

    def certificate(self, model: torch.nn.Module | None = None) -> Certificate:
        """Rigorous upper bound (l2) on the Lipschitz constant of the current weights; anybody can check it again.

        Parameters
        ----------
        model : torch.nn.Sequential, optional
            The model of the last call where it is not given.
        """
        known = self._model() if model is None and self._model is not None else model
        if known is None:
            raise InvalidInputError("There is no model to certify: give it, or call the regularizer on it first.")
        return lipschitz(Network.from_torch(known))

    # -- state ---------------------------------------------------------------------------------------
    def get_extra_state(self) -> dict[str, torch.Tensor]:
        """Multipliers as tensors, so that a state dict loads with ``weights_only=True``."""
        arrays: dict[str, Any] = {} if self._warm is None else dict(self._warm.state())
        if self._warm is not None:
            arrays["slopes"] = np.array(self._warm.slopes)
        if self._start is not None:
            arrays["deep"] = self._start
        arrays |= {f"shape{i}": np.array(shape) for i, shape in enumerate(self._shapes)}
        return {name: torch.as_tensor(np.array(value)) for name, value in arrays.items()}

    def set_extra_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up multipliers; any numbers are a valid start."""
        arrays = {name: value.cpu().numpy() for name, value in state.items()}
        shapes = [arrays[f"shape{i}"] for i in range(sum(name.startswith("shape") for name in arrays))]
        self._shapes = tuple(tuple(int(size) for size in shape) for shape in shapes)
        self._start = arrays.get("deep")
        self._warm = None
        if "slopes" in arrays:
            low, high = (float(value) for value in arrays["slopes"])
            self._warm = WarmLipSDP(
                (low, high), exact_every=self.exact_every, power_steps=self.power_steps, tol=self.tol
            )
            self._warm.load(arrays)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the reference to the last model."""
        return {**self.__dict__, "_model": None}

    def extra_repr(self) -> str:
        """Settings in print."""
        return f"exact_every={self.exact_every}, power_steps={self.power_steps}, tol={self.tol:g}"


class _Given(torch.autograd.Function):
    """A value that was computed elsewhere, with the gradients that were computed with it."""

    @staticmethod
    def forward(ctx: Any, value: Any, gradients: Any, *weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*[torch.as_tensor(g).to(W) for g, W in zip(gradients, weights, strict=True)])
        return torch.as_tensor(value, dtype=torch.float64).to(weights[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, along: torch.Tensor) -> Any:
        return None, None, *[along * g for g in ctx.saved_tensors]


def _once(warm: WarmLipSDP, W: torch.Tensor, V: torch.Tensor) -> torch.Tensor:
    """Value of a warm maximization as a function with first derivatives only, whatever the number of outputs."""
    inner, outer = (part.detach().requires_grad_(True) for part in (W, V))
    with torch.enable_grad():
        value = warm(inner.double(), outer.double())
        gradients = torch.autograd.grad(value, (inner, outer))
    return _Given.apply(value.detach(), gradients, W, V)  # type: ignore[no-untyped-call]
