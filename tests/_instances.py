"""Small training problems for the solver tests: data, a network, and the programs around it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, LipschitzRestriction, ReluGroupLasso


def regression(seed=0, n=30, d=3, p=8):
    """X, y and a random network of p units."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    net = Network.shallow(rng.normal(size=(p, d)), rng.normal(size=p), rng.normal(size=p) / p, 0.0)
    y = np.sin(2 * X[:, 0]) + 0.3 * rng.normal(size=n)
    return X, y, net


def joint(X, y, net, lam=1e-2):
    return LipschitzProgram(X, y, extract(net, X), lam, start=net)


def fixed(X, y, net, lam=1e-2):
    return LipschitzRestriction.at(net, X, y, lam)


def group_lasso(X, y, net, lam=1e-2):
    return ReluGroupLasso(X, y, extract(net, X), lam, start=net)


def gated(X, y, net, lam=1e-2):
    return GatedGroupLasso(X, y, extract(net, X), lam, start=net)


PROGRAMS: dict[str, Callable] = {"joint": joint, "fixed": fixed, "group_lasso": group_lasso, "gated": gated}


class Unstructured(ReluGroupLasso):
    """A program that offers a structured solver nothing."""

    name = "unstructured program"

    def structure(self):
        return None


def unstructured(X, y, net, lam=1e-2):
    return Unstructured(X, y, extract(net, X), lam, start=net)


def line(slope=1.5, n=20):
    """One input of mean 0 and variance 1, targets on a line, one always active positive unit."""
    x = np.linspace(-1, 1, n)
    x /= x.std()
    patterns = ActivationPatterns(np.ones((n, 1), dtype=bool), np.array([1]))
    return x[:, None], slope * x, patterns
