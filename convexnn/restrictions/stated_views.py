"""What the networks of the programs compute, as cvxpy expressions in the programs' variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.conic import Stated
from convexnn.network import Network

Array = NDArray[np.float64]

BIAS = "last column the bias (in Lipschitz programs the value at the weighted mean of X instead of at 0)"


class StatedCones(Stated):
    """Programs with one output over activation patterns: ``f_k = sum_i D_ki x_k'u_i + c``."""

    cvxpy_names: ClassVar[Mapping[str, str]] = {
        "U": f"(p, d + 1): merged units u_i = v_i (w_i, b_i), {BIAS}",
        "W": f"(p, d + 1): hidden units (w_i, b_i) in the scaling with T = I, {BIAS}",
        "c": "(): output bias",
        "q": "(p + 1,): multiplier of LipSDP; its sum bounds the squared Lipschitz constant",
        "L2": "(): bound on the squared Lipschitz constant",
    }
    _structure: Any

    def cvxpy_units(self, variables: Mapping[str, Any]) -> Any:
        """Merged units (p, d + 1) in the variables."""
        return variables["U"]

    def cvxpy_predictions(self, variables: Mapping[str, Any]) -> Any:
        """``sum_i D_ki x_k'u_i + c`` on the distinct rows, shape (n,)."""
        import cvxpy as cp

        s = self._structure
        return cp.sum(cp.multiply(s.D, s.X @ self.cvxpy_units(variables).T), axis=1) + variables["c"]

    def cvxpy_slopes(self, variables: Mapping[str, Any], feature: int) -> Any:
        """``sum_i D_ki u_ij`` on the distinct rows, shape (n,)."""
        return self._structure.D @ self.cvxpy_units(variables)[:, feature]

    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:
        """Units and output bias."""
        return {"U": z, "c": network.layers[-1][1][0]}

    def with_output_bias(self, z: Array, network: Network, c: Array | None) -> tuple[Network, float]:
        """Network with the output bias of the variables, and the loss that the best one would have saved."""
        return biased(self._structure, z, network, c)


class StatedVectorCones(StatedCones):
    """Programs with several outputs on fixed directions: ``f_k = sum_i D_ki (x_k'w_i) vh_i + c``."""

    cvxpy_names: ClassVar[Mapping[str, str]] = {
        "U": f"(p, d + 1): units |v_i| (w_i, b_i) of the output directions, {BIAS}",
        "c": "(k,): output biases",
        "sigma": "(): bound on the squared Lipschitz constant",
        "a": "(p,): multiplier of LipSDP",
    }

    def cvxpy_predictions(self, variables: Mapping[str, Any]) -> Any:
        """``sum_i D_ki (x_k'w_i) vh_i + c`` on the distinct rows, shape (n, k)."""
        s = self._structure
        return directed(s.D, s.X, variables["U"], s.directions, variables["c"])

    def cvxpy_slopes(self, variables: Mapping[str, Any], feature: int) -> Any:
        """``sum_i D_ki w_ij vh_i`` on the distinct rows, shape (n, k)."""
        return directed_slopes(self._structure.D, variables["U"], self._structure.directions, feature)

    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:
        """Units and output biases."""
        return {"U": z, "c": network.layers[-1][1]}


class StatedOuter(StatedCones):
    """Programs in the outer weights alone: ``f_k = sum_i relu(x_k'wh_i) v_i + c``."""

    cvxpy_names: ClassVar[Mapping[str, str]] = {
        "V": "(m, k): outer weights v_i of the normalized hidden units",
        "c": "(1, k): output biases",
        "sigma": "(): bound on the squared Lipschitz constant",
        "a": "(m,): multiplier of LipSDP",
    }
    units: Array

    def cvxpy_predictions(self, variables: Mapping[str, Any]) -> Any:
        """``sum_i relu(x_k'wh_i) v_i + c`` on the distinct rows, shape (n, k)."""
        D = self._structure.D
        return D @ variables["V"] + np.ones((len(D), 1)) @ variables["c"]

    def cvxpy_slopes(self, variables: Mapping[str, Any], feature: int) -> Any:
        """``sum_i 1[x_k'wh_i > 0] wh_ij v_i`` on the distinct rows, shape (n, k)."""
        active: Array = (self._structure.D > 0) * self.units[:, feature]
        return active @ variables["V"]

    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:
        """Outer weights and output biases."""
        return {"V": z, "c": network.layers[-1][1][None]}


class StatedRobust(Stated):
    """Robust ReLU programs; predictions are affine in the variables of program (15) alone."""

    cvxpy_names: ClassVar[Mapping[str, str]] = {
        "U": "(p, d + 1): units |v_i| (w_i, b_i) of the output directions, last column the bias",
        "c": "(k,): output biases",
        "margin": "(N,): lower bounds on the worst margins",
    }
    stable: bool
    terms: Any

    def cvxpy_predictions(self, variables: Mapping[str, Any]) -> Any:
        """``sum_i D_ki (x_k'w_i) vh_i + c`` on the distinct rows of a stable program, (n,) or (n, k)."""
        if not self.stable:
            return super().cvxpy_predictions(variables)
        t = self.terms
        found = directed(t.slopes, t.X, variables["U"], t.directions, variables["c"])
        return found[:, 0] if t.n_outputs == 1 else found

    def cvxpy_slopes(self, variables: Mapping[str, Any], feature: int) -> Any:
        """``sum_i D_ki w_ij vh_i`` on the distinct rows of a stable program, (n,) or (n, k)."""
        if not self.stable:
            return super().cvxpy_slopes(variables, feature)
        found = directed_slopes(self.terms.slopes, variables["U"], self.terms.directions, feature)
        return found[:, 0] if self.terms.n_outputs == 1 else found

    def unpack(self, z: Array) -> tuple[Array, Array]:
        """Units and output biases of a point."""
        raise NotImplementedError

    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:  # noqa: ARG002
        """Units and output biases."""
        U, c = self.unpack(z)
        return {"U": U, "c": c}


class StatedMargin(Stated):
    """The certified-margin program."""

    cvxpy_names: ClassVar[Mapping[str, str]] = {
        "U": "(p, d + 1): units |v_i| (w_i, b_i) of the output directions, last column the bias",
        "c": "(k,): output biases",
        "L": "(pairs,): bounds on the Lipschitz constants of the margins",
        "margin": "(N,): margins less radius times L",
    }
    geometry: Any
    terms: Any

    @property
    def rows(self) -> Any:
        """The distinct rows of the data."""
        return self.terms.rows

    def cvxpy_predictions(self, variables: Mapping[str, Any]) -> Any:
        """``sum_i D_ki (x_k'w_i) vh_i + c`` on the distinct rows, (n,) or (n, k)."""
        g = self.geometry
        found = directed(g.D, g.X, variables["U"], g.directions, variables["c"])
        return found[:, 0] if self.terms.n_outputs == 1 else found

    def cvxpy_slopes(self, variables: Mapping[str, Any], feature: int) -> Any:
        """``sum_i D_ki w_ij vh_i`` on the distinct rows, (n,) or (n, k)."""
        found = directed_slopes(self.geometry.D, variables["U"], self.geometry.directions, feature)
        return found[:, 0] if self.terms.n_outputs == 1 else found

    def split(self, z: Array) -> tuple[Array, Array]:
        """Units and output biases of a point."""
        raise NotImplementedError

    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:  # noqa: ARG002
        """Units and output biases."""
        U, c = self.split(z)
        return {"U": U, "c": c}


class StatedPolynomial(Stated):
    """Programs of polynomial networks: ``f = a x'M1 x + b m2'x + c M4`` with ``M = Z - Z'``, one pair a class."""

    cvxpy_names: ClassVar[Mapping[str, str]] = {
        "Z": "(d + 1, d + 1): the neurons with positive outer weight, sum_j alpha_j [u_j; 1][u_j; 1]'; one a class",
        "Zprime": "(d + 1, d + 1): those with negative outer weight, with |alpha_j|; one a class",
        "w": "(N,): worst margins, or predictions where the radius is zero",
        "multiplier": "(N,): multipliers of the S-procedure",
    }
    coefficients: tuple[float, float, float]
    _structure: Any

    def _matrices(self, variables: Mapping[str, Any]) -> list[Any]:
        return [variables[f"Z{k}"] - variables[f"Zprime{k}"] for k in range(self._structure.n_classes)]

    def cvxpy_predictions(self, variables: Mapping[str, Any]) -> Any:
        """Values of the network on the distinct rows, (n,) with one class, else (n, classes)."""
        import cvxpy as cp

        a, b, c = self.coefficients
        X = self.rows.X
        found = [
            a * cp.sum(cp.multiply(X @ M[:-1, :-1], X), axis=1) + b * (X @ M[:-1, -1]) + c * M[-1, -1]
            for M in self._matrices(variables)
        ]
        return found[0] if len(found) == 1 else cp.vstack(found).T

    def cvxpy_slopes(self, variables: Mapping[str, Any], feature: int) -> Any:
        """``2 a x'M1 e_j + b m2_j`` on the distinct rows, (n,) with one class, else (n, classes)."""
        import cvxpy as cp

        a, b, _ = self.coefficients
        X = self.rows.X
        found = [2 * a * (X @ M[:-1, feature]) + b * M[feature, -1] for M in self._matrices(variables)]
        return found[0] if len(found) == 1 else cp.vstack(found).T

    def cvxpy_values(self, z: Array, network: Network) -> dict[str, Array]:  # noqa: ARG002
        """Z and Z' of every class."""
        pairs = range(self._structure.n_classes)
        return {f"Z{k}": z[0, k] for k in pairs} | {f"Zprime{k}": z[1, k] for k in pairs}


def directed(D: Array, X: Array, U: Any, directions: Array, c: Any) -> Any:
    """``sum_i D_ki (x_k'u_i) vh_i + c``, shape (n, k)."""
    import cvxpy as cp

    offset = np.ones((len(X), 1)) @ cp.reshape(c, (1, directions.shape[1]), order="C")
    return cp.multiply(D, X @ U.T) @ directions + offset


def directed_slopes(D: Array, U: Any, directions: Array, feature: int) -> Any:
    """``sum_i D_ki u_ij vh_i``, shape (n, k)."""
    import cvxpy as cp

    return D @ cp.multiply(directions, U[:, [feature]] @ np.ones((1, directions.shape[1])))


def biased(structure: Any, z: Array, network: Network, c: Array | None) -> tuple[Network, float]:
    """Network of a point with output bias ``c`` instead of the best one, and how much loss that costs."""
    if c is None:
        return network, 0.0
    (hidden, (V, best)), raw = network.layers, structure.raw_predict(z)
    offset = np.reshape(c, best.shape)

    def loss(bias: Array) -> float:
        losses = structure.sample_loss.value(raw + (bias if raw.ndim == 2 else bias[0]), structure.y)
        return float(structure.weight @ np.reshape(losses, (len(raw), -1)).sum(axis=1))

    return Network((hidden, (V, offset)), network.activation), loss(offset) - loss(best)
