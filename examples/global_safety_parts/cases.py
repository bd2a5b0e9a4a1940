"""The cases of the table: data, trainer and sizes, and one training with all that is reported about it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from convexnn.certificates.region import region_bound
from convexnn.network import Network
from convexnn.regions import Region, ellipsoid, rotated_box
from convexnn.training import RegionTraining, train_safe_region
from convexnn.training.region_admm import largest_found, train_region_admm
from convexnn.training.region_facets import train_region_facets

TEST = 20_000  # fresh points that a network is judged on
EXACT = 40  # inputs up to which the proof is over the rational numbers
METHODS = {"sdp": "SDP (paper)", "sdp_tight": "SDP, tight", "alpha_crown": "alpha-CROWN", "lp": "LP", "crown": "CROWN"}
DENSE_STEPS, LAYERS_STEPS = 3000, 2000
HUGE, HUGE_STEPS = 500, 400  # inputs from which fewer steps are made: an eigendecomposition takes 0.1 s there


@dataclass(frozen=True, order=True)
class Case:
    """One line of the table.

    Attributes
    ----------
    norm : {"2", "inf", "inf turned"}
        The unit ball, the unit box, the unit box in random axes.
    radius : float
        Of the sphere or cube that the samples are on.
    method : {"pairs", "dense", "dense, split", "layers", "admm", "facets"}
    d : int
        Inputs.
    factor : int
        Hidden units an input, of each hidden layer.
    """

    norm: str
    radius: float
    method: str
    d: int
    factor: int = 3

    @property
    def label(self) -> str:
        """What ``--only`` looks in."""
        return f"D{self.norm} R={self.radius:g} {self.method} d={self.d} h={self.factor}d"


def unit_region(norm: str, d: int) -> Region:
    """The unit ball of l2 or linf."""
    return (ellipsoid if norm == "2" else rotated_box)(np.zeros(d), np.ones(d))


def outer(region: Region, radius: float) -> Any:
    """Draws uniform points of the sphere or cube of that radius."""
    return lambda n, rng: radius * region.sample_surface(n, rng)


def turned(region: Region, seed: int) -> Region:
    """The same box in random axes: nothing about the coordinates helps."""
    d = region.n_inputs
    return rotated_box(np.zeros(d), np.linalg.qr(np.random.default_rng([seed, 9]).standard_normal((d, d)))[0])


def xavier(d: int, seed: int) -> Network:
    """The random network of the theorems: h = 3 d, no biases."""
    rng, h = np.random.default_rng([seed, d]), 3 * d
    W = rng.standard_normal((h, d)) * np.sqrt(2 / (d + h))
    return Network.shallow(W, np.zeros(h), rng.standard_normal(h) * np.sqrt(2 / (h + 1)), 0.0)


def train(case: Case, region: Region, draw: Any, seed: int) -> RegionTraining:
    """One training, proved. Settings are fixed by method and size, nothing is chosen by seed or by result."""
    units, arithmetic = case.factor * case.d, "exact" if case.d <= EXACT else "float64+slack"
    if case.method == "admm":
        return train_region_admm(region, draw, hidden_units=units, random_state=seed)
    if case.method == "facets":
        return train_region_facets(region, draw, hidden_units=units, random_state=seed)
    if case.method == "layers":
        sizes = (units, units)
        return train_safe_region(region, draw, hidden_layers=sizes, random_state=seed, steps=LAYERS_STEPS)
    if case.method == "dense, split":
        settings = {"method": "dense", "finish": "branch_and_bound", "finish_seconds": 300.0, "steps": DENSE_STEPS}
        settings |= {"arithmetic": "exact"}
        return train_safe_region(region, draw, hidden_units=units, random_state=seed, **settings)
    steps = HUGE_STEPS if case.d >= HUGE else DENSE_STEPS if case.method == "dense" else 1500
    return train_safe_region(
        region, draw, method=case.method, hidden_units=units, random_state=seed, steps=steps, arithmetic=arithmetic
    )


def outcome(case: Case, seed: int) -> dict[str, Any]:
    """Accuracy on fresh points, at the start, proof, tightness and time of one run; bounds where they are shown."""
    region = unit_region(case.norm.removesuffix(" turned"), case.d)
    region = turned(region, seed) if case.norm.endswith("turned") else region
    draw = outer(region, case.radius)
    clocks = time.process_time(), time.perf_counter()
    run = train(case, region, draw, seed)
    cpu, wall = time.process_time() - clocks[0], time.perf_counter() - clocks[1]
    values = run.network(draw(TEST, np.random.default_rng([seed, 77])))
    inside = np.vstack([f(5000, np.random.default_rng([seed, 78])) for f in (region.sample, region.sample_surface)])
    shift, lower = float(run.network.layers[-1][1][0]), max(run.lower, float(run.network(inside).max()))
    row = {
        "accuracy": float(np.mean(values > 0)),
        "start": run.start_accuracy,
        "recall": 1.0 if run.check() < 0 else np.nan,
        "ratio": (run.bound - shift) / (lower - shift) if lower - shift > 1e-9 * abs(shift) else np.nan,
        "attainable": float(np.mean(values > lower)),
        "cpu": cpu,
        "wall": wall,
        "proof": run.proof_seconds,
        "exact": run.certificate.arithmetic == "exact",
        "units": " + ".join(map(str, run.network.n_hidden)),
        "load": os.getloadavg()[0],
    }
    return row | ({"bounds": bounds_of(run.network, region, METHODS)} if shows_bounds(case, seed) else {})


def shows_bounds(case: Case, seed: int) -> bool:
    """Whether every bound of the trained network is computed."""
    plain = (
        case.norm in ("2", "inf")
        and case.method not in ("layers", "dense, split")
        and case.factor == 3
        and case.radius == 1.3
    )
    return plain and seed == 0 and case.d <= 40


def bounds_of(network: Network, region: Region, names: Any) -> dict[str, float]:
    """Bounds by the names of METHODS without the output bias, and the largest value found ("attack")."""
    plain = Network.shallow(network.W, network.b, network.v, 0.0)
    certificates = {name: region_bound(plain, region, method=name) for name in names}
    found = {name: float(certificate.bound) for name, certificate in certificates.items()}
    known = max(float(certificate.lower) for certificate in certificates.values())
    draws = (f(5000, np.random.default_rng(k)) for k, f in ((5, region.sample), (6, region.sample_surface)))
    attack = max(known, largest_found(plain, region, np.random.default_rng(7)), float(plain(np.vstack([*draws])).max()))
    return found | {"attack": attack}


def all_cases(quick: bool) -> list[Case]:
    """In the order of one round of seeds."""
    sizes = (5, 10) if quick else (5, 10, 20, 40)
    found = [Case("2", 1.3, "pairs", d) for d in sizes]
    found += [Case(norm, 1.3, "facets", d) for norm in ("inf", "inf turned") for d in sizes if d != 10]
    if quick:
        return found + [Case("2", 1.3, method, d) for method in ("dense", "admm") for d in sizes[:1]]
    found += [Case("2", 1.3, "pairs", 100), Case("inf", 1.3, "facets", 100)]
    found += [Case("2", 1.2, "pairs", d) for d in (*sizes, 100)]
    found += [Case("2", 1.3, "dense", d, factor) for factor in (3, 6, 10) for d in sizes]
    found += [Case("2", 1.3, method, d) for method in ("dense, split", "layers") for d in (5, 10)]
    found += [Case("2", 1.3, "admm", d) for d in sizes] + [Case("inf", 1.3, "admm", d) for d in (5, 10)]
    return [*found, Case("2", 1.3, "pairs", 500)]
