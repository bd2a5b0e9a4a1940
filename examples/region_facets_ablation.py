"""
What finds the facets of a box?
===============================

Cubes ``|x|_inf <= 1``, plain and rotated, against samples on the surface of the cube of radius 1.3: shares of fresh
samples that are accepted by networks that are PROVED to accept nothing of the cube. Parts of the trainer are taken
away one at a time, and starts that know the axes stand beside it: they solve the task before any training, so that
they say nothing about learning.

``python examples/region_facets_ablation.py`` prints the table of ``docs/theory/region_facets.md``.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch

from convexnn import Network, region_bound, rotated_box
from convexnn.training import FacetOptions, train_region_facets

RADIUS = 1.3
HEADER = "| variant | d | box | seeds | accuracy at start | proved accuracy | proof | CPU s |\n|-|-|-|-|-|-|-|-|"


def outside(region):
    """Sampler of the surface of the cube of radius 1.3."""
    return lambda n, rng: RADIUS * region.sample_surface(n, rng)


def facets(region, _, seed, **changes):
    """Trained by ``train_region_facets`` with some settings changed."""
    found = train_region_facets(region, outside(region), options=FacetOptions(random_state=seed, **changes))
    return found.network, found.start_accuracy, "intervals, exact"


def known_axes(region, Q, seed, steps=0):
    """Directions that are the axes of the box."""
    return facets(region, Q, seed, directions=Q.T, steps=steps)


def by_plain_sdp(region, Q, seed):
    """The trained network of the default, proved by the semidefinite program of the paper instead."""
    network, start, _ = facets(region, Q, seed)
    return shifted_by_sdp(network, region), start, "plain SDP"


def shifted_by_sdp(network, region):
    """The network minus its plain semidefinite bound."""
    bound = region_bound(network, region, method="sdp").bound
    return Network.shallow(network.W, network.b, network.v, network.c - bound - 1e-9)


def sdp_bound(W, b, c, al, be, rho):
    """Bound of separable quadratic majorants on the unit box in torch: any al > 0, be, rho give a valid one."""
    de = torch.maximum(be, c - be).clamp_min(0) ** 2 / (4 * al)
    A, g = (W.T * al) @ W, W.T @ (be + 2 * al * b)
    rho = rho + torch.linalg.eigvalsh(A - torch.diag(rho))[-1].clamp_min(0) + 1e-6
    inverse = torch.linalg.solve(torch.diag(rho) - A, g)
    return (de + al * b**2 + be * b).sum() + rho.sum() + 0.25 * g @ inverse


def plain_sdp_training(region, Q, seed, axes=False, steps=1000):
    """Single units (no pairs) trained under the plain semidefinite bound, as the safe trainer does for balls."""
    d, rng = len(Q), np.random.default_rng(seed)
    U = np.tile(np.vstack([Q.T, -Q.T]), (2, 1))[: 3 * d] if axes else rng.standard_normal((3 * d, d))
    U = U / np.abs(U @ Q).sum(axis=1, keepdims=True)
    b = np.full(len(U), -0.97 if axes else -0.05)
    start = shifted_by_sdp(Network.shallow(U, b, np.ones(len(U)), 0.0), region)
    at_start = float(np.mean(start(outside(region)(4000, rng)) > 0))
    values = U, b, np.zeros(len(U)), np.log(np.full(len(U), 0.3)), np.full(len(U), 0.5), np.full(d, -1.0), np.log(10.0)
    parts = [torch.tensor(value, requires_grad=True) for value in values]
    optimizer, rotation = torch.optim.Adam(parts, lr=5e-3), torch.tensor(Q)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, (step + 1) / 50) * (0.51 + 0.49 * np.cos(np.pi * step / steps))
        W, t, log_c, log_al, be, log_rho, temperature = parts
        c = log_c.exp()
        bound = sdp_bound(W @ rotation, t, c, log_al.exp(), be, log_rho.exp())
        x = torch.tensor(outside(region)(256, rng))
        f, middle = torch.relu(x @ W.T + t) @ c, torch.relu(t) @ c
        loss = torch.nn.functional.softplus(-temperature.exp() * (f - bound) / (bound - middle + 1e-6)).mean()
        optimizer.zero_grad()
        (loss + 1e-5 * temperature.exp()).backward()
        optimizer.step()
        with torch.no_grad():
            temperature.clamp_(-2, 5)
    W, t, log_c = (part.detach().numpy() for part in parts[:3])
    network = shifted_by_sdp(Network.shallow(W, t, np.exp(log_c), 0.0), region)
    return network, at_start, "plain SDP"


VARIANTS = {
    "facets from dense starts (default)": facets,
    "the same, no joint training": lambda *task: facets(*task, steps=0),
    "no search for facets, 300 steps": lambda *task: facets(*task, pricing_steps=0),
    "no search for facets, 1500 steps": lambda *task: facets(*task, pricing_steps=0, steps=1500),
    "thresholds from 0.05": lambda *task: facets(*task, threshold=0.05),
    "thresholds from 0.05, 1500 steps": lambda *task: facets(*task, threshold=0.05, steps=1500),
    "the default's network, proved by the plain SDP": by_plain_sdp,
    "trained under the plain SDP, dense start": plain_sdp_training,
    "trained under the plain SDP, start knows the axes": lambda *task: plain_sdp_training(*task, axes=True),
    "start knows the axes, no training": known_axes,
    "start knows the axes, 300 steps": lambda *task: known_axes(*task, steps=300),
}


def line(name, d, rotated, seeds):
    """One row of the table."""
    shares, starts, seconds, proof = [], [], 0.0, ""
    for seed in range(seeds):
        rng = np.random.default_rng(100 + seed)
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0] if rotated else np.eye(d)
        region = rotated_box(np.zeros(d), Q)
        began = time.process_time()
        network, start, proof = VARIANTS[name](region, Q, seed)
        seconds += time.process_time() - began
        X = outside(region)(20000, np.random.default_rng(10**6 + seed))
        shares.append(np.mean(network(X) > 0))
        starts.append(start)
    spread = f"{np.mean(shares):.4f} (least {np.min(shares):.4f})"
    box = "rotated" if rotated else "plain"
    return f"| {name} | {d} | {box} | {seeds} | {np.mean(starts):.4f} | {spread} | {proof} | {seconds / seeds:.1f} |"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    arguments = parser.parse_args()
    print(HEADER)
    for name in arguments.variants:
        for d in arguments.dimensions:
            for rotated in (False, True):
                print(line(name, d, rotated, arguments.seeds), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
