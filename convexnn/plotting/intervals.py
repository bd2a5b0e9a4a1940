"""Predictions with the intervals that no perturbation can leave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.attacks import attack
from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.certificates.regression import certified_interval
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network, as_network
from convexnn.plotting.style import PALETTE, axes, quiet
from convexnn.threats import Threat

Array = NDArray[np.float64]
Pair = tuple[Array, Array]

#: Two steps towards white from the blue of the palette.
CERTIFIED, REACHED = "#C3DBEC", "#64A6CF"


class IntervalDisplay:
    """Predictions, the range that an attack reaches around each, and the certified interval around that.

    Every output on a threat set lies in the certified interval; every output between the reached ones is attained. An
    interval speaks of the network's output at perturbed inputs, not of the targets, which no certificate can promise.

    Parameters
    ----------
    position : array, shape (n,)
        Place of each prediction on the horizontal axis, nondecreasing.
    prediction : array, shape (n,)
    lower, upper : array, shape (n,)
        Certified interval of each prediction.
    target : array, shape (n,), or None
    reached : pair of arrays, shape (n,), or None
        Least and largest output that an attack found.
    curve : bool
        Whether the positions sample one line, so that a curve in a band is drawn instead of bars.
    label : str
        The perturbations, for the legend.
    xlabel : str

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    """

    def __init__(
        self,
        position: ArrayLike,
        prediction: ArrayLike,
        lower: ArrayLike,
        upper: ArrayLike,
        *,
        target: ArrayLike | None = None,
        reached: tuple[ArrayLike, ArrayLike] | None = None,
        curve: bool = False,
        label: str = "the perturbations",
        xlabel: str = "",
    ) -> None:
        self.position, self.prediction = np.asarray(position, dtype=float), np.asarray(prediction, dtype=float)
        self.lower, self.upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
        self.target = None if target is None else np.asarray(target, dtype=float)
        self.reached: Pair | None = None
        if reached is not None:
            self.reached = np.asarray(reached[0], dtype=float), np.asarray(reached[1], dtype=float)
        self.curve, self.label, self.xlabel = curve, label, xlabel
        self._check()

    def _check(self) -> None:
        values = {name: getattr(self, name) for name in ("prediction", "lower", "upper", "target")}
        values |= dict(zip(("reached low", "reached high"), self.reached or (), strict=False))
        shape = self.position.shape
        wrong = [f"{name} {v.shape}" for name, v in values.items() if v is not None and v.shape != shape]
        if len(shape) != 1 or not self.position.size or wrong:
            raise InvalidInputError(f"positions of shape {shape} need arrays of that shape, got {', '.join(wrong)}.")
        if not (np.diff(self.position) >= 0).all():
            raise InvalidInputError("positions must be sorted.")
        if not ((self.lower <= self.prediction) & (self.prediction <= self.upper)).all():
            raise InvalidInputError("every prediction must lie in its interval.")

    @classmethod
    def from_network(
        cls,
        network: Any,
        X: ArrayLike,
        threat: Threat,
        *,
        y: ArrayLike | None = None,
        certificate: Certificate | None = None,
        attacked: bool = True,
        random_state: Any = 0,
        ax: Any = None,
    ) -> IntervalDisplay:
        """Draw the samples ``X``, sorted by their prediction, one bar a sample.

        Parameters
        ----------
        network : model with one output
            Anything that :func:`convexnn.network.as_network` takes.
        X : array-like, shape (n, d)
            Raw input units of the model.
        threat : Threat
            :class:`~convexnn.threats.L2Ball`, ``LInfBall`` or ``Box``.
        y : array-like, shape (n,), optional
            Targets, drawn beside the predictions.
        certificate : Certificate, optional
            Of the network's l2 Lipschitz constant; None computes one.
        attacked : bool
            Also search the extreme outputs by an attack.
        random_state : int, Generator, RandomState or None
            Of the attack.
        ax : matplotlib Axes, optional
        """
        net = _scalar(network)
        prediction = net(X)
        order = np.argsort(prediction, kind="stable")
        lower, upper = certified_interval(net, X, threat, certificate or lipschitz(net))
        reached = _reached(net, X, threat, (lower, upper), random_state) if attacked else None
        return cls(
            np.arange(1, len(order) + 1),
            prediction[order],
            lower[order],
            upper[order],
            target=None if y is None else _targets(y, len(order))[order],
            reached=None if reached is None else (reached[0][order], reached[1][order]),
            label=_named(threat),
            xlabel="samples, sorted by prediction",
        ).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, X: ArrayLike, threat: Threat, **options: Any) -> IntervalDisplay:
        """Draw the samples of a fitted estimator, or a pipeline of scalers and one; see :meth:`from_network`."""
        return cls.from_network(as_network(estimator), X, threat, **options)

    @classmethod
    def from_ray(
        cls,
        model: Any,
        origin: ArrayLike,
        direction: int | ArrayLike,
        threat: Threat,
        *,
        span: tuple[float, float] = (-3.0, 3.0),
        n_points: int = 200,
        certificate: Certificate | None = None,
        attacked: bool = True,
        random_state: Any = 0,
        ax: Any = None,
    ) -> IntervalDisplay:
        """Draw the output along a line through ``origin``: a curve in its certified band.

        Parameters
        ----------
        model : model with one output
            Network, torch module, fitted sklearn MLP, estimator or pipeline.
        origin : array-like, shape (d,)
            Raw input units of the model.
        direction : int or array-like, shape (d,)
            The number of a feature, or a vector, which is scaled to length one.
        threat : Threat
        span : pair of float
            First and last distance from the origin along the direction, input units.
        n_points : int
        certificate, attacked, random_state, ax
            As for :meth:`from_network`.
        """
        net = _scalar(model)
        start = np.asarray(origin, dtype=float)
        unit, xlabel, offset = _unit_direction(direction, start, net.n_inputs)
        t = np.linspace(*span, n_points)
        X = start + t[:, None] * unit
        interval = certified_interval(net, X, threat, certificate or lipschitz(net))
        reached = _reached(net, X, threat, interval, random_state) if attacked else None
        return cls(
            t + offset, net(X), *interval, reached=reached, curve=True, label=_named(threat), xlabel=xlabel
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> IntervalDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes(ax, (7.2, 4.2))
        self._span(self.lower, self.upper, CERTIFIED, f"certified: no output leaves it within {self.label}")
        if self.reached is not None:
            self._span(*self.reached, REACHED, "reached by an attack")
        self._predictions()
        if self.target is not None:
            self.ax_.scatter(self.position, self.target, s=self._dot_size(), color=PALETTE[1], label="target", zorder=4)
        self.ax_.set_xlabel(self.xlabel)
        self.ax_.set_ylabel("output")
        self.ax_.margins(x=0.02)
        self.ax_.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small", borderaxespad=0.2
        )
        quiet(self.ax_)
        return self

    def _span(self, low: Array, high: Array, color: str, label: str) -> None:
        if self.curve:
            self.ax_.fill_between(self.position, low, high, color=color, linewidth=0, label=label)
        else:
            self.ax_.vlines(self.position, low, high, color=color, linewidth=self._bar_width(), label=label)

    def _predictions(self) -> None:
        if self.curve:
            self.ax_.plot(self.position, self.prediction, color="black", linewidth=1.4, label="prediction")
            return
        marks = {"marker": "_", "s": (self._bar_width() + 1) ** 2, "linewidth": 1.4}
        self.ax_.scatter(self.position, self.prediction, color="black", label="prediction", zorder=3, **marks)

    def _dot_size(self) -> float:
        return float(np.clip(1200 / len(self.position), 4.0, 22.0))

    def _bar_width(self) -> float:
        return float(np.clip(300 / len(self.position), 0.8, 7.0))


def _scalar(model: Any) -> Network:
    network = as_network(model)
    if network.n_outputs != 1:
        raise InvalidInputError(f"Intervals need a network with one output, this one has {network.n_outputs}.")
    return network


def _targets(y: ArrayLike, n: int) -> Array:
    target = np.asarray(y, dtype=float)
    if target.shape != (n,):
        raise InvalidInputError(f"y has shape {target.shape}; expected ({n},), one target for every row of X.")
    return target


def _reached(network: Network, X: ArrayLike, threat: Threat, interval: Pair, random_state: Any) -> Pair:
    """Extreme outputs: the squared distance from an end of the interval grows all the way to the other end."""
    least, largest = (
        network(attack(network, X, end, threat, loss="squared", random_state=random_state).X_adv)
        for end in reversed(interval)
    )
    return least, largest


def _unit_direction(direction: int | ArrayLike, origin: Array, n_inputs: int) -> tuple[Array, str, float]:
    """Unit vector, name of the axis, and the axis value at the origin."""
    if origin.shape != (n_inputs,):
        raise InvalidInputError(f"origin has shape {origin.shape}; the network takes {n_inputs} inputs.")
    if isinstance(direction, int | np.integer):
        if not 0 <= direction < n_inputs:
            raise InvalidInputError(f"There is no feature {direction}; the network takes {n_inputs} inputs.")
        return np.eye(n_inputs)[direction], f"feature {direction}", float(origin[direction])
    vector = np.asarray(direction, dtype=float)
    length = float(np.linalg.norm(vector))
    if vector.shape != (n_inputs,) or not length > 0:
        raise InvalidInputError(f"direction must be a feature number or a nonzero vector of {n_inputs} numbers.")
    return vector / length, "distance along the ray", 0.0


def _named(threat: Threat) -> str:
    radius = getattr(threat, "radius", None)
    return "the box" if radius is None else f"{ {'l2': 'ℓ₂', 'linf': 'ℓ∞'}[threat.norm] } radius {radius:g}"
