"""What the starts of the trainers can do before any training, and one start that encodes the answer."""

from __future__ import annotations

import numpy as np

from convexnn.certificates.region import region_bound
from convexnn.network import Network
from convexnn.training import train_safe_region
from convexnn.training.region_pairs import random_directions
from global_safety_parts.cases import TEST, outer, unit_region

RADIUS = 1.3
LEVEL = 0.612  # half of the outer levels 1.224 of the best quantizer of a Gaussian with three levels
LLOYD_MAX = "pairs, whitened directions, best thresholds (control)"
STARTS = {
    "pairs, Gaussian directions": {"method": "pairs", "start": "gaussian"},
    "pairs, whitened directions (default)": {"method": "pairs", "start": "tight"},
    "dense, Gaussian rows": {"method": "dense", "start": "gaussian"},
    "dense, whitened rows (default)": {"method": "dense", "start": "tight"},
    LLOYD_MAX: None,
}


def start_accuracy(name: str, d: int, seed: int) -> float:
    """Accuracy on fresh points of the network that training would start from, proved safe."""
    region, settings = unit_region("2", d), STARTS[name]
    draw = outer(region, RADIUS)
    fresh = draw(TEST, np.random.default_rng([seed, 77]))
    if settings is not None:
        run = train_safe_region(region, draw, hidden_units=3 * d, steps=0, random_state=seed, **settings)
        return float(np.mean(run.network(fresh) > 0))
    n = (3 * d) // 2
    U = random_directions(n, d, np.random.default_rng([seed, 5]), tight=True)
    network = Network.shallow(np.vstack([U, -U]), np.full(2 * n, -LEVEL / np.sqrt(d)), np.ones(2 * n), 0.0)
    return float(np.mean(network(fresh) > region_bound(network, region, method="paired").bound))
