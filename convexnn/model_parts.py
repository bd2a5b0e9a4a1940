"""Take the shallow network out of a model and put another one back, whatever the model's type."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Identity
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.interop import (
    flatten_torch,
    is_sklearn_mlp,
    is_torch_module,
    layers_from_torch,
    linear_layers,
    refuse_hooks,
    write_linear,
)
from convexnn.network import Network

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ModelParts:
    """A model seen as ``head(body(x))`` with a shallow head.

    Attributes
    ----------
    head : Network
        The shallow network that is trained.
    body : callable
        Raw inputs to the head's inputs, ``(n, ...) -> (n, d)``.
    put_back : callable
        A copy of the model with another head of the same shape; the model itself is not touched.
    whole : bool
        Whether the body is the identity, so that the head is the whole model.
    """

    head: Network
    body: Callable[[Any], Array]
    put_back: Callable[[Network], Any]
    whole: bool


def split_model(model: Any, layers: str = "all", *, classifiers: bool = False) -> ModelParts:
    """Split a model into a body and the shallow head that will be retrained.

    Parameters
    ----------
    model : Network, torch.nn.Sequential, or fitted sklearn MLPRegressor
    layers : {"all", "last2"}
        ``"all"`` takes the whole model, which must have one hidden layer; ``"last2"`` takes its last two
        linear layers, everything before them is the body.
    classifiers : bool
        Take scikit-learn classifiers (their logits) as well.

    Raises
    ------
    UnsupportedModelError
        Names the layer or the type that does not fit.
    """
    if layers not in ("all", "last2"):
        raise InvalidInputError(f"layers must be 'all' or 'last2', got {layers!r}.")
    if isinstance(model, Network):
        return _split_network(model, layers, lambda network: network)
    if is_torch_module(model):
        return _split_torch(model, layers)
    if is_sklearn_mlp(model):
        if not (classifiers or type(model).__name__.endswith("Regressor")):
            raise UnsupportedModelError(
                f"Only regressors can be refined with the squared loss, got {type(model).__name__}; give a margin loss."
            )
        return _split_network(Network.from_sklearn(model), layers, lambda network: _sklearn_copy(model, network))
    raise UnsupportedModelError(
        f"Expected a Network, a torch.nn.Sequential or a fitted sklearn MLPRegressor, got {type(model).__name__}."
    )


def deep_model(model: Any) -> ModelParts | None:
    """A whole model with two hidden ReLU layers or more, or None for every other model.

    Parameters
    ----------
    model : Network, torch.nn.Sequential, or fitted sklearn MLPRegressor or MLPClassifier
        Its outputs are values or logits.
    """
    if isinstance(model, Network):
        return _deep_parts(model, lambda network: network)
    if is_sklearn_mlp(model):
        return _deep_parts(Network.from_sklearn(model), lambda network: _sklearn_copy(model, network))
    if not is_torch_module(model):
        return None
    try:
        layers, activation = layers_from_torch(model)
    except UnsupportedModelError:
        return None
    leaves = list(flatten_torch(model))
    for index, (label, leaf) in enumerate(leaves):
        if any(leaf is linear for linear in linear_layers(model)):
            require_own_weights(label, leaf, leaves[index + 1 :])

    def put_back(network: Network) -> Any:
        changed = copy.deepcopy(model)
        for linear, (W, b) in zip(linear_layers(changed), network.layers, strict=True):
            write_linear(linear, W, b)
        return changed

    return _deep_parts(Network(layers, activation), put_back)


def _deep_parts(network: Network, put_back: Callable[[Network], Any]) -> ModelParts | None:
    if network.is_shallow or network.activation.name != "relu":
        return None
    return ModelParts(network, lambda X: _plain(np.reshape(X, (len(X), -1))), put_back, whole=True)


def _plain(X: Any) -> Array:
    if np.iscomplexobj(X):
        raise InvalidInputError("X holds complex numbers; expected real ones.")
    array = np.asarray(X, dtype=np.float64)
    if array.ndim != 2:
        raise InvalidInputError(f"Expected inputs of shape (n, d), got {array.shape}.")
    return array


def _split_network(network: Network, layers: str, wrap: Callable[[Network], Any]) -> ModelParts:
    if network.is_shallow:
        return ModelParts(network, _plain, wrap, whole=True)
    if layers == "all":
        raise UnsupportedModelError(
            f"The model has {len(network.n_hidden)} hidden layers; use layers='last2' to retrain the last two linear "
            "layers."
        )
    front, activation = network.layers[:-2], network.activation

    def body(X: Any) -> Array:
        values = _plain(X)
        for W, b in front:
            values = activation(values @ W.T + b)
        return values

    def put_back(head: Network) -> Any:
        return wrap(Network((*front, *head.layers), activation))

    return ModelParts(Network(network.layers[-2:], activation), body, put_back, whole=False)


def _sklearn_copy(model: Any, network: Network) -> Any:
    changed = copy.deepcopy(model)
    changed.coefs_ = [np.array(W.T, dtype=old.dtype) for (W, _), old in zip(network.layers, model.coefs_, strict=True)]
    pairs = zip(network.layers, model.intercepts_, strict=True)
    changed.intercepts_ = [np.array(b, dtype=old.dtype) for (_, b), old in pairs]
    return changed


def _split_torch(module: torch.nn.Module, layers: str) -> ModelParts:
    from torch import nn

    leaves = list(flatten_torch(module))
    linear = [index for index, (_, leaf) in enumerate(leaves) if isinstance(leaf, nn.Linear)]
    if len(linear) < 2:
        raise UnsupportedModelError(f"A network needs two Linear layers to refine, found {len(linear)}.")
    first = linear[-2]
    tail = [leaf for _, leaf in leaves[first:]]
    refuse_hooks(leaves[first:])
    head = Network(*layers_from_torch(nn.Sequential(*tail)))
    front = [
        (label, leaf) for label, leaf in leaves[:first] if not isinstance(leaf, (nn.Dropout, nn.Identity, nn.Flatten))
    ]
    if front and layers == "all":
        label, leaf = front[0]
        raise UnsupportedModelError(
            f"Layer {label!r} ({type(leaf).__name__}) stands before the last two Linear layers; "
            "use layers='last2' to retrain only those."
        )
    for index in (first, linear[-1]):
        label, leaf = leaves[index]
        if getattr(leaf, "bias", None) is None:
            raise UnsupportedModelError(f"Layer {label!r} (Linear) has no bias; the refined network needs one.")
        require_own_weights(label, leaf, leaves[:index] + leaves[index + 1 :])

    def body(X: Any) -> Array:
        if not front:  # nothing but flattening: keep the caller's float64 inputs
            return _plain(np.reshape(X, (len(X), -1)))
        return _torch_body([leaf for _, leaf in leaves[:first]], tail[0], X)

    def put_back(network: Network) -> Any:
        changed = copy.deepcopy(module)
        copies = [leaf for _, leaf in flatten_torch(changed)]
        for index, (W, b) in zip((first, linear[-1]), network.layers, strict=True):
            write_linear(copies[index], W, b)  # type: ignore[arg-type]
        return changed

    return ModelParts(head, body, put_back, whole=not front)


def require_own_weights(label: str, layer: torch.nn.Module, others: list[tuple[str, torch.nn.Module]]) -> None:
    """Refuse a layer that cannot be overwritten: its weights are computed, or another layer uses them as well."""
    if "weight" not in layer._parameters:
        raise UnsupportedModelError(
            f"The weights of layer {label!r} are computed from other parameters (weight_norm, spectral_norm or another "
            "parametrization); remove that first."
        )
    own = {id(part) for part in layer.parameters()}
    for name, other in others:
        if any(id(part) in own for part in other.parameters()):
            raise UnsupportedModelError(
                f"Layers {name!r} and {label!r} share weights; refining one would change the other."
            )


def _torch_body(body: list[torch.nn.Module], head: Any, X: Any) -> Array:
    """Features of a torch body in evaluation mode; training flags of the caller's model are restored."""
    import torch

    values = torch.as_tensor(np.asarray(X)).to(device=head.weight.device, dtype=head.weight.dtype)
    modes = [layer.training for layer in body]
    try:
        with torch.no_grad():
            for layer in body:
                values = layer.eval()(values)
    finally:
        for layer, mode in zip(body, modes, strict=True):
            layer.train(mode)
    return _plain(values.detach().cpu().double().numpy())


def needs_relu(network: Network) -> None:
    """Refuse networks whose activation has no patterns."""
    if network.activation.name != "relu":
        kind = "linear" if isinstance(network.activation, Identity) else network.activation.name
        raise UnsupportedModelError(f"Convex refinement needs a ReLU network, this one is {kind}.")
    if network.n_outputs != 1:
        raise UnsupportedModelError(f"Convex refinement needs one output, this network has {network.n_outputs}.")
