"""Layers in and out of torch, and which models come from where; no network type is needed here.

Every reader returns plain ``(layers, activation)`` and names what it cannot represent.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation, Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.exceptions import InvalidInputError, UnsupportedModelError

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
Layers = tuple[tuple[Array, Array], ...]


def is_torch_module(model: object) -> bool:
    """Whether ``model`` is a ``torch.nn.Module``; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def is_skorch_net(model: object) -> bool:
    """Whether ``model`` is a skorch net; never imports skorch."""
    return any(kind.__name__ == "NeuralNet" and kind.__module__.startswith("skorch.") for kind in type(model).__mro__)


def skorch_module(net: Any) -> torch.nn.Module:
    """The torch module of a fitted (or initialized) skorch net.

    Raises
    ------
    UnsupportedModelError
        When there is none yet.
    """
    if not getattr(net, "initialized_", False):
        raise UnsupportedModelError(f"This {type(net).__name__} has no module yet; call fit or initialize first.")
    module: torch.nn.Module = net.module_
    return module


def is_sklearn_mlp(model: object) -> bool:
    """Whether ``model`` looks like a scikit-learn ``MLPRegressor`` or ``MLPClassifier``."""
    return any(
        kind.__name__ in {"MLPRegressor", "MLPClassifier"} and kind.__module__.startswith("sklearn.")
        for kind in type(model).__mro__
    )


def flatten_torch(module: torch.nn.Module, path: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """Leaves of nested ``nn.Sequential`` in forward order, with their dotted names."""
    from torch import nn

    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        where = f" at {path!r}" if path else ""
        raise UnsupportedModelError(
            f"A torch model must be an nn.Sequential of Linear layers and activations, "
            f"got {type(module).__name__}{where}. Of other modules refine(..., layers='last2') takes the end, and "
            "Network.from_onnx reads an ONNX export."
        )
    for name, child in module._modules.items():  # named_children would pass over an activation that is used twice
        if child is None:
            continue
        label = f"{path}.{name}" if path else name
        if isinstance(child, nn.Sequential):
            yield from flatten_torch(child, label)
        else:
            yield label, child


@functools.cache
def polynomial_layer() -> type[torch.nn.Module]:
    """Class ``PolynomialLayer(a, b, c)`` of torch modules ``t -> a t^2 + b t + c``, which torch does not have.

    Made on the first call, since its base is torch's; pickles find it as an attribute of this module.
    """
    import torch

    class PolynomialLayer(torch.nn.Module):
        """``a t^2 + b t + c`` elementwise; the coefficients are fixed, not trained."""

        def __init__(self, a: float, b: float, c: float) -> None:
            super().__init__()
            self.coefficients = (float(a), float(b), float(c))

        def forward(self, t: torch.Tensor) -> torch.Tensor:
            a, b, c = self.coefficients
            return (a * t + b) * t + c

        def extra_repr(self) -> str:
            return "a={}, b={}, c={}".format(*self.coefficients)

    PolynomialLayer.__qualname__ = PolynomialLayer.__name__
    return PolynomialLayer


def __getattr__(name: str) -> Any:
    if name == "PolynomialLayer":
        return polynomial_layer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def torch_activation(module: torch.nn.Module) -> Activation | None:
    """The activation that a torch layer computes, or None when it is not one we know."""
    from torch import nn

    if type(module) is nn.LeakyReLU and 0 <= module.negative_slope < 1:
        return LeakyReLU(float(module.negative_slope))
    if type(module) is polynomial_layer():
        coefficients: Any = module.coefficients
        return Polynomial(*coefficients)
    known = {nn.ReLU: ReLU, nn.Tanh: Tanh, nn.Sigmoid: Sigmoid}
    for kind, activation in known.items():
        if type(module) is kind:
            return activation()
    return None


def linear_layers(module: torch.nn.Module) -> list[torch.nn.Linear]:
    """The ``nn.Linear`` layers of a sequential module in forward order."""
    from torch import nn

    return [layer for _, layer in flatten_torch(module) if isinstance(layer, nn.Linear)]


def layers_from_torch(module: torch.nn.Module) -> tuple[Layers, Activation]:
    """Weights and activation of an ``nn.Sequential`` of Linear, activation, ..., Linear, as float64 arrays.

    Dropout, Identity and Flatten layers are passed over: they do nothing at inference on flat inputs.
    An Identity alone between two Linear layers is the identity activation.

    Raises
    ------
    UnsupportedModelError
        Names the layer that cannot be represented.
    """
    linear, activation = sequential_parts(module)
    return tuple(_linear_arrays(layer) for _, layer in linear), activation


def sequential_parts(module: torch.nn.Module) -> tuple[list[tuple[str, torch.nn.Linear]], Activation]:
    """Linear layers with their dotted names, and the activation between them; see :func:`layers_from_torch`.

    Raises
    ------
    UnsupportedModelError
        Names the layer that cannot be represented.
    """
    from torch import nn

    layers: list[tuple[str, nn.Linear]] = []
    activations: list[Activation] = []
    identity = False  # since the last Linear
    for label, layer in flatten_torch(module):
        if _is_linear(layer):
            if len(layers) > len(activations) and not identity:
                raise UnsupportedModelError(f"Layer {label!r} follows another Linear without an activation between.")
            activations += [Identity()] * (len(layers) - len(activations))
            _check_linear(layer, label)
            layers.append((label, layer))  # type: ignore[arg-type]
            identity = False
        elif (activation := torch_activation(layer)) is not None:
            if len(activations) != len(layers) - 1:
                raise UnsupportedModelError(f"Activation {label!r} ({type(layer).__name__}) has no Linear before it.")
            activations.append(activation)
        elif type(layer) is nn.Identity:
            identity = True
        elif not _does_nothing(layer):
            raise UnsupportedModelError(
                f"Layer {label!r} is {layer}; supported are Linear, ReLU, LeakyReLU with a slope in [0, 1), Tanh, "
                f"Sigmoid, PolynomialLayer, Dropout, Identity and Flatten()."
            )
    refuse_hooks(module.named_modules())
    return layers, _single_activation(activations, len(layers))


def refuse_hooks(layers: Iterable[tuple[str, torch.nn.Module]]) -> None:
    """Refuse named layers whose call is changed by hooks: what they do cannot be read."""
    for name, layer in layers:
        computed = hasattr(layer, "weight") and "weight" not in layer._parameters  # refused elsewhere, by its reason
        if not computed and (layer._forward_hooks or layer._forward_pre_hooks):
            where = f"Layer {name!r} ({type(layer).__name__})" if name else "The model"
            raise UnsupportedModelError(
                f"{where} has forward hooks, which may change what it computes; remove them (handle.remove()) first."
            )


def _is_linear(layer: torch.nn.Module) -> bool:
    from torch import nn

    # spectral_norm and other parametrizations make a subclass that keeps the forward of Linear
    return isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward


def _does_nothing(layer: torch.nn.Module) -> bool:
    """Whether a layer is the identity at inference on inputs of shape (n, d)."""
    from torch import nn

    return type(layer) is nn.Dropout or (type(layer) is nn.Flatten and layer.start_dim == 1)


def _check_linear(layer: Any, label: str) -> None:
    """Refuse a Linear layer whose weights cannot be read."""
    from torch.nn.parameter import is_lazy

    if "weight" in layer._parameters and is_lazy(layer.weight):
        raise UnsupportedModelError(f"Layer {label!r} is a LazyLinear without weights; run the model on data once.")
    if "weight" not in layer._parameters and not hasattr(layer, "parametrizations"):
        raise UnsupportedModelError(
            f"The weights of layer {label!r} are computed by a hook before a call (older weight_norm, spectral_norm), "
            "so those it holds may be old; remove the hook first."
        )
    if any(part.is_meta for part in layer.parameters()):
        raise UnsupportedModelError(
            f"The weights of layer {label!r} lie on the device 'meta' and have no values; load them first "
            "(module.to_empty(device='cpu'), then load_state_dict)."
        )


def _linear_arrays(layer: Any) -> tuple[Array, Array]:
    weight = as_array(layer.weight)
    return weight, np.zeros(len(weight)) if layer.bias is None else as_array(layer.bias)


def host_array(values: Any) -> Any:
    """A tensor of any device as a numpy array (float64 where it is floating), anything else as it is."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(values, torch.Tensor):
        return values
    return as_array(values) if values.is_floating_point() else values.detach().cpu().numpy()


def as_array(tensor: torch.Tensor) -> Array:
    """A float64 copy of a real tensor of any dtype and device."""
    found: Array = tensor.detach().cpu().double().numpy().copy()
    return found


def _single_activation(activations: list[Activation], n_layers: int) -> Activation:
    if n_layers < 2:
        raise UnsupportedModelError(f"A network needs a hidden layer: two Linear layers or more, got {n_layers}.")
    if len(activations) >= n_layers:
        raise UnsupportedModelError(
            f"The model ends with the activation {activations[-1].name!r}; the last layer must be Linear."
        )
    if len(set(activations)) > 1:
        names = sorted({activation.name for activation in activations})
        raise UnsupportedModelError(f"All hidden layers must share one activation, got {', '.join(names)}.")
    return activations[0]


def layers_to_torch(layers: Layers, activation: Activation, dtype: torch.dtype | None = None) -> torch.nn.Sequential:
    """``nn.Sequential`` of Linear and activation layers with the given weights (float64 by default)."""
    import torch
    from torch import nn

    makers: dict[str, Any] = {
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "identity": nn.Identity,
        "leaky_relu": lambda: nn.LeakyReLU(activation.parameters[0]),
        "polynomial": lambda: polynomial_layer()(*activation.parameters),
    }
    if activation.name not in makers:
        raise UnsupportedModelError(f"torch has no layer for the activation {activation.name!r}.")
    dtype = torch.float64 if dtype is None else dtype
    modules: list[nn.Module] = []
    for W, b in layers:
        linear = nn.Linear(W.shape[1], W.shape[0], dtype=dtype)
        write_linear(linear, W, b)
        modules += [linear, makers[activation.name]()]
    return nn.Sequential(*modules[:-1])


def write_linear(linear: torch.nn.Linear, W: Array, b: Array) -> None:
    """Overwrite the weights of a Linear layer in place, keeping its device and dtype."""
    import torch

    bias: Any = linear.bias
    if linear.weight.shape != W.shape:  # copy_ would broadcast
        raise InvalidInputError(f"A Linear layer of shape {tuple(linear.weight.shape)} cannot hold {W.shape} weights.")
    if bias is None and np.any(b != 0):
        raise UnsupportedModelError("A Linear layer without bias cannot hold a nonzero bias.")
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.array(W)))
        if bias is not None:
            bias.copy_(torch.from_numpy(np.array(b)))
