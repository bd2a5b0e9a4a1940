"""Where a run starts and where it runs: initial weights from a seed, and the device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


def initial_layers(
    n_inputs: int, hidden: tuple[int, ...], n_outputs: int, rng: np.random.Generator, constant: NDArray[np.bool_]
) -> list[tuple[Array, Array]]:
    """Draw starting weights for standardized inputs: He's normal weights, uniform biases, small outer weights.

    Implements: He, Zhang, Ren & Sun (2015), eq. (10), arXiv 1502.01852, for the hidden weights.

    Parameters
    ----------
    n_inputs : int
    hidden : tuple of int
    n_outputs : int
    rng : numpy Generator
        The only source of randomness: nothing depends on the rows.
    constant : array of bool, shape (d,)
        Columns without variation, whose weights start (and stay) at zero.
    """
    layers, width = [], n_inputs
    for units in hidden:
        W = rng.standard_normal((units, width)) * np.sqrt(2.0 / width)
        layers.append((W, rng.uniform(-1.0, 1.0, units)))
        width = units
    layers[0][0][:, constant] = 0.0
    V = rng.standard_normal((n_outputs, width)) / np.sqrt(width)
    return [*layers, (V, np.zeros(n_outputs))]


def resolve_device(device: str) -> str:
    """Name of the torch device; "auto" is CUDA when torch sees one.

    Raises
    ------
    InvalidInputError
        When the device is unknown to torch, or CUDA is asked for and missing.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(f"Unknown device {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:1'.") from error
    if kind.type == "cuda" and (not torch.cuda.is_available() or (kind.index or 0) >= torch.cuda.device_count()):
        raise InvalidInputError(
            f"device={device!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA device(s); "
            "use device='cpu' or device='auto', or install a CUDA build of torch."
        )
    if kind.type not in ("cpu", "cuda"):
        raise InvalidInputError(f"device={device!r} is not supported; use 'auto', 'cpu' or 'cuda'.")
    return str(kind)
