"""The one network type: fully connected, any depth, any number of outputs, float64, frozen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from convexnn.activations import Activation, get_activation
from convexnn.archive import read_archive, write_archive
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.exchange import layers_from_onnx, write_onnx
from convexnn.inputs import real_array
from convexnn.interop import (
    is_sklearn_mlp,
    is_skorch_net,
    is_torch_module,
    layers_from_torch,
    layers_to_torch,
    skorch_module,
)
from convexnn.layer_arrays import checked_layers
from convexnn.sklearn_mlp import layers_from_sklearn, layers_to_sklearn, scaler_arrays

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
FORMAT = "convexnn.network"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Network:
    """A fully connected network with one activation: ``x -> W_1 act(W_0 x + b_0) + b_1``, or deeper.

    Parameters
    ----------
    layers : sequence of (W, b)
        ``W`` of shape (out, in), ``b`` of shape (out,); two layers or more. Stored as read-only float64.
    activation : str or Activation
        One activation for all hidden layers.

    Notes
    -----
    With one output, values have shape (n,); with ``k > 1`` outputs, (n, k). Statements about a Network
    hold for the real-valued function its float64 weights define.
    """

    layers: tuple[tuple[Array, Array], ...]
    activation: Activation

    def __init__(self, layers: Any, activation: str | Activation = "relu") -> None:
        object.__setattr__(self, "layers", checked_layers(layers))
        object.__setattr__(self, "activation", get_activation(activation))

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild through the constructor, so that copies and pickles are read-only too."""
        return type(self), (self.layers, self.activation)

    @classmethod
    def shallow(
        cls, W: ArrayLike, b: ArrayLike, v: ArrayLike, c: ArrayLike = 0.0, activation: str | Activation = "relu"
    ) -> Network:
        """Network with one hidden layer ``x -> v act(W x + b) + c``.

        Parameters
        ----------
        W : array, shape (m, d)
        b : array, shape (m,)
        v : array, shape (m,) or (k, m)
        c : float or array, shape (k,)
        activation : str or Activation
        """
        outer = np.atleast_2d(real_array(v, "v"))
        offset = real_array(c, "c")
        if offset.ndim == 0:
            offset = np.full(len(outer), offset)
        return cls(((W, b), (outer, offset)), activation)

    # -- shape ------------------------------------------------------------------------------------
    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        return int(self.layers[0][0].shape[1])

    @property
    def n_outputs(self) -> int:
        """Number of outputs k."""
        return len(self.layers[-1][1])

    @property
    def n_hidden(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(len(b) for _, b in self.layers[:-1])

    @property
    def is_shallow(self) -> bool:
        """Whether there is exactly one hidden layer."""
        return len(self.layers) == 2

    def _shallow_layers(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        if not self.is_shallow:
            raise UnsupportedModelError(
                f"This needs a network with one hidden layer; this one has {len(self.layers) - 1} hidden layers."
            )
        return self.layers[0], self.layers[1]

    @property
    def W(self) -> Array:
        """Hidden weights (m, d) of a shallow network."""
        return self._shallow_layers()[0][0]

    @property
    def b(self) -> Array:
        """Hidden biases (m,) of a shallow network."""
        return self._shallow_layers()[0][1]

    @property
    def v(self) -> Array:
        """Outer weights of a shallow network: (m,) with one output, else (k, m)."""
        V = self._shallow_layers()[1][0]
        return V[0] if self.n_outputs == 1 else V

    @property
    def c(self) -> Any:
        """Output bias of a shallow network: a float with one output, else (k,)."""
        offset = self._shallow_layers()[1][1]
        return float(offset[0]) if self.n_outputs == 1 else offset

    # -- evaluation -------------------------------------------------------------------------------
    def _inputs(self, X: ArrayLike) -> Array:
        array = real_array(X, "X")
        if array.ndim != 2 or array.shape[1] != self.n_inputs:
            raise InvalidInputError(f"Expected inputs of shape (n, {self.n_inputs}), got {array.shape}.")
        return array

    def pre_activations(self, X: ArrayLike) -> tuple[Array, ...]:
        """Inputs of the activation in each hidden layer, arrays of shape (n, units)."""
        values = self._inputs(X)
        found = []
        for W, b in self.layers[:-1]:
            z = values @ W.T + b
            found.append(z)
            values = self.activation(z)
        return tuple(found)

    def __call__(self, X: ArrayLike) -> Array:
        """Outputs, shape (n,) with one output, else (n, k)."""
        W, b = self.layers[-1]
        values: Array = self.activation(self.pre_activations(X)[-1]) @ W.T + b
        return values[:, 0] if self.n_outputs == 1 else values

    def gradient(self, X: ArrayLike) -> Array:
        """Gradient with respect to the inputs, shape (n, d) with one output, else (n, k, d).

        At a kink the derivative of the active side is used, so the value is a gradient of one
        adjacent linear piece.
        """
        hidden = zip(self.layers[:-1], self.pre_activations(X), strict=True)
        V = self.layers[-1][0]
        G: Array = np.broadcast_to(V, (len(np.asarray(X)), *V.shape))
        for (W, _), z in reversed(list(hidden)):  # from the outputs back: no array is larger than (n, k, units)
            G = (G * self.activation.derivative(z)[:, None, :]) @ W
        return G[:, 0] if self.n_outputs == 1 else G

    # -- derived networks -------------------------------------------------------------------------
    def _output(self, i: int) -> tuple[Array, float]:
        if not 0 <= i < self.n_outputs:
            raise InvalidInputError(f"There is no output {i}; this network has outputs 0 to {self.n_outputs - 1}.")
        return self.layers[-1][0][i], float(self.layers[-1][1][i])

    def _with_output(self, row: Array, offset: float) -> Network:
        return Network((*self.layers[:-1], (row[None], np.array([offset]))), self.activation)

    def select(self, i: int) -> Network:
        """The scalar network of output ``i``."""
        return self._with_output(*self._output(i))

    def margin(self, i: int, j: int) -> Network:
        """The scalar network ``f_i - f_j``."""
        (row, offset), (other_row, other_offset) = self._output(i), self._output(j)
        return self._with_output(row - other_row, offset - other_offset)

    def __neg__(self) -> Network:
        """The network of ``-f``: the output layer with the other sign, exact in floating point."""
        *hidden, (W, b) = self.layers
        return Network((*hidden, (-W, -b)), self.activation)

    def fold_scaling(self, scaler: Any) -> Network:
        """The network on raw inputs, given that this one expects scaled inputs.

        Parameters
        ----------
        scaler : fitted scaler or (mean, scale)
            Anything with ``mean_`` and ``scale_`` (``StandardScaler``), or a pair of arrays of shape (d,):
            scaled inputs are ``(x - mean) / scale``. None stands for no centring or no scaling.
        """
        shift, unit = scaler_arrays(scaler, self.n_inputs)
        W, b = self.layers[0]
        return Network(((W / unit, b - W @ (shift / unit)), *self.layers[1:]), self.activation)

    # -- identity ---------------------------------------------------------------------------------
    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.activation.name}{self.activation.parameters}".encode())
        for W, b in self.layers:
            digest.update(np.array(W.shape, dtype="<i8").tobytes())
            digest.update((W + 0.0).astype("<f8").tobytes() + (b + 0.0).astype("<f8").tobytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 of weights, shapes and activation: equal exactly for equal networks."""
        return self._digest

    def __eq__(self, other: object) -> bool:
        """Same layers and activation, bit for bit (signed zeros are equal)."""
        return isinstance(other, Network) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        """Hash of the fingerprint."""
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        """Sizes and activation on one line."""
        sizes = "-".join(str(size) for size in (self.n_inputs, *self.n_hidden, self.n_outputs))
        return f"Network({sizes}, {self.activation.name})"

    # -- in and out -------------------------------------------------------------------------------
    @classmethod
    def from_torch(cls, module: torch.nn.Module) -> Network:
        """Network of an ``nn.Sequential`` of Linear and activation layers; other layers are named in the error."""
        return cls(*layers_from_torch(module))

    def to_torch(self, dtype: torch.dtype | None = None) -> torch.nn.Sequential:
        """``nn.Sequential`` with these weights, on the CPU, float64 unless ``dtype`` says otherwise."""
        return layers_to_torch(self.layers, self.activation, dtype)

    @classmethod
    def from_sklearn(cls, mlp: Any) -> Network:
        """Network of a fitted ``MLPRegressor`` or ``MLPClassifier`` (its logits)."""
        return cls(*layers_from_sklearn(mlp))

    def to_sklearn(self, classes: Sequence[Any] | None = None, **parameters: Any) -> Any:
        """A fitted scikit-learn MLP that predicts the same: a regressor, or a classifier of the given classes.

        Parameters
        ----------
        classes : sequence, optional
            Sorted labels, one an output; two for one output, whose positive values are the second class.
        **parameters
            Of ``MLPRegressor`` or ``MLPClassifier``, such as ``warm_start=True`` to train on from these weights.

        Raises
        ------
        UnsupportedModelError
            For activations that scikit-learn does not have.
        """
        return layers_to_sklearn(self.layers, self.activation, classes, **parameters)

    @classmethod
    def from_onnx(cls, path: str | os.PathLike[str]) -> Network:
        """Network of a fully connected ONNX model on flattened inputs; nodes that do not fit are named in the error."""
        return cls(*layers_from_onnx(path))

    def to_onnx(
        self,
        path: str | os.PathLike[str],
        dtype: DTypeLike = np.float32,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write an ONNX model with a free batch size, float32 (rounded) or float64 (bit for bit); return its path."""
        return write_onnx(path, self.layers, self.activation, dtype, metadata)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the network to an ``.npz`` file (plain arrays, no pickle) and return its path."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "activation": self.activation.name,
            "parameters": list(self.activation.parameters),
            "n_layers": len(self.layers),
        }
        arrays = {f"{key}{i}": a for i, layer in enumerate(self.layers) for key, a in zip("Wb", layer, strict=True)}
        return write_archive(path, header, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Network:
        """Read a network written by :meth:`save`; everything in the file is validated before use."""
        header, arrays = read_archive(path, format=FORMAT, version=VERSION)
        try:
            layers = tuple((arrays[f"W{i}"], arrays[f"b{i}"]) for i in range(int(header["n_layers"])))
            parameters = tuple(float(value) for value in header["parameters"])
            return cls(layers, get_activation(str(header["activation"]), parameters))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{path} does not hold a valid network: {error}") from error


def as_network(model: Any) -> Network:
    """The :class:`Network` that a model computes.

    Parameters
    ----------
    model : Network, torch.nn.Module, fitted sklearn MLP, skorch net, fitted estimator with ``network_``, or Pipeline
        A Pipeline may hold scalers with ``mean_`` and ``scale_`` before the model; they are folded in, so the
        network takes raw inputs.

    Raises
    ------
    UnsupportedModelError
        Names the layer or the type that cannot be represented.
    """
    if isinstance(model, Network):
        return model
    model = model.estimator if type(model).__name__ == "FrozenEstimator" else model
    if isinstance(getattr(model, "network_", None), Network):
        return model.network_
    if is_torch_module(model):
        return Network.from_torch(model)
    if is_sklearn_mlp(model):
        return Network.from_sklearn(model)
    if is_skorch_net(model):
        return Network.from_torch(skorch_module(model))
    if isinstance(getattr(model, "steps", None), list):
        network = as_network(model.steps[-1][1])
        for name, step in reversed(model.steps[:-1]):
            if step in (None, "passthrough"):
                continue
            if not hasattr(step, "mean_") or not hasattr(step, "scale_"):
                raise UnsupportedModelError(f"Pipeline step {name!r} ({type(step).__name__}) is not a standard scaler.")
            network = network.fold_scaling(step)
        return network
    raise UnsupportedModelError(
        f"Expected a Network, a torch.nn.Sequential, a fitted sklearn MLP or a fitted convexnn estimator, "
        f"got {type(model).__name__}."
    )
