"""Models that wrap a model: pipelines, skorch nets, and torch modules whose code is not a Sequential."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import ReLU
from convexnn.exceptions import UnsupportedModelError
from convexnn.interop import flatten_torch, is_skorch_net, is_torch_module, refuse_hooks, skorch_module, write_linear
from convexnn.model_parts import ModelParts, require_own_weights
from convexnn.network import Network
from convexnn.refinement.torch_head import find_head

Array = NDArray[np.float64]
Wrap = Callable[[Any], Any]


def unwrapped(model: Any, X: Any) -> tuple[Any, Any, Wrap] | None:
    """Model inside of a Pipeline or a skorch net, its inputs, and what wraps another one; None for other models.

    A Pipeline's steps before the model stay as they are: the model inside is trained on what they return, and its
    Lipschitz bound is in these units.
    """
    if isinstance(getattr(model, "steps", None), list):
        features = X
        for _, step in model.steps[:-1]:
            features = features if step in (None, "passthrough") else step.transform(features)
        return model.steps[-1][1], features, lambda inner: _with_last_step(model, inner)
    if is_skorch_net(model):
        return skorch_module(model), X, lambda inner: _with_module(model, inner)
    return None


def _with_last_step(pipeline: Any, inner: Any) -> Any:
    changed = copy.copy(pipeline)  # the steps before are shared: they were not changed
    changed.steps = [*pipeline.steps[:-1], (pipeline.steps[-1][0], inner)]
    return changed


def _with_module(net: Any, module: Any) -> Any:
    changed = copy.deepcopy(net)
    changed.module_.load_state_dict(module.state_dict())  # in place: the optimizer of the copy holds these tensors
    return changed


def labels_of(model: Any, y: Any) -> Any:
    """Class indices of the labels of a wrapped classifier that knows its classes."""
    classes = getattr(model, "classes_", None) if is_skorch_net(model) else None
    if classes is None or np.ndim(y) != 1 or not np.isin(y, classes).all():
        return y
    return np.searchsorted(np.asarray(classes), np.asarray(y))


def is_opaque(model: Any) -> bool:
    """Whether a torch module is no Sequential of layers, so that its code cannot be read."""
    if not is_torch_module(model):
        return False
    try:
        list(flatten_torch(model))
    except UnsupportedModelError:
        return True
    return False


def opaque_parts(module: Any, X: Any) -> ModelParts:
    """Last two Linear layers of any torch module, compared with what the module computes on X.

    Raises
    ------
    UnsupportedModelError
        When the module does not end in two Linear layers with a ReLU between, or one of them cannot be overwritten.
    """
    found = find_head(module, X, None, 256)
    if len(found.names) != 2 or found.activation != ReLU():
        kind = "one Linear layer" if len(found.names) == 1 else f"{found.activation} between two Linear layers"
        raise UnsupportedModelError(
            f"layers='last2' needs a ReLU between two Linear layers; the module ends in {kind}."
        )
    layers = [(name, leaf) for name, leaf in module.named_modules() if not list(leaf.children())]
    for name in found.names:
        layer = module.get_submodule(name)
        if layer.bias is None:
            raise UnsupportedModelError(f"Layer {name!r} (Linear) has no bias; the refined network needs one.")
        require_own_weights(name, layer, [(other, leaf) for other, leaf in layers if leaf is not layer])
    refuse_hooks((name, module.get_submodule(name)) for name in found.names)

    def body(values: Any) -> Array:
        return found.features if values is X else find_head(module, values, found.names, 256).features

    def put_back(network: Network) -> Any:
        changed = copy.deepcopy(module)
        for name, (W, b) in zip(found.names, network.layers, strict=True):
            write_linear(changed.get_submodule(name), W, b)
        return changed

    return ModelParts(found.network(module), body, put_back, whole=False)
