"""The trained quantities of a safe network: its weights, multipliers of its bound on each region, a temperature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.training.region_majorants_torch import Bounded, Groups

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

FIRST_MARGIN = -4.0  # before the softplus
COLDEST, HOTTEST = -2.0, 5.0
OWN_RATES = {"log_temperature": 5.0, "margin": 5.0}  # of the first rate, at every step
MULTIPLIER_RATE = 3.0  # of the rate of the weights


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
    leak : float
        Slope of the units below zero.
    """

    U: Array
    S: Array
    b: Array
    c: Array
    al: Array
    be: Array
    free_signs: bool
    leak: float = 0.0


class SafeModel(ABC):
    """Trained tensors by name, and what they stand for.

    Parameters
    ----------
    values : mapping
        First values of weights and multipliers.
    multipliers : sequence of str
        Which of them only the bound depends on.
    device, dtype : str
    with_margin : bool
        There are negative samples.
    """

    def __init__(
        self, values: Mapping[str, Array], multipliers: tuple[str, ...], device: str, dtype: str, with_margin: bool
    ) -> None:
        import torch

        self.like: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
        self.with_margin = with_margin
        own = {"log_temperature": np.asarray(np.log(10.0)), "margin": np.asarray(FIRST_MARGIN)}
        self.parameters = {
            name: torch.as_tensor(value, **self.like).clone().requires_grad_(True)
            for name, value in (dict(values) | own).items()
        }
        self.rates = {name: MULTIPLIER_RATE if name in multipliers else 1.0 for name in values} | OWN_RATES

    @abstractmethod
    def groups(self) -> Bounded:
        """Network and multipliers, differentiable in the parameters."""

    @abstractmethod
    def fixed(self) -> tuple[Array, ...]:
        """Arrays that are not trained and tell one model from another."""

    def margin(self) -> torch.Tensor:
        """Share of ``B - f(center)`` by which samples must exceed the bound; 0 without negative samples."""
        from torch.nn.functional import softplus

        margin = self.parameters["margin"]
        return softplus(margin) if self.with_margin else 0.0 * margin

    def optimizer(self) -> torch.optim.Adam:
        """Adam with one group a parameter, in the order of ``parameters``."""
        import torch

        return torch.optim.Adam([{"params": [p], "lr": 0.0} for p in self.parameters.values()], foreach=False)

    def set_rates(self, optimizer: torch.optim.Adam, rate: float, base: float) -> None:
        """Rates of a step; temperature and margin keep their first rate."""
        for name, group in zip(self.parameters, optimizer.param_groups, strict=True):
            group["lr"] = self.rates[name] * (base if name in OWN_RATES else rate)

    def snapshot(self) -> dict[str, Array]:
        """Copies of the parameters as float64 arrays."""
        return {name: value.detach().double().cpu().numpy().copy() for name, value in self.parameters.items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Put parameters back."""
        import torch

        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(torch.as_tensor(values[name], **self.like))

    def exact_groups(self) -> Bounded:
        """The network in float64 on the CPU, without gradients: what evaluations and proofs are about."""
        import torch

        with torch.no_grad():
            return self.groups().to(device="cpu", dtype=torch.float64)


class RegionModel(SafeModel):
    """Grouped units with one majorant a group and region."""

    def __init__(self, start: RegionStart, n_regions: int, device: str, dtype: str, with_margin: bool) -> None:
        import torch

        present = start.S != 0
        self.free_signs, self.leak = start.free_signs, start.leak
        size = start.c if start.free_signs else np.log(np.maximum(np.abs(start.c), np.finfo(np.float32).tiny))
        values = {
            "U": start.U,
            "b": start.b,
            "weight": size,
            "log_al": np.tile(np.log(start.al), (n_regions, 1)),
            "be": np.tile(start.be, (n_regions, 1)),
        }
        super().__init__(values, ("log_al", "be"), device, dtype, with_margin)
        self.S = torch.as_tensor(np.where(present, start.S, 1.0), **self.like)
        self.outer = torch.as_tensor(present * np.where(start.c < 0, -1.0, 1.0), **self.like)  # signs, 0 where missing

    def groups(self) -> Groups:
        """Units and majorants, differentiable in the parameters."""
        p = self.parameters
        c = p["weight"] * self.outer.abs() if self.free_signs else self.outer * p["weight"].exp()
        return Groups(p["U"], self.S, p["b"], c, p["log_al"].exp(), p["be"], self.leak)

    def fixed(self) -> tuple[Array, ...]:
        """Signs of the units."""
        signs = (self.S.cpu().numpy(), self.outer.cpu().numpy())
        return (*signs, np.array([self.free_signs, self.leak], dtype=np.float64))
