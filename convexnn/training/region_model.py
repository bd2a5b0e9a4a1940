"""The trained quantities of a safe network: grouped units, one majorant a group and region, and a temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.training.region_majorants_torch import Groups

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

TRAINED = ("U", "b", "weight", "log_al", "be", "log_temperature", "margin")
FIRST_MARGIN = -4.0  # before the softplus
COLDEST, HOTTEST = -2.0, 5.0
# rates of the weights, of their majorants, of the temperature
RATES = {"U": 1.0, "b": 1.0, "weight": 1.0, "log_al": 3.0, "be": 3.0, "log_temperature": 5.0, "margin": 5.0}


@dataclass(frozen=True, eq=False)
class RegionStart:
    """Where training starts.

    Attributes
    ----------
    U : array, shape (n, d)
        Directions of the groups in the coordinates of the frame.
    S : array, shape (n, m)
        Signs of the units; 0 where a group has fewer than m.
    b, c : array, shape (n, m)
        Biases; output weights.
    al, be : array, shape (n,)
        Majorants, the same for every region.
    free_signs : bool
        Whether output weights may change their sign.
    """

    U: Array
    S: Array
    b: Array
    c: Array
    al: Array
    be: Array
    free_signs: bool


class RegionModel:
    """Trained tensors by name, and what they stand for."""

    def __init__(self, start: RegionStart, n_regions: int, device: str, dtype: str, with_margin: bool) -> None:
        import torch

        self.like: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
        present = start.S != 0
        self.with_margin = with_margin
        self.free_signs = start.free_signs
        size = start.c if start.free_signs else np.log(np.maximum(np.abs(start.c), np.finfo(np.float32).tiny))
        values = {
            "U": start.U,
            "b": start.b,
            "weight": size,
            "log_al": np.tile(np.log(start.al), (n_regions, 1)),
            "be": np.tile(start.be, (n_regions, 1)),
            "log_temperature": np.log(10.0),
            "margin": FIRST_MARGIN,
        }
        self.S = torch.as_tensor(np.where(present, start.S, 1.0), **self.like)
        self.outer = torch.as_tensor(present * np.where(start.c < 0, -1.0, 1.0), **self.like)  # signs, 0 where missing
        self.parameters = {
            name: torch.as_tensor(value, **self.like).clone().requires_grad_(True) for name, value in values.items()
        }

    def groups(self) -> Groups:
        """Units and majorants, differentiable in the parameters."""
        p = self.parameters
        c = p["weight"] * self.outer.abs() if self.free_signs else self.outer * p["weight"].exp()
        return Groups(p["U"], self.S, p["b"], c, p["log_al"].exp(), p["be"])

    def margin(self) -> torch.Tensor:
        """Share of ``B - f(center)`` by which samples must exceed the bound; 0 without negative samples."""
        from torch.nn.functional import softplus

        margin = self.parameters["margin"]
        return softplus(margin) if self.with_margin else 0.0 * margin

    def optimizer(self) -> torch.optim.Adam:
        """Adam with one group a parameter, in the order of ``TRAINED``."""
        import torch

        return torch.optim.Adam([{"params": [self.parameters[name]], "lr": 0.0} for name in TRAINED], foreach=False)

    def set_rates(self, optimizer: torch.optim.Adam, rate: float, base: float) -> None:
        """Rates of a step; temperature and margin keep their first rate."""
        for name, group in zip(TRAINED, optimizer.param_groups, strict=True):
            group["lr"] = RATES[name] * (base if name in ("log_temperature", "margin") else rate)

    def snapshot(self) -> dict[str, Array]:
        """Copies of the parameters as float64 arrays."""
        return {name: value.detach().double().cpu().numpy().copy() for name, value in self.parameters.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Put parameters back."""
        import torch

        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(torch.as_tensor(values[name], **self.like))

    def exact_groups(self) -> Groups:
        """The groups in float64 on the CPU, without gradients: what evaluations and proofs are about."""
        import torch

        with torch.no_grad():
            return self.groups().to(device="cpu", dtype=torch.float64)
