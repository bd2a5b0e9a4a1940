"""Networks, points and threat sets of the certification benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convexnn import L2Ball, LInfBall, Network
from convexnn.propagation import Query

ROUNDS, BATCH, INNER = 60, 128, 7
#: Networks of the shared folder: file, threat norm, radius.
GIVEN = {
    "784-50-10 l2 0.5": ("mnist_mlp_784-50-10_lipsdp_nobias.npz", "l2", 0.5),
    "784-50-10 linf 0.02": ("mnist_mlp_784-50-10_lipsdp_nobias.npz", "linf", 0.02),
    "784-50-10 linf 0.05": ("mnist_mlp_784-50-10_lipsdp_nobias.npz", "linf", 0.05),
    "784-100-100-10 l2 1.0": ("mnist_mlp_784-100-100-10_sdpcrown.npz", "l2", 1.0),
    "784-128-64-10 linf 0.02": ("mnist_fc_3layer_lirpa.npz", "linf", 0.02),
}
POINTS = "mnist_sdp200_testpoints.npz"


@dataclass(frozen=True, eq=False)
class Case:
    """A network, labelled points and a threat set."""

    name: str
    network: Network
    X: np.ndarray
    y: np.ndarray
    threat: L2Ball | LInfBall

    def pairs(self, count: int) -> list[Query]:
        """The runner-up against the class, for the first ``count`` points that are classified right."""
        outputs = self.network(self.X)
        found = []
        for i in np.flatnonzero(outputs.argmax(axis=1) == self.y)[:count]:
            rivals = [t for t in np.argsort(-outputs[i]) if t != self.y[i]]
            row = int(rivals[0] - (rivals[0] > self.y[i]))
            found.append(Query.of_rivals(self.network, self.X[i], int(self.y[i]), self.threat).rows(row))
        return found


def threat_of(norm: str, radius: float) -> L2Ball | LInfBall:
    """A pure ball for l2, a box clipped to [0, 1] for linf."""
    return L2Ball(radius) if norm == "l2" else LInfBall(radius, clip=(0.0, 1.0))


def digits_cases() -> list[Case]:
    """64-32-10 networks on the digits of scikit-learn, trained naturally and against PGD, four radii each."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    train, test = order[:1297], order[1297:]
    cases = []
    for kind in ("nat", "adv"):
        network = _trained(X[train] / 16.0, y[train], kind == "adv")
        for norm, radius in (("linf", 0.05), ("linf", 0.1), ("l2", 0.3), ("l2", 0.6)):
            name = f"digits {kind} {norm} {radius}"
            cases.append(Case(name, network, X[test] / 16.0, y[test], threat_of(norm, radius)))
    return cases


def _trained(X: np.ndarray, y: np.ndarray, robust: bool, radius: float = 0.1) -> Network:
    """Cross entropy by Adam; robust: on the points of a projected gradient attack in linf."""
    import torch

    torch.manual_seed(0)
    inputs, targets = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer, loss = torch.optim.Adam(net.parameters(), lr=5e-3), torch.nn.functional.cross_entropy
    for _ in range(ROUNDS):
        order = torch.randperm(len(inputs))
        for chosen in order.split(BATCH):
            batch, labels = inputs[chosen], targets[chosen]
            moved = batch
            if robust:
                moved = (batch + (2 * torch.rand_like(batch) - 1) * radius).clamp(0, 1)
                for _ in range(INNER):
                    moved.requires_grad_(True)
                    (slope,) = torch.autograd.grad(loss(net(moved), labels), moved)
                    moved = moved.detach() + 0.3 * radius * slope.sign()
                    moved = torch.min(torch.max(moved, batch - radius), batch + radius).clamp(0, 1)
            optimizer.zero_grad()
            loss(net(moved), labels).backward()
            optimizer.step()
    return Network.from_torch(net.double())


def given_cases(folder: Path) -> list[Case]:
    """Networks of a folder with the files of :data:`GIVEN`; those that are absent are left out."""
    if not (folder / POINTS).exists():
        return []
    with np.load(folder / POINTS) as points:
        X, y = points["X"].astype(float), points["y"].astype(int)
    cases = []
    for name, (file, norm, radius) in GIVEN.items():
        if (folder / file).exists():
            with np.load(folder / file) as weights:
                layers = [(weights[f"W{i}"], weights[f"b{i}"]) for i in range(len(weights.files) // 2)]
            cases.append(Case(name, Network(layers), X, y, threat_of(norm, radius)))
    return cases
