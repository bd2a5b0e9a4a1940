"""The picture of README.md: three things that are proved, each computed here.

    python examples/readme_picture.py docs/_static/overview.png

Left: a polynomial classifier that is optimal among networks of every width, and the largest disks in which its
predictions hold. Middle: a network of scikit-learn on digits, attacked and certified. Right: a ReLU network that is
proved to be negative on a whole ellipse.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from convexnn import L2Ball, PolynomialSNNClassifier, SafeRegionClassifier, certify, ellipsoid
from convexnn.plotting import DecisionBoundaryDisplay

BLUE, RED = "#0072B2", "#D55E00"


def optimal_classifier(ax, rng):
    """A band between two bands, robust training to a global gap."""
    half = 30
    inner = np.column_stack([rng.uniform(-1.5, 1.5, half), rng.normal(0.0, 0.12, half)])
    level = np.where(rng.random(half) < 0.6, 2.5, -1.0) + rng.normal(0.0, 0.12, half)
    outer = np.column_stack([rng.uniform(-1.5, 1.5, half), level])
    X, y = np.vstack([inner, outer]), np.repeat(["inner", "outer"], half)
    model = PolynomialSNNClassifier(0.3, lam=1e-3).fit(X, y)
    display = DecisionBoundaryDisplay.from_estimator(model, X, y, radii="certified", ax=ax)
    display.ax_.get_legend().remove()
    ax.set(xlim=(-2.4, 2.4), ylim=(-2.0, 3.4), xlabel="", ylabel="", xticks=[], yticks=[])
    ax.set_title("Trained to the global optimum", fontsize="medium")
    ax.text(0.5, -0.05, f"gap to every network: {model.solution_.gap:.0e}\ndisks: exact certified radii",
            transform=ax.transAxes, ha="center", va="top", fontsize="small")  # fmt: skip


def certified_digits(ax, _rng):
    """The share of digits that attacks break, and that is proved not to break."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = MLPClassifier((32,), alpha=1e-3, max_iter=60, tol=1e-2, random_state=0).fit(X[:1200], y[:1200])
    radii = np.linspace(0.1, 0.8, 6)
    X, y = X[1200:1260], y[1200:1260]
    reports = [certify(model, X, y, L2Ball(r), method=("crown", "sdp"), random_state=0) for r in radii]
    low = np.array([1 - report.robust_accuracy for report in reports])
    high = np.array([1 - report.certified_accuracy for report in reports])
    ax.fill_between(radii, low, high, color=BLUE, alpha=0.2, linewidth=0)
    ax.plot(radii, high, color=BLUE, marker=".", label="proved: no more than this")
    ax.plot(radii, low, "o", color=RED, markersize=9, markerfacecolor="none", label="found by attacks: at least this")
    ax.set(xlim=(0, None), ylim=(0, 1), xlabel="l2 radius of a perturbation", ylabel="error")
    ax.set_title("Somebody else's network, certified", fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)


def safe_region(ax, rng):
    """A classifier that accepts no point of an ellipse."""
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    region = ellipsoid([1.0, 0.5], turn * [2.0, 0.8])
    X = rng.uniform([-3, -3], [5, 4], (400, 2))
    y = np.where(region.contains(X), "reject", "accept")
    model = SafeRegionClassifier(region, 12, safe_class="reject", max_iter=300, random_state=0).fit(X, y)
    display = DecisionBoundaryDisplay.from_estimator(model, X, y, ax=ax)
    display.ax_.get_legend().remove()
    angles = np.linspace(0, 2 * np.pi, 200)
    ax.plot(*region.image(np.column_stack([np.cos(angles), np.sin(angles)])).T, color="black", linewidth=1.2)
    ax.set(xlabel="", ylabel="", xticks=[], yticks=[], aspect="equal")
    ax.set_title("Safe on a whole region", fontsize="medium")
    words = "no point of the ellipse is accepted:\na theorem about the stored weights"
    ax.text(0.5, -0.05, words, transform=ax.transAxes, ha="center", va="top", fontsize="small")


def main(path: str) -> None:
    """Draw the three panels."""
    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.5), layout="constrained")
    for panel, draw in zip(panels, (optimal_classifier, certified_digits, safe_region), strict=True):
        draw(panel, np.random.default_rng(0))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with io.BytesIO() as drawn:
        figure.savefig(drawn, dpi=110)
        picture = (
            Image.open(drawn).convert("RGB").quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        )
        picture.save(path, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/_static/overview.png")
