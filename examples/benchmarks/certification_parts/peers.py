"""Peers: generic solvers of the same programs, and auto_LiRPA where it can be imported."""

from __future__ import annotations

import sys
import time
import types
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from convexnn import Network
from convexnn.propagation import Query
from convexnn.propagation.layer_bounds import crown_bounds
from convexnn.relaxations.reference import sdp_reference, triangle_reference

CLARABEL = {"tol_gap_rel": 1e-4, "tol_gap_abs": 1e-4, "tol_feas": 1e-6}
SCS = {"eps_rel": 1e-4, "eps_abs": 1e-4, "max_iters": 20_000}


def generic(solver: str, substitute: bool) -> Callable[[Query], float]:
    """The semidefinite relaxation by cvxpy, at the tolerance of ours."""
    options = CLARABEL if solver == "CLARABEL" else SCS

    def bound(query: Query) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # inaccurate solutions: the bound shows it
            return float(sdp_reference(query, crown_bounds(query), substitute=substitute, solver=solver, **options)[0])

    return bound


def triangle(query: Query) -> float:
    """The triangle relaxation by cvxpy and Clarabel."""
    return float(triangle_reference(query, crown_bounds(query), **CLARABEL)[0])


def mixed_integer(query: Query) -> float:
    """The exact maximum over a box by scipy's interface to HiGHS: its dual bound, a solver's word.

    z >= s, z <= u a, z <= s - l (1 - a), with a binary a for each unit (big-M of Tjeng et al., 2019).
    """
    model = _BigM(query)
    options = {"time_limit": 60.0, "mip_rel_gap": 1e-4}
    W, b = query.network.layers[-1]
    cost = np.zeros(model.n_columns)
    cost[model.units(-1)] = -(query.weights[0] @ W)
    found = milp(cost, integrality=model.whole, bounds=model.box, constraints=model.rows, options=options)
    offset = float(query.weights[0] @ b + query.offset[0])
    return float("inf") if found.mip_dual_bound is None else offset - float(found.mip_dual_bound)


class _BigM:
    """Columns: inputs, the units of each layer, one binary a unit."""

    def __init__(self, query: Query) -> None:
        network, bounds = query.network, crown_bounds(query)
        (low, high), sizes = query.inputs.bounding_box(), network.n_hidden
        d, m = len(low), sum(sizes)
        self.starts = np.cumsum([0, d, *sizes])
        self.n_columns, self.whole = d + 2 * m, np.append(np.zeros(d + m), np.ones(m))
        self.box = Bounds(
            np.append(low, np.zeros(2 * m)), np.concatenate([high, np.full(m, np.inf), np.ones(m)]), keep_feasible=False
        )
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for i, (W, b) in enumerate(network.layers[:-1]):
            low, high = np.minimum(bounds.lower[i], 0.0), np.maximum(bounds.upper[i], 0.0)
            free = np.full(len(b), np.inf)
            parts.append((self._block(i, -W, 0.0 * b), b, free))
            parts.append((self._block(i, 0.0 * W, -high), -free, 0.0 * b))
            parts.append((self._block(i, -W, -low), -free, b - low))
        blocks, floors, ceilings = zip(*parts, strict=True)
        self.rows = LinearConstraint(
            sparse.csr_array(np.vstack(blocks)), np.concatenate(floors), np.concatenate(ceilings)
        )

    def units(self, layer: int) -> slice:
        """Columns of the units of a hidden layer (-1: the last)."""
        at = len(self.starts) - 2 if layer == -1 else layer + 1
        return slice(self.starts[at], self.starts[at + 1])

    def _block(self, layer: int, before: np.ndarray, binary: np.ndarray) -> np.ndarray:
        """Rows ``z + before h + binary a`` of a layer."""
        own, m = self.units(layer), len(binary)
        block = np.zeros((m, self.n_columns))
        block[:, own] = np.eye(m)
        block[:, self.starts[layer] : self.starts[layer + 1]] = before
        shift = self.starts[-1] - self.starts[1]
        block[:, own.start + shift : own.stop + shift] = np.diag(binary)
        return block


def lirpa() -> tuple[dict[str, Callable[[Query], float]], str]:
    """Methods of auto_LiRPA, and why there are none where it cannot be imported."""
    try:
        _old_names()
        from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
    except (ImportError, AttributeError) as error:
        return {}, f"auto_LiRPA cannot be imported here: {error}"
    import torch

    @cache
    def module(network: Network) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = torch.zeros(1, network.n_inputs, dtype=torch.float64)
            return BoundedModule(network.to_torch(), start, verbose=False, bound_opts={"optimize_bound_args": {}})

    def method(name: str) -> Callable[[Query], float]:
        def bound(query: Query) -> float:
            inputs = query.inputs
            x = torch.tensor(inputs.centre[None])
            if inputs.has_ball:
                set_ = PerturbationLpNorm(norm=2, eps=inputs.radius)
            else:
                ends = (torch.tensor(end[None]) for end in inputs.bounding_box())
                set_ = PerturbationLpNorm(norm=np.inf, x_L=next(ends), x_U=next(ends))
            before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float64)  # it makes tensors of the default type
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = module(query.network).compute_bounds(
                        x=(BoundedTensor(x, set_),), C=torch.tensor(query.weights[None]), method=name, bound_lower=False
                    )
            finally:
                torch.set_default_dtype(before)
            return float(found[1].detach()[0, 0]) + float(query.offset[0])

        return bound

    names = {"IBP": "IBP", "CROWN": "backward", "alpha-CROWN": "CROWN-Optimized"}
    return {f"auto_LiRPA {shown}": method(own) for shown, own in names.items()}, ""


def _old_names() -> None:
    """Names that auto_LiRPA 0.3 (the release of the package index) imports and numpy and torch have moved since."""
    import torch
    import torch.onnx.symbolic_helper as helper
    import torch.onnx.utils as utils
    from torch.onnx._internal.torchscript_exporter import _globals as state
    from torch.onnx._internal.torchscript_exporter import utils as moved

    if "numpy.lib.arraysetops" not in sys.modules:
        old = types.ModuleType("numpy.lib.arraysetops")
        old.isin = np.isin
        sys.modules["numpy.lib.arraysetops"] = old
    helper._set_opset_version = lambda version: setattr(state.GLOBALS, "export_onnx_opset_version", version)
    for name in dir(moved):
        if not hasattr(utils, name):
            setattr(utils, name, getattr(moved, name))
    if not hasattr(torch._C.Node, "__getitem__"):
        torch._C.Node.__getitem__ = lambda node, key: getattr(node, node.kindOf(key))(key)


def warm_up() -> float:
    """Import what peers import, so that no measurement holds an import; seconds."""
    began = time.monotonic()
    import cvxpy as cp

    x = cp.Variable()
    for solver in ("CLARABEL", "SCS"):
        cp.Problem(cp.Minimize(x), [x >= 1]).solve(solver=solver)
    return time.monotonic() - began
