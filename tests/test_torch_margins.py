"""Differentiable bounds on margins: the numbers of the rigorous checks, exact gradients, no attack above them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from convexnn.activations import LeakyReLU, Polynomial
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.propagation.crown import check_crown, check_interval
from convexnn.propagation.query import Query
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.torch import margin_bounds
from tests._families import few

CHECKS = {"ibp": check_interval, "crown": check_crown}
UNITS = ["relu", LeakyReLU(0.2), "tanh", "sigmoid", Polynomial(0.1, 0.5, 0.3), Polynomial(-0.2, 0.5, 0.3), "identity"]
THREATS = [
    L2Ball(0.2),
    LInfBall(0.15),
    LInfBall(0.3, clip=(-1.0, 1.0)),
    Box([-0.3, -0.2, 0.0], [0.3, 0.4, 0.5]),
    L2Ball(0.4, clip=(-3.0, 3.0)),
]


def network_of(rng, sizes, activation="relu"):
    pairs = zip(sizes, sizes[1:], strict=False)
    return Network([(rng.standard_normal((b, a)), 0.3 * rng.standard_normal(b)) for a, b in pairs], activation)


def data(rng, k, n=3):
    X, y = np.clip(rng.standard_normal((n, 3)), -1, 1), rng.integers(0, max(k, 2), n)
    return X, y, torch.as_tensor(X), torch.as_tensor(y)


@pytest.mark.parametrize("sizes", few([(3, 5, 4, 1), (3, 6, 3), (3, 4, 5, 4, 3)]))
@pytest.mark.parametrize("activation", UNITS, ids=str)
def test_values_are_those_of_the_rigorous_checks(rng, sizes, activation):
    network = network_of(rng, sizes, activation)
    X, y, points, labels = data(rng, sizes[-1])
    for threat in THREATS:
        for method, check in CHECKS.items():
            found = margin_bounds(network.to_torch(), points, labels, threat, method=method).detach().numpy()
            proved = [check(Query.of_rivals(network, x, int(t), threat), {}) for x, t in zip(X, y, strict=True)]
            ratio = (found - proved) / (1 + np.abs(proved))
            assert ratio.min() >= -1e-10
            if not (isinstance(threat, L2Ball) and threat.clip):  # there only the better one of ball and box
                assert ratio.max() <= 1e-10


@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("activation", ["relu", "tanh", LeakyReLU(0.2)], ids=str)
def test_lipschitz_bounds_are_those_of_the_certificates(rng, norm, activation):
    network = network_of(rng, (3, 6, 3), activation)
    X, y, points, labels = data(rng, 3)
    threat = L2Ball(0.2) if norm == 2 else LInfBall(0.2)
    found = margin_bounds(network.to_torch(), points, labels, threat, method="lipsdp").detach().numpy()
    for i, label in enumerate(y):
        for j, rival in enumerate(t for t in range(3) if t != label):
            margin = network.margin(rival, int(label))
            L = lipschitz(margin, norm=norm).bound
            assert found[i, j] == pytest.approx(margin(X[i : i + 1])[0] + 0.2 * L, rel=1e-5)


@pytest.mark.parametrize("method", ["ibp", "crown", "lipsdp"])
@pytest.mark.parametrize("threat", [L2Ball(0.3), LInfBall(0.2)], ids=["l2", "linf"])
def test_no_attack_is_above_the_bounds(rng, method, threat):
    network = network_of(rng, (3, 8, 4))
    X, y, points, labels = data(rng, 4, n=5)
    found = margin_bounds(network.to_torch(torch.float32), points, labels, threat, method=method).detach().numpy()
    for _ in range(200):
        values = network(threat.sample(X, rng))
        worst = [[v[t] - v[label] for t in range(4) if t != label] for v, label in zip(values, y, strict=True)]
        assert (np.asarray(worst) <= found + 1e-4).all()


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", Polynomial(0.1, 0.5, 0.3)], ids=str)
@pytest.mark.parametrize("method", ["ibp", "crown", "lipsdp"])
def test_gradcheck(rng, activation, method):
    if method == "lipsdp" and isinstance(activation, Polynomial):
        pytest.skip("no Lipschitz constant")
    network = network_of(rng, (3, 4, 3) if method == "lipsdp" else (3, 4, 3, 2), activation)
    module, names = network.to_torch(), []
    _, _, points, labels = data(rng, network.n_outputs, n=2)
    names = [name.split(".") for name, _ in module.named_parameters()]
    exact = method == "ibp" or not (method == "lipsdp" or activation in ("tanh", "sigmoid"))
    step, atol = (1e-6, 1e-5) if exact else (1e-3, 1e-3)  # certified values and tangents are exact to 1e-8 only

    def values(*parts, threat):
        copied = copy.deepcopy(module)
        for (place, name), part in zip(names, parts, strict=True):
            copied[int(place)]._parameters[name] = part
        return margin_bounds(copied, points, labels, threat, method=method, tol=1e-9)

    parts = [part.detach().clone().requires_grad_(True) for part in module.parameters()]
    for threat in (L2Ball(0.2), LInfBall(0.2)):
        assert torch.autograd.gradcheck(
            lambda *p, threat=threat: values(*p, threat=threat), parts, eps=step, atol=atol, rtol=1e-3
        )


def test_gradients_by_the_inputs(rng):
    module = network_of(rng, (3, 5, 4, 2), "tanh").to_torch()
    _, _, points, labels = data(rng, 2)
    points.requires_grad_(True)
    for method in ("ibp", "crown"):
        assert torch.autograd.gradcheck(
            lambda X, method=method: margin_bounds(module, X, labels, L2Ball(0.2), method=method), points
        )


def test_certified_training_raises_the_certified_share(rng):
    X = rng.standard_normal((80, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    module = network_of(rng, (2, 16, 2)).to_torch(torch.float32)
    points, labels = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y)
    threat = LInfBall(0.05)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    shares = []
    for _ in range(60):
        bounds = margin_bounds(module, points, labels, threat).amax(1)
        shares.append(float((bounds < 0).float().mean()))
        optimizer.zero_grad()
        nn.functional.softplus(bounds).mean().backward()
        optimizer.step()
    assert shares[-1] > shares[0] + 0.15
    network = Network.from_torch(module)  # what is claimed in the end comes from the rigorous check
    proved = [check_crown(Query.of_rivals(network, x, int(t), threat), {}).max() < 0 for x, t in zip(X, y, strict=True)]
    assert abs(np.mean(proved) - shares[-1]) < 0.1


def test_bad_input_is_refused(rng):
    module = network_of(rng, (3, 5, 4, 2)).to_torch()
    _, _, points, labels = data(rng, 2)
    for arguments, message in [
        ((points[:, :2], labels, L2Ball(0.1)), "X must have shape"),
        ((points, labels.double(), L2Ball(0.1)), "class indices"),
        ((points, labels + 5, L2Ball(0.1)), "from 0 to 1"),
        ((points, labels, 0.1), "threat must be"),
        ((points + 9, labels, LInfBall(0.1, clip=(-1, 1))), "empty"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            margin_bounds(module, *arguments)
    with pytest.raises(InvalidInputError, match="method must be"):
        margin_bounds(module, points, labels, L2Ball(0.1), method="exact")
    with pytest.raises(UnsupportedModelError, match="one hidden layer"):
        margin_bounds(module, points, labels, L2Ball(0.1), method="lipsdp")
