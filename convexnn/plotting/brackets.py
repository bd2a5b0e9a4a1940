"""Lipschitz constants between what an input attains and what a method proves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.lipschitz_lower import lipschitz_lower_bound
from convexnn.exceptions import InvalidInputError
from convexnn.network import as_network
from convexnn.plotting.style import GRAY, PALETTE, axes, quiet, spans_decades

NORMS = {2.0: "ℓ₂", math.inf: "ℓ∞"}


class LipschitzDisplay:
    """Brackets around the Lipschitz constants of networks: a gradient that is attained, and bounds that are proved.

    Parameters
    ----------
    lower : mapping of str to float
        For every network a gradient norm that some input attains: a LOWER bound on its Lipschitz constant.
    upper : mapping of str to mapping of str to float
        For every network its bounds by method: UPPER bounds.
    norm : {2, inf}
        Of inputs and outputs, for the label.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    ratios_ : dict of str to float
        Best bound over attained gradient of every network; 1 means that the constant is known.

    Raises
    ------
    InvalidInputError
        When a lower bound exceeds an upper one, or a network has no bound.
    """

    def __init__(
        self, lower: Mapping[str, float], upper: Mapping[str, Mapping[str, float]], *, norm: float = 2
    ) -> None:
        self.lower = {name: float(value) for name, value in lower.items()}
        self.upper = {name: {m: float(bound) for m, bound in found.items()} for name, found in upper.items()}
        self.norm = float(norm)
        if not self.lower or set(self.lower) != set(self.upper) or not all(self.upper.values()):
            raise InvalidInputError(
                f"Every network needs a lower bound and an upper one, got {list(self.lower)} and {list(self.upper)}."
            )
        for name, attained in self.lower.items():
            if not 0 <= attained <= min(self.upper[name].values()):
                raise InvalidInputError(f"The bounds of {name!r} are not above {attained:g}: {self.upper[name]}.")

    @property
    def ratios_(self) -> dict[str, float]:
        """Best upper bound over lower bound."""
        best = {name: min(found.values()) for name, found in self.upper.items()}
        return {name: best[name] / value if value > 0 else math.inf for name, value in self.lower.items()}

    @classmethod
    def from_networks(
        cls,
        models: Mapping[str, Any],
        X: ArrayLike | None = None,
        *,
        norm: float = 2,
        methods: Sequence[str] | None = None,
        random_state: Any = 0,
        ax: Any = None,
    ) -> LipschitzDisplay:
        """Bound several networks and draw them.

        Parameters
        ----------
        models : mapping of str to model
            Anything that :func:`convexnn.as_network` takes, pipelines of scalers included.
        X : array-like, shape (n, d), optional
            Inputs to look for large gradients at, raw input units.
        norm : {2, inf}
        methods : sequence of str, optional
            Of :func:`convexnn.lipschitz`; by default its best one for the network, and the product of norms.
        random_state : int, Generator or None
            Of the inputs that are drawn.
        ax : matplotlib Axes, optional
        """
        if float(norm) not in NORMS:
            raise InvalidInputError(f"norm must be 2 or inf, got {norm!r}.")
        networks = {name: as_network(model) for name, model in models.items()}
        lower = {
            name: lipschitz_lower_bound(network, X, norm=norm, random_state=random_state)
            for name, network in networks.items()
        }
        upper = {}
        for name, network in networks.items():
            found = [lipschitz(network, norm=norm)] if methods is None else []
            found += [lipschitz(network, norm=norm, method=method) for method in methods or ("product",)]
            upper[name] = {certificate.method: certificate.bound for certificate in found}
        return cls(lower, upper, norm=norm).plot(ax=ax)

    @classmethod
    def from_network(cls, network: Any, X: ArrayLike | None = None, **options: Any) -> LipschitzDisplay:
        """Bound one network and draw it; see :meth:`from_networks`."""
        return cls.from_networks({"network": network}, X, **options)

    @classmethod
    def from_estimator(cls, estimator: Any, X: ArrayLike | None = None, **options: Any) -> LipschitzDisplay:
        """Bound a fitted estimator, or a pipeline of scalers and one, and draw it; see :meth:`from_networks`."""
        last = estimator[-1] if hasattr(estimator, "named_steps") else estimator
        return cls.from_networks({type(last).__name__: estimator}, X, **options)

    def plot(self, ax: Any = None) -> LipschitzDisplay:
        """Draw on ``ax``, or on a new figure: one line a network."""
        from matplotlib.lines import Line2D

        self.figure_, self.ax_ = axes(ax, (6.4, 1.3 + 0.5 * len(self.lower)))
        methods = list(dict.fromkeys(method for found in self.upper.values() for method in found))
        color = {method: PALETTE[k % len(PALETTE)] for k, method in enumerate(methods)}
        for row, (name, attained) in enumerate(self.lower.items()):
            bounds = {method: bound for method, bound in self.upper[name].items() if math.isfinite(bound)}
            best = min(bounds.values(), default=attained)
            self.ax_.hlines(row, attained, best, color=PALETTE[5], linewidth=7, alpha=0.5)
            self.ax_.plot(attained, row, marker="|", markersize=13, color="black", linestyle="none")
            for method, bound in bounds.items():
                self.ax_.plot(bound, row, marker="D", markersize=6, color=color[method], linestyle="none")
        self._axes()
        marks = [Line2D([], [], color="black", marker="|", markersize=11, linestyle="none", label="attained")]
        marks += [Line2D([], [], color=color[m], marker="D", linestyle="none", label=f"proved by {m}") for m in methods]
        self.ax_.legend(
            handles=marks, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small",
            borderaxespad=0.2,
        )  # fmt: skip
        return self

    def _axes(self) -> None:
        values = [value for value in self.lower.values() if value > 0]
        values += [bound for found in self.upper.values() for bound in found.values()]
        if spans_decades(np.array(values)):
            self.ax_.set_xscale("log")
        else:
            self.ax_.set_xlim(left=0)
        self.ax_.set_yticks(range(len(self.lower)), list(self.lower))
        self.ax_.set_ylim(len(self.lower) - 0.5, -0.5)
        self.ax_.grid(axis="x", color=GRAY, alpha=0.2, linewidth=0.6)
        self.ax_.set_xlabel(f"Lipschitz constant, output per input ({NORMS.get(self.norm, 'ℓ₂')})")
        self.ax_.set_ylabel("network")
        quiet(self.ax_)
