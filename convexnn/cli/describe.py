"""Networks, data, programs and tables as the JSON objects of the commands hold them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from convexnn.certificates.robustness import RobustnessTable
from convexnn.cli.data import Data
from convexnn.network import Network
from convexnn.program import Solution
from convexnn.report import StageTable


def network_record(network: Network) -> dict[str, Any]:
    """Sizes, activation and fingerprint."""
    return {
        "sizes": [network.n_inputs, *network.n_hidden, network.n_outputs],
        "activation": network.activation.name,
        "fingerprint": network.fingerprint(),
    }


def data_record(data: Data) -> dict[str, Any]:
    """Source, sizes and names."""
    names = list(data.features)
    return {"source": data.source, "rows": len(data.X), "features": names, "target": data.target}


def program_record(solution: Solution) -> dict[str, Any]:
    """How a convex program was solved: objective, verified lower bound and gap."""
    return {
        "status": solution.status,
        "solver": solution.solver,
        "objective": solution.objective,
        "lower_bound": solution.lower_bound,
        "gap": solution.gap,
        "violation": solution.violation,
    }


def robustness_record(table: RobustnessTable) -> dict[str, Any]:
    """Mean errors of every model at every radius."""
    rows = [
        {
            "model": name,
            "radius": float(radius),
            "clean": float(np.mean(table.clean[m])),
            "attacked": float(np.mean(table.attacked[m, r])),
            "certified": float(np.mean(table.certified[m, r])),
        }
        for m, name in enumerate(table.names)
        for r, radius in enumerate(table.radii)
    ]
    return {"norm": table.norm, "task": table.task, "rows": rows}


def stages_record(table: StageTable) -> dict[str, Any]:
    """The stages of a training; missing evidence is "inf"."""
    robustness = table.robustness
    return {"norm": robustness.norm, "radii": list(map(float, robustness.radii)), "stages": [*map(asdict, table.rows)]}
