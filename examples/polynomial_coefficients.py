"""
Which polynomial? The coefficients of the activation
=====================================================

Globally optimal networks with the activation ``a t^2 + b t + c`` need some ``(a, b, c)``; the papers take the fit to
ReLU on [-5, 5]. Here other choices are trained to a certified global gap on breast cancer and on digits (odd against
even), with and without an l2 ball, and judged by their test accuracy and by the exact certified accuracy of the trust
region.

Coefficients ``(t a, t b, t c)`` with weight lam are ``(a, b, c)`` with weight ``lam / t``, so equal weights compare
nothing. Every choice gets the same grid of fractions of its own ``lam_max`` and shows the best of them on a validation
part.

``python examples/polynomial_coefficients.py`` prints the tables of ``docs/results/polynomial_coefficients.md``;
``--write`` stores them.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from convexnn.quadratic import QuadraticForm
from convexnn.restrictions import PolynomialProgram
from convexnn.restrictions.polynomial_coefficients import fit_coefficients
from convexnn.solvers import solve
from convexnn.training import polynomial_lam_max

FRACTIONS = (0.1, 0.03, 0.01, 0.003)
TOL = 1e-3
PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "polynomial_coefficients.md"
MARK = "<!-- tables -->"


@dataclass(frozen=True)
class Task:
    """A split data set with labels -1 / +1, the radius of training and the radii of the certificates."""

    name: str
    X: np.ndarray
    y: np.ndarray
    radius: float
    certified_at: tuple[float, ...]
    seeds: tuple[int, ...]

    def parts(self, seed):
        """Training, validation and test rows (60 / 20 / 20), standardized on the training rows where asked."""
        rest, test = train_test_split(np.arange(len(self.y)), test_size=0.2, random_state=seed, stratify=self.y)
        train, validation = train_test_split(rest, test_size=0.25, random_state=seed, stratify=self.y[rest])
        mean, unit = self.X[train].mean(axis=0), self.X[train].std(axis=0).mean()
        if self.name == "breast cancer":
            unit = self.X[train].std(axis=0)
        return [((self.X[rows] - mean) / unit, self.y[rows]) for rows in (train, validation, test)]


def tasks():
    """Breast cancer, and digits odd against even with all pixels in one unit."""
    X, labels = load_breast_cancer(return_X_y=True)
    digits, numbers = load_digits(return_X_y=True)
    return (
        Task("breast cancer", X, 2.0 * labels - 1, 0.5, (0.25, 0.5, 1.0), tuple(range(5))),
        Task("digits, odd or even", digits, 2.0 * (numbers % 2) - 1, 0.5, (0.25, 0.5, 1.0), tuple(range(3))),
    )


def choices(X):
    """Name and coefficients."""
    return {
        "papers": (0.09, 0.5, 0.47),
        "ReLU on [-1, 1]": fit_coefficients(half_range=1.0),
        "ReLU on [-20, 20]": fit_coefficients(half_range=20.0),
        "ReLU on the data's projections": fit_coefficients(X),
        "tanh on the data's projections": fit_coefficients(X, activation="tanh"),
        "no square": (0.0, 0.5, 0.47),
        "no linear part": (0.09, 0.0, 0.47),
        "no constant": (0.09, 0.5, 0.0),
        "square only": (1.0, 0.0, 0.0),
        "concave": (-0.09, 0.5, 0.47),
    }


def accuracy(form, X, y, radius):
    """Share of samples with the right sign on the whole l2 ball, exactly."""
    values = y * form.values(X) if radius == 0 else form.worst_case(X, y, radius)[0]
    return float(np.mean(values > 0))


def trained(task, coefficients, parts, radius):
    """Best fraction of lam_max on the validation part: accuracies on the test part, and what the fit proves."""
    (X, y), validation, test = parts
    start = polynomial_lam_max(PolynomialProgram(X, y, lam=1.0, coefficients=coefficients)).upper
    best = None
    for fraction in FRACTIONS:
        program = PolynomialProgram(X, y, lam=fraction * start, radius=radius, coefficients=coefficients)
        solution = solve(program, tol=TOL)
        network = program.decode(solution.z)
        form = QuadraticForm.of_network(network)
        score = accuracy(form, *validation, radius)
        if best is None or score > best[0]:
            best = (score, fraction, program.terms(solution.z)["loss"], solution.gap, network, form)
    _, fraction, loss, gap, network, form = best
    return {
        "fraction": fraction,
        "loss": loss,
        "gap": gap,
        "units": len(network.W),
        "accuracies": [accuracy(form, *test, at) for at in (0.0, *task.certified_at)],
    }


def table(task):
    """Markdown table of one task: means over its splits."""
    heads = ["coefficients", "(a, b, c)", "radius", "lam / lam_max", "loss", "largest gap", "units", "clean"]
    heads += [f"certified {at:g}" for at in task.certified_at]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    splits = [task.parts(seed) for seed in task.seeds]
    for radius in (0.0, task.radius):
        for name in choices(splits[0][0][0]):
            runs = []
            for parts in splits:
                coefficients = choices(parts[0][0])[name]
                runs.append(trained(task, coefficients, parts, radius))
            numbers = ", ".join(f"{round(value, 6) + 0.0:.3g}" for value in choices(splits[0][0][0])[name])
            every = np.array([run["accuracies"] for run in runs])
            accuracies, spread = every.mean(axis=0), every.std(axis=0) / np.sqrt(len(runs))
            cells = [
                name,
                f"({numbers})",
                f"{radius:g}",
                f"{np.median([run['fraction'] for run in runs]):g}",
                f"{np.mean([run['loss'] for run in runs]):.3f}",
                f"{max(run['gap'] for run in runs):.0e}",
                f"{np.mean([run['units'] for run in runs]):.0f}",
                *(f"{value:.3f} ± {error:.3f}" for value, error in zip(accuracies, spread, strict=True)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main():
    """Print the tables; store them with --write."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    write = parser.parse_args().write
    blocks = []
    for task in tasks():
        began = time.process_time()
        text = table(task)
        seconds = time.process_time() - began
        blocks.append(f"## {task.name.capitalize()}\n\n{text}\n\n{seconds:.0f} s of one core, all fits together.\n")
    page = "\n".join(blocks)
    if write:
        head = PAGE.read_text(encoding="utf-8").split(MARK)[0]
        PAGE.write_text(f"{head}{MARK}\n\n{page}", encoding="utf-8")


if __name__ == "__main__":
    main()
