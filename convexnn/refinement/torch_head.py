"""The last layers of any torch module: found, checked on data, their inputs gathered, and another head put in place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation, Identity, Polynomial, ReLU
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.interop import polynomial_layer, torch_activation, write_linear
from convexnn.network import Network

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

CANDIDATES = (ReLU(), Identity(), Polynomial())  # activations tried where none is found as a module
AGREEMENT = 1e-3  # relative difference of outputs at which a head counts as found, in the module's own precision


@dataclass(frozen=True)
class TorchHead:
    """The end of a torch module: ``module(x) = head(features(x))``, checked on the data it was found with.

    Attributes
    ----------
    names : tuple of str
        Dotted names of the last Linear layers, one or two.
    activation : Activation or None
        Between two layers; None with one.
    between : str or None
        Dotted name of the activation's module, None where it is a function call.
    features : array, shape (n, d)
        Inputs of the first of them, float64.
    outputs : array, shape (n, k)
        Outputs of the module.
    """

    names: tuple[str, ...]
    activation: Activation | None
    between: str | None
    features: Array
    outputs: Array

    def network(self, module: torch.nn.Module) -> Network:
        """The head as a ReLU network; one Linear layer ``g`` is ``relu(g) - relu(-g)``, two units an output."""
        pairs = [_arrays(module.get_submodule(name)) for name in self.names]
        if self.activation is not None:
            return Network(pairs, self.activation)
        W, b = pairs[0]
        eye = np.eye(len(W))
        return Network([(np.vstack([W, -W]), np.concatenate([b, -b])), (np.hstack([eye, -eye]), np.zeros(len(W)))])


def find_head(module: torch.nn.Module, X: Any, names: tuple[str, ...] | None, batch_size: int) -> TorchHead:
    """The last two Linear layers of a module with the activation between them, else its last Linear layer.

    Whatever the module's code does, the claim ``module(x) = head(features(x))`` is compared on X.

    Parameters
    ----------
    module : torch.nn.Module
        Anything with Linear layers at its end; it is not changed, and its modes are restored.
    X : array or tensor
        Inputs of the module, samples first.
    names : tuple of str, optional
        Dotted names of the layers, one or two; None looks for them.
    batch_size : int
        Samples at a time.

    Raises
    ------
    UnsupportedModelError
        When no such end is found.
    """
    from torch import nn

    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if names is not None:
        _check_names(module, names)
        choices = [tuple(names)]
    else:
        choices = [tuple(linear[-2:])] * (len(linear) > 1) + [tuple(linear[-1:])] * bool(linear)
    for choice in choices:
        try:
            features, outputs = gather(module, X, choice[0], batch_size)
        except UnsupportedModelError:  # a layer that the module does not run, or runs twice
            continue
        found = _matching(module, choice, features, outputs)
        if found is not None:
            return found
    raise UnsupportedModelError(
        f"No head was found: the module's outputs are not those of its last Linear layers {linear[-2:]} with an "
        "activation between; name them with head_layers=('fc1', 'fc2')."
    )


def _check_names(module: torch.nn.Module, names: tuple[str, ...]) -> None:
    from torch import nn

    found = dict(module.named_modules())
    for name in names:
        if not isinstance(found.get(name), nn.Linear):
            raise InvalidInputError(f"head_layers names {name!r}, which is no Linear layer of the module.")
    if not 1 <= len(names) <= 2:
        raise InvalidInputError(f"head_layers holds one or two names, got {names!r}.")


def _matching(module: Any, names: tuple[str, ...], features: Array, outputs: Array) -> TorchHead | None:
    """The head with the activation that reproduces the module's outputs, or None."""
    pairs = [_arrays(module.get_submodule(name)) for name in names]
    if features.ndim != 2 or outputs.ndim != 2 or features.shape[1] != pairs[0][0].shape[1]:
        return None
    scale = np.abs(outputs).max(initial=0.0) + 1e-12
    (W, b), (V, c) = pairs[0], pairs[-1]
    if len(names) == 1:
        same = outputs.shape[1] == len(b) and np.abs(features @ W.T + b - outputs).max() <= AGREEMENT * scale
        return TorchHead(names, None, None, features, outputs) if same else None
    if V.shape[1] != len(b) or outputs.shape[1] != len(c):
        return None
    between, own = _activation_between(module, names)
    for activation in (own,) if own is not None else CANDIDATES:
        if np.abs(activation(features @ W.T + b) @ V.T + c - outputs).max() <= AGREEMENT * scale:
            return TorchHead(names, activation, between, features, outputs)
    return None


def _activation_between(module: torch.nn.Module, names: tuple[str, ...]) -> tuple[str | None, Activation | None]:
    """Module of an activation that stands between the two layers in one nn.Sequential, and what it computes."""
    from torch import nn

    parents = [name.rpartition(".")[0] for name in names]
    parent = module.get_submodule(parents[0])
    if parents[0] != parents[1] or not isinstance(parent, nn.Sequential):
        return None, None
    keys = list(parent._modules)
    first, last = (keys.index(name.rpartition(".")[2]) for name in names)
    found = []
    for key in keys[first + 1 : last]:
        layer = parent._modules[key]
        activation = None if layer is None else torch_activation(layer)
        if activation is not None:
            found.append((f"{parents[0]}.{key}".lstrip("."), activation))
    return found[0] if len(found) == 1 else (None, None)


def gather(module: torch.nn.Module, X: Any, name: str, batch_size: int) -> tuple[Array, Array]:
    """Inputs of one layer and outputs of the module in evaluation mode, batch by batch, float64.

    Modes are restored, buffers are not touched, no gradient is recorded, and tensors stay on the module's device.
    """
    import torch

    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InvalidInputError(f"batch_size must be a positive integer, got {batch_size!r}.")
    layer: Any = module.get_submodule(name)
    inputs = X if isinstance(X, torch.Tensor) else torch.as_tensor(np.asarray(X))
    if len(inputs) == 0:
        raise InvalidInputError("X holds no samples.")
    seen: list[Any] = []
    found: list[tuple[Array, Array]] = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        with evaluating(module), torch.no_grad():
            for start in range(0, len(inputs), batch_size):
                batch = inputs[start : start + batch_size].to(device=layer.weight.device)
                batch = batch.to(layer.weight.dtype) if batch.dtype.is_floating_point or X is not inputs else batch
                values = module(batch)
                if len(seen) != 1 or not isinstance(values, torch.Tensor):
                    raise UnsupportedModelError(
                        f"The layer {name!r} ran {len(seen)} times in one pass and the module returned a "
                        f"{type(values).__name__}; expected one run and a tensor."
                    )
                found.append((_numpy(seen.pop()), _numpy(values)))
    finally:
        hook.remove()
    features, outputs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not (np.isfinite(features).all() and np.isfinite(outputs).all()):
        raise InvalidInputError("The features or outputs of the module hold NaN or infinite values.")
    return features, outputs if outputs.ndim > 1 else outputs[:, None]


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; the training flag of every sub-module comes back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def put_head(module: torch.nn.Module, head: TorchHead, network: Network) -> torch.nn.Module:
    """A copy of the module that ends in the shallow network; the module itself is not changed.

    The module's own code keeps running, so what stands between two layers stays: where it is a ReLU that is no module
    and the new activation is another one, the first layer returns ``(f, -f)`` and the second one takes
    ``relu(f) - relu(-f) = f``.
    """
    from torch import nn

    changed = copy.deepcopy(module)
    (W, b), (V, c) = network.layers
    like: Any = changed.get_submodule(head.names[0])
    hidden = [_linear(W, b, like), _layer(network.activation)]
    if len(head.names) == 1:
        _set(changed, head.names[0], nn.Sequential(*hidden, _linear(V, c, like)))
    elif head.between is not None:
        _set(changed, head.names[0], hidden[0])
        _set(changed, head.between, hidden[1])
        _set(changed, head.names[1], _linear(V, c, like))
    elif network.activation == head.activation:
        _set(changed, head.names[0], hidden[0])
        _set(changed, head.names[1], _linear(V, c, like))
    elif head.activation == ReLU():
        eye = np.eye(len(c))
        both = _linear(np.vstack([V, -V]), np.concatenate([c, -c]), like)
        _set(changed, head.names[0], nn.Sequential(*hidden, both))
        _set(changed, head.names[1], _linear(np.hstack([eye, -eye]), np.zeros(len(c)), like))
    else:
        raise UnsupportedModelError(f"A {network.activation.name} head does not fit behind {head.activation}.")
    return changed


def stored(network: Network, module: torch.nn.Module, head: TorchHead) -> Network:
    """The network as the module's precision holds it."""
    like: Any = module.get_submodule(head.names[0])
    layers = [_arrays(_linear(W, b, like)) for W, b in network.layers]
    return Network(layers, network.activation)


def _layer(activation: Activation) -> Any:
    from torch import nn

    if isinstance(activation, Polynomial):
        return polynomial_layer()(*activation.parameters)
    return nn.ReLU()


def _linear(W: Array, b: Array, like: Any) -> Any:
    from torch import nn

    layer = nn.Linear(W.shape[1], W.shape[0], device=like.weight.device, dtype=like.weight.dtype)
    write_linear(layer, W, b)
    layer.train(like.training)
    return layer


def _set(module: torch.nn.Module, name: str, value: Any) -> None:
    parent, _, key = name.rpartition(".")
    module.get_submodule(parent)._modules[key] = value


def _arrays(layer: Any) -> tuple[Array, Array]:
    weight = _numpy(layer.weight)
    return weight, np.zeros(len(weight)) if layer.bias is None else _numpy(layer.bias)


def _numpy(tensor: Any) -> Array:
    return np.asarray(tensor.detach().cpu().double().numpy()).copy()
